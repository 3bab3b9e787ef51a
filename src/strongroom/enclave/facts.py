# SPDX-License-Identifier: Apache-2.0
"""From the checked header to what the host may know: no secret, and limits kept."""

from typing import cast

from strongroom.boundary import calls
from strongroom.enclave import kdf
from strongroom.enclave.create import RECOVERY_KEYSLOT, NewVolume
from strongroom.enclave.disk import Disk
from strongroom.enclave.inspection import Inspected
from strongroom.enclave.wording import as_shown, clipped, clipped_all
from strongroom.luks2 import Argon2, ForeignKeyslot, Header, Sealing
from strongroom.luks2.limits import STRONGROOM_TOKEN
from strongroom.tee.identity import Identity
from strongroom.units import ByteCount

_PRIORITIES = ("ignore", "normal", "prefer")


def disk_facts(inspected: Inspected, disk: Disk, notices: tuple[str, ...]) -> calls.DiskFacts:
    """Return what a loaded header says."""
    header, token = inspected.header, inspected.token
    segment = header.segment
    return calls.DiskFacts(
        uuid=header.binary.uuid,
        label=header.binary.label,
        cipher=segment.cipher,
        key_bits=(header.volume_key_bytes or 0) * 8,
        sector_size_bytes=segment.sector_size_bytes,
        data_offset_bytes=segment.offset_bytes,
        data_size_bytes=header.data_size_bytes(disk.image_size_bytes()),
        sequence_number=header.binary.seqid,
        discard_allowed="allow-discards" in header.flags,
        keyslots=tuple(keyslot(inspected, number) for number in _numbers(header)),
        notices=clipped_all((*notices, *_size_notices(header, disk))),
        authentication=inspected.state,
        enrolment=None if token is None else enrolment(token.sealing),
        epoch=0 if token is None else token.epoch,
        changes=clipped_all(inspected.findings),
        acceptable=as_shown(inspected.acceptable),
        former_uuids=inspected.former_uuids,
    )


def header_facts(inspected: Inspected, notices: tuple[str, ...]) -> calls.HeaderFacts:
    """Return what a header says that may be one that cannot be used."""
    loaded, header, token = inspected.loaded, inspected.header, inspected.token
    return calls.HeaderFacts(
        uuid=header.binary.uuid,
        keyslots=tuple(keyslot(inspected, number) for number in _numbers(header)),
        notices=clipped_all((*loaded.notices, *notices, *oddities(inspected))),
        authentication=inspected.state,
        epoch=0 if token is None else token.epoch,
        changes=clipped_all(inspected.findings),
        unsupported=clipped_all(tuple(it.message for it in loaded.refusals)),
        former_uuids=inspected.former_uuids,
    )


def oddities(inspected: Inspected) -> tuple[str, ...]:
    """Return what to say about keyslots that are never tried."""
    foreign = inspected.header.foreign_keyslots.items()
    skipped = tuple(f"keyslot {number} is not used: {it.refusal.message}" for number, it in foreign)
    return (*inspected.damaged.values(), *skipped)


def _size_notices(header: Header, disk: Disk) -> tuple[str, ...]:
    """Say so if stock tools refuse the volume for its size, which they do not round down."""
    left_over = header.segment.left_over_bytes(disk.image_size_bytes())
    if not left_over:
        return ()
    sector = header.segment.sector_size_bytes
    text = (
        f"the image ends {left_over} bytes after its last whole sector of {sector} bytes: stock "
        f"cryptsetup refuses it until it is {left_over} shorter or {sector - left_over} longer"
    )
    return (text,)


def created(made: NewVolume, disk: Disk) -> calls.Created:
    """Return what a new volume is."""
    known = disk_facts(made.inspected, disk, ())
    return calls.Created(
        uuid=known.uuid,
        cipher=known.cipher,
        key_bits=known.key_bits,
        sector_size_bytes=known.sector_size_bytes,
        data_offset_bytes=known.data_offset_bytes,
        data_size_bytes=known.data_size_bytes,
        keyslots=known.keyslots,
        recovery_keyslot=None if made.recovery_key is None else RECOVERY_KEYSLOT,
        recovery_key=made.recovery_key,
        enrolment=known.enrolment,
        epoch=known.epoch,
    )


def keyslot(inspected: Inspected, number: int) -> calls.Keyslot:
    """Return one keyslot, with the KDF that its passphrase goes through, as far as it is known."""
    header, sealed = inspected.header, inspected.sealed_slot(number)
    if number in header.foreign_keyslots:
        return _unsupported(header.foreign_keyslots[number], number)
    slot = header.keyslots[number]
    derived = inspected.kdf_of(number)
    kind = _kind(header, number)
    factors = ("passphrase",) if kind == "passphrase" else ()
    argon2 = derived if isinstance(derived, Argon2) else None
    return calls.Keyslot(
        number=number,
        kind=clipped(kind),
        priority=_PRIORITIES[slot.priority],  # type: ignore[arg-type]  # a value of the Literal
        kdf=kdf.name_of(derived),
        kdf_hash="" if isinstance(derived, Argon2) else derived.hash_name,
        kdf_iterations=derived.iterations,
        kdf_memory_kib=0 if argon2 is None else argon2.memory_kib,
        kdf_lanes=0 if argon2 is None else argon2.lanes,
        cipher=slot.area.cipher,
        key_bits=ByteCount(slot.key_bytes * 8),
        area_offset_bytes=slot.area.offset_bytes,
        area_size_bytes=slot.area.size_bytes,
        factors=cast("calls.Factors", factors if sealed is None else sealed.factors),
        problem=clipped(inspected.damaged.get(number, "")),
    )


def _unsupported(slot: ForeignKeyslot, number: int) -> calls.Keyslot:
    return calls.Keyslot(
        number=number,
        kind="unsupported" if slot.kind == "luks2" else clipped(slot.kind),
        priority=_PRIORITIES[slot.priority],  # type: ignore[arg-type]  # a value of the Literal
        kdf=clipped(slot.kdf),
        kdf_hash=clipped(slot.hash_name),
        kdf_iterations=0,
        kdf_memory_kib=0,
        kdf_lanes=0,
        cipher=clipped(slot.cipher),
        key_bits=ByteCount(slot.key_bytes * 8),
        area_offset_bytes=slot.offset_bytes,
        area_size_bytes=slot.size_bytes,
        factors=(),
        problem=clipped(slot.refusal.message),
    )


def enrolment(sealing: Sealing) -> calls.Enrolment:
    """Return what a volume is sealed to."""
    return calls.Enrolment(
        policy=sealing.policy,
        identity=calls.EnclaveIdentity(
            tee=sealing.tee,
            simulated=sealing.simulated,
            measurement=sealing.measurement,
            signer=sealing.signer,
            product_id=sealing.product_id,
            security_version=sealing.security_version,
            debug=sealing.debug,
        ),
    )


def identity(own: Identity) -> calls.EnclaveIdentity:
    """Return who this enclave is."""
    return calls.EnclaveIdentity(
        tee=own.tee,
        simulated=own.simulated,
        measurement=own.measurement,
        signer=own.signer,
        product_id=own.product_id,
        security_version=own.security_version,
        debug=own.debug,
    )


def _numbers(header: Header) -> list[int]:
    return sorted((*header.keyslots, *header.foreign_keyslots))


def _kind(header: Header, number: int) -> str:
    if header.is_unbound(number):
        return "unbound"
    for token in header.tokens.values():
        if number in token.keyslots and token.kind != STRONGROOM_TOKEN:
            return "recovery" if token.kind == "systemd-recovery" else token.kind
    return "passphrase"

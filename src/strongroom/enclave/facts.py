# SPDX-License-Identifier: Apache-2.0
"""From the checked header to what the host may know: no secret, and limits kept."""

from strongroom.boundary import calls
from strongroom.enclave import kdf
from strongroom.enclave.create import RECOVERY_KEYSLOT, NewVolume
from strongroom.enclave.disk import Disk
from strongroom.luks2 import Argon2, Header
from strongroom.units import ByteCount

_PRIORITIES = ("ignore", "normal", "prefer")
_MAX_NOTICES = 64


def disk_facts(header: Header, disk: Disk, notices: tuple[str, ...]) -> calls.DiskFacts:
    """Return what a loaded header says."""
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
        keyslots=tuple(keyslot(header, number) for number in sorted(header.keyslots)),
        notices=tuple(_clipped(notice) for notice in notices[:_MAX_NOTICES]),
    )


def created(made: NewVolume, disk: Disk) -> calls.Created:
    """Return what a new volume is."""
    header = made.header
    known = disk_facts(header, disk, ())
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
    )


def keyslot(header: Header, number: int) -> calls.Keyslot:
    """Return one keyslot of a header."""
    slot = header.keyslots[number]
    argon2 = slot.kdf if isinstance(slot.kdf, Argon2) else None
    return calls.Keyslot(
        number=number,
        kind=_clipped(_kind(header, number)),
        priority=_PRIORITIES[slot.priority],  # type: ignore[arg-type]  # a value of the Literal
        kdf=kdf.name_of(slot),  # type: ignore[arg-type]  # the same
        kdf_hash="" if isinstance(slot.kdf, Argon2) else slot.kdf.hash_name,
        kdf_iterations=slot.kdf.iterations,
        kdf_memory_kib=0 if argon2 is None else argon2.memory_kib,
        kdf_lanes=0 if argon2 is None else argon2.lanes,
        cipher=slot.area.cipher,
        key_bits=ByteCount(slot.key_bytes * 8),
        area_offset_bytes=slot.area.offset_bytes,
        area_size_bytes=slot.area.size_bytes,
    )


def _kind(header: Header, number: int) -> str:
    if header.is_unbound(number):
        return "unbound"
    for token in header.tokens.values():
        if number in token.keyslots:
            return "recovery" if token.kind == "systemd-recovery" else token.kind
    return "passphrase"


def _clipped(text: str) -> str:
    return text.encode(errors="replace")[: calls.MAX_TEXT_BYTES].decode(errors="ignore")

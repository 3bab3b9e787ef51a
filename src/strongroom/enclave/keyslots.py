# SPDX-License-Identifier: Apache-2.0
"""Keyslots: writing one, changing one, removing one. Each is an :class:`Edit`, to be committed.

New key material goes to an area that nothing refers to yet, so a kill at any point leaves one of
the two headers, each with all of its key material.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import KdfParameters
from strongroom.enclave import kdf
from strongroom.enclave.factors import Factor
from strongroom.enclave.header_keys import authentication_mark
from strongroom.enclave.inspection import Inspected
from strongroom.enclave.sealed_slots import SlotSealer
from strongroom.errors import KeyslotStateError, LastWayInError
from strongroom.luks2 import (
    AntiForensic,
    Area,
    Argon2,
    Header,
    Keyslot,
    Pbkdf2,
    SealedSlot,
    Step,
    Sync,
    WriteAt,
    allocate_area,
    free_keyslot,
    recovery_token,
    with_digest,
    with_keyslot,
    with_token,
    without_keyslot,
)
from strongroom.luks2.limits import CIPHER_KEY_BYTES
from strongroom.units import ByteCount
from strongroom.values import dataclass, replace

PartT = TypeVar("PartT")

KEYSLOT_CIPHER: Final = "aes-xts-plain64"
MAX_KEYSLOT_KEY_BYTES: Final = ByteCount(64)
STRIPES: Final = 4000
"""Anti-forensic stripes. Spec: LUKS2 3.2.3.2."""
AF_HASH: Final = "sha256"
_AREA_ALIGNMENT: Final = 4096
_UNKNOWN: Final = bytes(32)
"""Stands for the digest of a keyslot that was never whole; it is that of nothing."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A changed header that is not authenticated and not on the disk yet.

    Attributes:
        material: What will lie in the area of each of its keyslots.
        slots: What is sealed, by keyslot.
        before: What must be durable before the header is.
        kept: The digests of keyslots that are damaged. They stay what they were when the keyslot
            was whole, so that damage is never authenticated.
    """

    header: Header
    material: Mapping[int, bytes]
    slots: Mapping[int, SealedSlot]
    before: tuple[Step, ...] = ()
    kept: Mapping[int, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What a keyslot shall open with: the passphrase that LUKS2 sees, its KDF, what is sealed.

    The secret stays the caller's.
    """

    passphrase: Secret
    kdf: Pbkdf2 | Argon2
    sealed: SealedSlot | None = None


def unchanged(inspected: Inspected) -> Edit:
    """Return the edit that changes nothing: where the others start."""
    header, token = inspected.header, inspected.token
    numbers = (*header.keyslots, *header.foreign_keyslots)
    slots = {number: inspected.sealed_slot(number) for number in numbers}
    sealed = {number: slot for number, slot in slots.items() if slot is not None}
    listed = {} if token is None else token.header
    kept = {number: listed.get(f"keyslots/{number}", _UNKNOWN) for number in inspected.damaged}
    return Edit(header, inspected.material, sealed, kept=kept)


def sealed_secret(
    sealer: SlotSealer,
    passphrase: Secret,
    wanted: KdfParameters,
    *,
    keyslot: int,
    factors: tuple[Factor, ...],
) -> NewSecret:
    """Return what a keyslot with these factors opens with, where one of them is the enclave.

    Raises:
        LimitError: A cost is outside its limits.
    """
    combined, sealed = sealer.seal_new(keyslot, factors, passphrase, kdf.choose(wanted))
    return NewSecret(combined, kdf.minimal(), sealed)


def plain_secret(passphrase: Secret, wanted: KdfParameters) -> NewSecret:
    """Return what a keyslot opens with that needs nothing but a passphrase."""
    return NewSecret(passphrase, kdf.choose(wanted))


def recovery_secret(recovery_key: Secret) -> NewSecret:
    """Return what a keyslot opens with that is for a recovery key."""
    return NewSecret(recovery_key, kdf.minimal())


def with_secret(edit: Edit, number: int, secret: NewSecret, volume_key: Secret) -> Edit:
    """Return the edit with a keyslot more, or one whose key material is replaced.

    Of a damaged keyslot nothing stays, what other programs may have noted in it included.

    Raises:
        KeyslotStateError: The keyslots area has no room.
        UnknownTokenError: A token of unknown type uses the keyslot that is replaced.
    """
    keyslot, area = make_keyslot(edit.header, secret.passphrase, volume_key, secret.kdf)
    header = without_keyslot(edit.header, number) if number in edit.kept else edit.header
    changed = with_keyslot(
        header,
        number,
        keyslot,
        digest=header.segment_digest_number,
        replacing=number in header.keyslots,
    )
    slots = _but(edit.slots, number)
    if secret.sealed is not None:
        slots[number] = secret.sealed
    written = WriteAt(keyslot.area.offset_bytes, area)
    return Edit(
        changed,
        {**edit.material, number: area},
        slots,
        before=(*edit.before, written, Sync()),
        kept=_but(edit.kept, number),
    )


def with_recovery_mark(edit: Edit, number: int) -> Edit:
    """Return the edit with the token that names a keyslot as one for a recovery key.

    Raises:
        KeyslotStateError: There is no room for another token.
    """
    return replace(edit, header=with_token(edit.header, recovery_token(number)))


def with_marked_digest(edit: Edit, volume_key: Secret) -> Edit:
    """Return the edit with the mark of an authenticated volume in the digest of its key."""
    header = edit.header
    number = header.segment_digest_number
    digest, salt = header.digests[number], authentication_mark(volume_key)
    value = _core.volume_key_digest(
        volume_key,
        salt,
        hash_name=digest.hash_name,
        iterations=digest.iterations,
        length_bytes=len(digest.digest),
    )
    marked = replace(digest, salt=salt, digest=value)
    return replace(edit, header=with_digest(header, number, marked))


def is_for_recovery(header: Header, number: int) -> bool:
    """Tell whether a keyslot is marked as one for a recovery key."""
    return any(
        token.kind == "systemd-recovery" and number in token.keyslots
        for token in header.tokens.values()
    )


def without(edit: Edit, number: int) -> Edit:
    """Return the edit without a keyslot; its material stays until it is scrubbed.

    Raises:
        UnknownTokenError: A token of unknown type uses it.
    """
    return replace(
        edit,
        header=without_keyslot(edit.header, number),
        material=_but(edit.material, number),
        slots=_but(edit.slots, number),
        kept=_but(edit.kept, number),
    )


def _but(parts: Mapping[int, PartT], number: int) -> dict[int, PartT]:
    return {key: part for key, part in parts.items() if key != number}


def make_keyslot(
    header: Header, passphrase: Secret, volume_key: Secret, chosen: Pbkdf2 | Argon2
) -> tuple[Keyslot, bytes]:
    """Return a keyslot in a free area, and the bytes of that area. Nothing is written yet.

    Raises:
        KeyslotStateError: The keyslots area has no room.
    """
    key_bytes = _area_key_bytes(volume_key)
    slot_key = kdf.derive(chosen, passphrase, key_bytes)
    try:
        area = _core.keyslot_seal(
            volume_key, slot_key, cipher=KEYSLOT_CIPHER, stripes=STRIPES, hash_name=AF_HASH
        )
    finally:
        slot_key.erase()
    size = ByteCount(-(-len(area) // _AREA_ALIGNMENT) * _AREA_ALIGNMENT)
    keyslot = Keyslot(
        key_bytes=ByteCount(volume_key.length_bytes),
        kdf=chosen,
        area=Area(
            offset_bytes=allocate_area(header, size),
            size_bytes=size,
            cipher=KEYSLOT_CIPHER,
            key_bytes=key_bytes,
        ),
        af=AntiForensic(stripes=STRIPES, hash_name=AF_HASH),
    )
    return keyslot, area


def _area_key_bytes(volume_key: Secret) -> ByteCount:
    """Return how long the key of a new area is: as the volume key where the cipher allows.

    So does cryptsetup, and readers that expect nothing else, such as dissect.fve, depend on it.
    """
    length = ByteCount(volume_key.length_bytes)
    allowed = length in CIPHER_KEY_BYTES[KEYSLOT_CIPHER]
    return length if allowed else MAX_KEYSLOT_KEY_BYTES


def free_number(header: Header, wanted: int | None) -> int:
    """Return the number of a new keyslot: the wanted one, or the first that is free.

    Raises:
        KeyslotStateError: It is taken, or all are.
    """
    if wanted is not None and (wanted in header.keyslots or wanted in header.foreign_keyslots):
        raise KeyslotStateError(
            f"keyslot {wanted} is in use", hint="remove it first, or leave the number out"
        )
    return free_keyslot(header) if wanted is None else wanted


def check_removable(header: Header, number: int) -> None:
    """Refuse, before any passphrase is tried, what must not be removed.

    Raises:
        KeyslotStateError: There is no such keyslot.
        LastWayInError: It is the only one that can be used.
        UnknownTokenError: A token of unknown type uses it.
        UnsupportedRequirementError: It is not supported.
    """
    if number not in header.keyslots and number not in header.foreign_keyslots:
        raise KeyslotStateError(
            f"there is no keyslot {number}", hint="see `strongroom slot list IMAGE`"
        )
    if [*header.keyslots] == [number]:
        raise LastWayInError(
            f"keyslot {number} is the last way into this volume", hint="add another one first"
        )
    without_keyslot(header, number)

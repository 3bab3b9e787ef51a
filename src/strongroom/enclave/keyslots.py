# SPDX-License-Identifier: Apache-2.0
"""Keyslots: opening one, writing one, and the header commits around that.

Every change writes the new key material to an area that nothing refers to yet, makes it durable,
commits the header, and only then wipes what the header no longer refers to. A kill at any point
leaves one of the two headers, each with all of its key material.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import KdfParameters
from strongroom.enclave import kdf
from strongroom.enclave.disk import Disk
from strongroom.errors import KeyslotStateError, LastWayInError, WrongPassphraseError
from strongroom.luks2 import (
    AntiForensic,
    Area,
    Argon2,
    Header,
    Keyslot,
    Pbkdf2,
    Step,
    Sync,
    WriteAt,
    allocate_area,
    commit_steps,
    free_keyslot,
    recovery_token,
    unreferenced_areas,
    with_keyslot,
    with_token,
    without_keyslot,
    without_token,
)
from strongroom.luks2.limits import CIPHER_KEY_BYTES
from strongroom.units import KIB, ByteCount, ByteOffset

KEYSLOT_CIPHER: Final = "aes-xts-plain64"
MAX_KEYSLOT_KEY_BYTES: Final = ByteCount(64)
STRIPES: Final = 4000
"""Anti-forensic stripes. Spec: LUKS2 3.2.3.2."""
AF_HASH: Final = "sha256"
_AREA_ALIGNMENT: Final = 4096
_SCRUB_BYTES: Final = 64 * KIB

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A keyslot that opened, and the volume key, verified against its digest."""

    number: int
    volume_key: Secret


def open_keyslot(
    header: Header,
    disk: Disk,
    passphrase: Secret,
    *,
    progress: Progress,
    only: int | None = None,
    apart_from: int | None = None,
) -> Opened:
    """Try keyslots in their order of preference until one opens.

    Args:
        header: The checked private copy.
        disk: Where the keyslot areas are read from, each once.
        passphrase: What to try; it stays the caller's.
        progress: Told before each derivation, which may take seconds.
        only: Try this keyslot alone, also when its priority is ``ignore``.
        apart_from: Do not try this one.

    Raises:
        WrongPassphraseError: No keyslot opens.
        KeyslotStateError: ``only`` does not exist.
    """
    candidates = [n for n in _in_order(header, only) if n != apart_from]
    for position, number in enumerate(candidates):
        keyslot = header.keyslots[number]
        progress(f"keyslot {number} {kdf.name_of(keyslot)}", position, len(candidates))
        volume_key = _try_keyslot(header, disk, number, passphrase)
        if volume_key is not None:
            progress(f"keyslot {number} {kdf.name_of(keyslot)}", len(candidates), len(candidates))
            return Opened(number, volume_key)
    raise WrongPassphraseError(
        "no keyslot opens with this passphrase",
        hint="check the keyboard layout; a recovery key opens the volume too",
    )


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


def area_steps(keyslot: Keyslot, area: bytes) -> tuple[Step, ...]:
    """Return the steps that make a keyslot's key material durable."""
    return (WriteAt(keyslot.area.offset_bytes, area), Sync())


def add(
    header: Header,
    disk: Disk,
    opened: Opened,
    passphrase: Secret,
    *,
    wanted: KdfParameters,
    number: int | None,
) -> tuple[Header, int]:
    """Add a keyslot and commit it. Returns the new header and the keyslot's number.

    Raises:
        KeyslotStateError: The number is taken, or there is no free keyslot or area.
    """
    chosen_number = _checked_number(header, number)
    keyslot, area = make_keyslot(header, passphrase, opened.volume_key, kdf.choose(wanted))
    changed = with_keyslot(header, chosen_number, keyslot, digest=header.segment_digest_number)
    disk.apply(area_steps(keyslot, area) + commit_steps(changed))
    return changed, chosen_number


def add_recovery(
    header: Header, disk: Disk, opened: Opened, recovery_key: Secret, *, number: int | None
) -> tuple[Header, int]:
    """Add a keyslot for a recovery key, with the token that names it as one, and commit.

    Raises:
        KeyslotStateError: As :func:`add`, or there is no room for another token.
    """
    chosen_number = _checked_number(header, number)
    keyslot, area = make_keyslot(header, recovery_key, opened.volume_key, kdf.minimal())
    changed = with_keyslot(header, chosen_number, keyslot, digest=header.segment_digest_number)
    changed = with_token(changed, recovery_token(chosen_number))
    disk.apply(area_steps(keyslot, area) + commit_steps(changed))
    return changed, chosen_number


def change(
    header: Header, disk: Disk, opened: Opened, passphrase: Secret, *, wanted: KdfParameters
) -> Header:
    """Replace the passphrase of the opened keyslot, keeping its number, and commit.

    The new key material goes to another area; the old one is wiped once nothing refers to it.

    Raises:
        KeyslotStateError: The keyslots area has no room for a second copy.
        UnknownTokenError: A token of unknown type uses the keyslot.
    """
    keyslot, area = make_keyslot(header, passphrase, opened.volume_key, kdf.choose(wanted))
    changed = with_keyslot(
        header, opened.number, keyslot, digest=header.segment_digest_number, replacing=True
    )
    for number, token in header.tokens.items():
        # What opened with a recovery key opens with a passphrase from now on.
        if token.kind == "systemd-recovery" and token.keyslots == (opened.number,):
            changed = without_token(changed, number)
    disk.apply(area_steps(keyslot, area) + commit_steps(changed))
    scrub(changed, disk)
    return changed


def check_removable(header: Header, number: int) -> None:
    """Refuse, before any passphrase is tried, what must not be removed.

    Raises:
        KeyslotStateError: There is no such keyslot.
        LastWayInError: It is the only one.
        UnknownTokenError: A token of unknown type uses it.
    """
    if number not in header.keyslots:
        raise KeyslotStateError(f"there is no keyslot {number}", hint="see `strongroom slot list`")
    if len(header.keyslots) == 1:
        raise LastWayInError(
            f"keyslot {number} is the last way into this volume", hint="add another one first"
        )
    without_keyslot(header, number)


def remove(header: Header, disk: Disk, number: int) -> Header:
    """Remove a keyslot and commit; the caller has proven that another one opens.

    Raises:
        UnknownTokenError: A token of unknown type uses it.
    """
    changed = without_keyslot(header, number)
    disk.apply(commit_steps(changed))
    scrub(changed, disk)
    return changed


def scrub(header: Header, disk: Disk) -> None:
    """Overwrite what lies in the keyslots area and belongs to no keyslot.

    This wipes the material of removed keyslots, also that of a removal which was cut short before.
    """
    steps: list[Step] = []
    for offset, size in unreferenced_areas(header):
        found = disk.read_header_area(ByteOffset(offset), ByteCount(size))
        for start in range(0, len(found), _SCRUB_BYTES):
            piece = found[start : start + _SCRUB_BYTES]
            if piece.strip(b"\0"):
                steps.append(WriteAt(ByteOffset(offset + start), bytes(len(piece))))
    if steps:
        disk.apply((*steps, Sync()))


def _checked_number(header: Header, number: int | None) -> int:
    if number is not None and number in header.keyslots:
        raise KeyslotStateError(
            f"keyslot {number} is in use", hint="remove it first, or leave the number out"
        )
    return free_keyslot(header) if number is None else number


def _in_order(header: Header, only: int | None) -> list[int]:
    if only is not None:
        if only not in header.keyslots:
            raise KeyslotStateError(
                f"there is no keyslot {only}", hint="see `strongroom slot list`"
            )
        return [only]
    return list(header.unlock_order())


def _try_keyslot(header: Header, disk: Disk, number: int, passphrase: Secret) -> Secret | None:
    keyslot = header.keyslots[number]
    area = disk.read_header_area(keyslot.area.offset_bytes, keyslot.area.size_bytes)
    slot_key = kdf.derive(keyslot.kdf, passphrase, ByteCount(keyslot.area.key_bytes))
    try:
        volume_key = _core.keyslot_open(
            area,
            slot_key,
            cipher=keyslot.area.cipher,
            volume_key_bytes=keyslot.key_bytes,
            stripes=keyslot.af.stripes,
            hash_name=keyslot.af.hash_name,
        )
    finally:
        slot_key.erase()
    digest = header.digest_of(number)
    # HMAC pads short keys with zeros, so the digest alone does not fix the key's length.
    if volume_key.length_bytes == keyslot.key_bytes and _core.volume_key_matches(
        volume_key,
        digest.digest,
        digest.salt,
        hash_name=digest.hash_name,
        iterations=digest.iterations,
    ):
        return volume_key
    volume_key.erase()
    return None

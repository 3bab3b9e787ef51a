# SPDX-License-Identifier: Apache-2.0
"""A new volume: keys made here, a header written so that a kill leaves no half volume.

Order: wherever an old header may start is blanked and synced, then the whole header area; then the
keyslot areas are written, then the secondary header, then the primary. Until the secondary is
durable, the target is no LUKS volume at all.
"""

import os
import uuid
from dataclasses import dataclass
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import CreateVolume, SealedReply
from strongroom.enclave import kdf
from strongroom.enclave.disk import Disk
from strongroom.enclave.keyslots import Progress, area_steps, make_keyslot
from strongroom.enclave.recipients import seal_recovery_key
from strongroom.errors import NoSpaceError
from strongroom.luks2 import (
    Argon2,
    Digest,
    Header,
    Pbkdf2,
    Sync,
    WriteAt,
    commit_steps,
    new_header,
    recovery_token,
    with_keyslot,
    with_token,
)
from strongroom.luks2.limits import (
    BINARY_HEADER_BYTES,
    DEFAULT_DATA_OFFSET_BYTES,
    HEADER_SIZES,
)
from strongroom.units import MIB, ByteOffset

SEGMENT_CIPHER: Final = "aes-xts-plain64"
DIGEST_HASH: Final = "sha256"
DIGEST_ITERATIONS: Final = 1000
"""The volume key has 256 random bits or more: iterations add nothing, and every open pays them."""

RECOVERY_KEYSLOT: Final = 1

_SALT_BYTES: Final = 32
_BINARY_SALT_BYTES: Final = 64
_WIPE_CHUNK_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What was written, and the recovery key of :data:`RECOVERY_KEYSLOT` if one was asked for."""

    header: Header
    recovery_key: SealedReply | None


def create(request: CreateVolume, disk: Disk, passphrase: Secret, progress: Progress) -> NewVolume:
    """Make a volume key, its keyslots and the header, and write them.

    Raises:
        NoSpaceError: The target is too small for a header and one sector, or the disk is full.
        DiskError: Writing failed. The target is then not a LUKS volume.
        FormatError: The recovery key cannot be sealed to the client's key. Nothing was written.
    """
    _check_room(request, disk)
    volume_key = Secret.random(request.key_bits // 8)
    try:
        header = _blank_header(request, volume_key)
        progress("deriving the passphrase's key", 0, 0)
        chosen = kdf.choose(request.kdf)
        header, areas = _with_slot(header, 0, passphrase, volume_key, chosen=chosen)
        sealed = None
        if request.recovery_key_to is not None:
            header, more, sealed = _with_recovery(header, volume_key, request.recovery_key_to)
            areas += more
    finally:
        volume_key.erase()
    _blank(disk, header, progress)
    disk.apply(areas)
    disk.apply(commit_steps(header))
    return NewVolume(header, sealed)


def _check_room(request: CreateVolume, disk: Disk) -> None:
    offset = 0 if disk.detached else DEFAULT_DATA_OFFSET_BYTES
    if disk.image_size_bytes() < offset + request.sector_size_bytes:
        raise NoSpaceError(
            f"the target has {disk.image_size_bytes()} bytes, and a volume needs at least "
            f"{offset + request.sector_size_bytes}",
            hint="give it a larger --size",
        )
    if disk.detached and disk.header_size_bytes() < DEFAULT_DATA_OFFSET_BYTES:
        raise NoSpaceError(
            f"the header file has {disk.header_size_bytes()} bytes, "
            f"and needs {DEFAULT_DATA_OFFSET_BYTES}"
        )


def _blank_header(request: CreateVolume, volume_key: Secret) -> Header:
    salt = os.urandom(_SALT_BYTES)
    value = _core.volume_key_digest(
        volume_key,
        salt,
        hash_name=DIGEST_HASH,
        iterations=DIGEST_ITERATIONS,
        length_bytes=32,
    )
    return new_header(
        uuid=str(uuid.uuid4()),
        salt=os.urandom(_BINARY_SALT_BYTES),
        secondary_salt=os.urandom(_BINARY_SALT_BYTES),
        digest=Digest(
            hash_name=DIGEST_HASH,
            iterations=DIGEST_ITERATIONS,
            salt=salt,
            digest=value,
        ),
        sector_size_bytes=request.sector_size_bytes,
        volume_key_bytes=volume_key.length_bytes,
        label=request.label,
        cipher=SEGMENT_CIPHER,
        detached=request.header is not None,
    )


def _with_slot(
    header: Header,
    number: int,
    passphrase: Secret,
    volume_key: Secret,
    *,
    chosen: Pbkdf2 | Argon2,
) -> tuple[Header, tuple[WriteAt | Sync, ...]]:
    keyslot, area = make_keyslot(header, passphrase, volume_key, chosen)
    return with_keyslot(header, number, keyslot, digest=0), area_steps(keyslot, area)


def _with_recovery(
    header: Header, volume_key: Secret, client_public_key: bytes
) -> tuple[Header, tuple[WriteAt | Sync, ...], SealedReply]:
    recovery_key = Secret.random_recovery_key()
    try:
        # Sealed before anything is written: a key that the client cannot have makes no volume.
        sealed = seal_recovery_key(recovery_key, client_public_key)
        header, areas = _with_slot(
            header, RECOVERY_KEYSLOT, recovery_key, volume_key, chosen=kdf.minimal()
        )
    finally:
        recovery_key.erase()
    return with_token(header, recovery_token(RECOVERY_KEYSLOT)), areas, sealed


def _blank(disk: Disk, header: Header, progress: Progress) -> None:
    # Wherever an old header may start, first: a power cut must not leave one whose keyslots are
    # blank already.
    starts = (0, *HEADER_SIZES)
    disk.apply(tuple(WriteAt(ByteOffset(at), bytes(BINARY_HEADER_BYTES)) for at in starts))
    disk.apply((Sync(),))
    total = header.total_bytes
    for offset in range(0, total, _WIPE_CHUNK_BYTES):
        progress("writing the header area", offset, total)
        size = min(_WIPE_CHUNK_BYTES, total - offset)
        disk.apply((WriteAt(ByteOffset(offset), bytes(size)),))
    disk.apply((Sync(),))
    progress("writing the header area", total, total)

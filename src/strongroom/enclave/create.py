# SPDX-License-Identifier: Apache-2.0
"""A new volume: keys made here, a header written so that a kill leaves no half volume.

Order: wherever an old header may start is blanked and synced, then the whole header area; then the
keyslot areas are written, then the secondary header, then the primary. Until the secondary is
durable, the target is no LUKS volume at all.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom import _core, values
from strongroom._core import Secret
from strongroom.boundary.calls import CreateVolume, SealedReply
from strongroom.enclave.authentication import authenticated
from strongroom.enclave.disk import Disk
from strongroom.enclave.factors import in_order, with_passphrase
from strongroom.enclave.header_keys import authentication_mark, volume_header_key
from strongroom.enclave.inspection import Inspected, inspect
from strongroom.enclave.keyslots import (
    Edit,
    NewSecret,
    plain_secret,
    recovery_secret,
    sealed_secret,
    with_recovery_mark,
    with_secret,
)
from strongroom.enclave.opening import Progress
from strongroom.enclave.recipients import seal_recovery_key
from strongroom.enclave.sealed_slots import SlotSealer, seal_key_for, sealing_of
from strongroom.errors import NoSpaceError, UsageError
from strongroom.luks2 import (
    Digest,
    Header,
    HeaderCopy,
    LoadedHeader,
    StrongroomToken,
    Sync,
    WriteAt,
    commit_steps,
    copy_salt,
    free_token,
    largest_sector_size,
    new_header,
)
from strongroom.luks2.limits import (
    BINARY_HEADER_BYTES,
    DEFAULT_DATA_OFFSET_BYTES,
    HEADER_SIZES,
    SECTOR_BYTES,
)
from strongroom.tee.provider import Tee
from strongroom.units import MIB, ByteCount, ByteOffset
from strongroom.uuids import new_uuid
from strongroom.values import dataclass

SEGMENT_CIPHER: Final = "aes-xts-plain64"
DIGEST_HASH: Final = "sha256"
DIGEST_ITERATIONS: Final = 1000
"""The volume key has 256 random bits or more: iterations add nothing, and every open pays them."""

PASSPHRASE_KEYSLOT: Final = 0
RECOVERY_KEYSLOT: Final = 1
FIRST_EPOCH: Final = 1

_SALT_BYTES: Final = 32
_BINARY_SALT_BYTES: Final = 64
_WIPE_CHUNK_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What was written, and the recovery key of :data:`RECOVERY_KEYSLOT` if one was asked for."""

    inspected: Inspected
    recovery_key: SealedReply | None


def create(
    request: CreateVolume, disk: Disk, passphrase: Secret, *, tee: Tee, progress: Progress
) -> NewVolume:
    """Make a volume key, its keyslots and the header, and write them.

    With the factor ``enclave`` the volume is sealed to this enclave, and its header authenticated.

    Raises:
        NoSpaceError: The target is too small for a header and one sector, or the disk is full.
        UsageError: The data area is no multiple of the sector size that was asked for.
        DiskError: Writing failed. The target is then not a LUKS volume.
        FormatError: The recovery key cannot be sealed to the client's key. Nothing was written.
    """
    with_passphrase(request.factors)
    sector_size = _sector_size(request, disk)
    volume_key = Secret.random(request.key_bits // 8)
    volume_uuid = new_uuid()
    header_key = volume_header_key(volume_key, volume_uuid)
    try:
        blank = _blank_header(
            request, disk, uuid=volume_uuid, volume_key=volume_key, sector_size=sector_size
        )
        progress("deriving the passphrase's key", 0, 0)
        sealed = None
        with _sealer(request, volume_uuid, tee) as sealer:
            secret = _passphrase_secret(request, passphrase, sealer)
            edit = with_secret(Edit(blank, {}, {}), PASSPHRASE_KEYSLOT, secret, volume_key)
            if request.recovery_key_to is not None:
                edit, sealed = _with_recovery(edit, volume_key, request.recovery_key_to)
            if sealer is not None:
                secret.passphrase.erase()
                edit = _authenticated(edit, sealer, header_key)
    finally:
        volume_key.erase()
        header_key.erase()
    _blank(disk, edit.header, progress)
    disk.apply((*edit.before, *commit_steps(edit.header)))
    written = LoadedHeader(edit.header, HeaderCopy.PRIMARY, (), (), canonical=True)
    return NewVolume(inspect(written, edit.material, tee), sealed)


def _sector_size(request: CreateVolume, disk: Disk) -> int:
    """Return the sector size: what was asked for, or the largest that fits."""
    offset = 0 if disk.detached else DEFAULT_DATA_OFFSET_BYTES
    asked = request.sector_size_bytes
    needed = offset + (asked or SECTOR_BYTES)
    size = disk.image_size_bytes()
    if size < needed:
        # Only the host knows what the target is, and how it gets larger.
        raise NoSpaceError(f"the target has {size} bytes, and a volume needs at least {needed}")
    _check_header_room(disk)
    data = ByteCount(size - offset)
    fitting = largest_sector_size(data)
    if asked is not None and asked > fitting:
        raise UsageError(
            f"the data area of {data} bytes is no multiple of sectors of {asked} bytes, "
            "which stock tools refuse to open",
            hint=f"leave out --sector-size, which gives {fitting}, or change the target's size",
        )
    return asked or fitting


def _check_header_room(disk: Disk) -> None:
    if disk.detached and disk.header_size_bytes() < DEFAULT_DATA_OFFSET_BYTES:
        raise NoSpaceError(
            f"the header file has {disk.header_size_bytes()} bytes, "
            f"and needs {DEFAULT_DATA_OFFSET_BYTES}"
        )


def _blank_header(
    request: CreateVolume, disk: Disk, *, uuid: str, volume_key: Secret, sector_size: int
) -> Header:
    is_authenticated = "enclave" in request.factors
    salt = authentication_mark(volume_key) if is_authenticated else os.urandom(_SALT_BYTES)
    value = _core.volume_key_digest(
        volume_key,
        salt,
        hash_name=DIGEST_HASH,
        iterations=DIGEST_ITERATIONS,
        length_bytes=32,
    )
    salts = [os.urandom(_BINARY_SALT_BYTES) for _ in HeaderCopy]
    if is_authenticated:
        salts = [copy_salt(uuid, copy) for copy in HeaderCopy]
    return new_header(
        uuid=uuid,
        salt=salts[0],
        secondary_salt=salts[1],
        digest=Digest(
            hash_name=DIGEST_HASH,
            iterations=DIGEST_ITERATIONS,
            salt=salt,
            digest=value,
        ),
        sector_size_bytes=sector_size,
        volume_key_bytes=volume_key.length_bytes,
        label=request.label,
        cipher=SEGMENT_CIPHER,
        detached=disk.detached,
    )


@contextmanager
def _sealer(request: CreateVolume, volume_uuid: str, tee: Tee) -> Iterator[SlotSealer | None]:
    """Lend what seals keyslots to this enclave, where the enclave is a factor."""
    if "enclave" not in request.factors:
        yield None
        return
    sealing = sealing_of(tee, request.seal_policy, volume_uuid)
    seal_key = seal_key_for(tee, sealing, volume_uuid)
    try:
        yield SlotSealer(seal_key, sealing, volume_uuid)
    finally:
        seal_key.erase()


def _passphrase_secret(
    request: CreateVolume, passphrase: Secret, sealer: SlotSealer | None
) -> NewSecret:
    if sealer is None:
        return plain_secret(passphrase, request.kdf)
    return sealed_secret(
        sealer,
        passphrase,
        request.kdf,
        keyslot=PASSPHRASE_KEYSLOT,
        factors=in_order(request.factors),
    )


def _authenticated(edit: Edit, sealer: SlotSealer, header_key: Secret) -> Edit:
    token = StrongroomToken(
        number=free_token(edit.header),
        keyslots=(),
        epoch=FIRST_EPOCH,
        sealing=sealer.sealing,
        slots=edit.slots,
    )
    header = authenticated(
        edit.header,
        edit.material,
        token,
        seal_key=sealer.seal_key,
        header_key=header_key,
        kept=edit.kept,
    )
    return values.replace(edit, header=header)


def _with_recovery(
    edit: Edit, volume_key: Secret, client_public_key: bytes
) -> tuple[Edit, SealedReply]:
    recovery_key = Secret.random_recovery_key()
    try:
        # Sealed before anything is written: a key that the client cannot have makes no volume.
        sealed = seal_recovery_key(recovery_key, client_public_key)
        secret = recovery_secret(recovery_key)
        edit = with_secret(edit, RECOVERY_KEYSLOT, secret, volume_key)
    finally:
        recovery_key.erase()
    return with_recovery_mark(edit, RECOVERY_KEYSLOT), sealed


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

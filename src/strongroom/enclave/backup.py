# SPDX-License-Identifier: Apache-2.0
"""Header backups, in the format of ``cryptsetup luksHeaderBackup``: the raw header area.

A restored backup brings its old passphrases back. That cannot be prevented by a passphrase alone;
an older backup is refused unless the operator insists.
"""

from typing import Final

from strongroom.boundary.calls import BackupFacts, BackupWritten, KnownHeader
from strongroom.enclave.commit import write_copies, write_first
from strongroom.enclave.disk import Disk, read_at, sync, write_at
from strongroom.enclave.inspection import Inspected, inspect, tampered
from strongroom.enclave.wording import clipped_all
from strongroom.errors import (
    FormatError,
    HeaderBrokenError,
    HeaderTamperedError,
    NotLuksError,
    RollbackError,
    SealedBlobError,
)
from strongroom.luks2 import (
    HEADER_COPY_BYTES,
    Backup,
    Header,
    LoadedHeader,
    backup_size_bytes,
    check_backup,
    load_header,
    restore_steps,
    strongroom_token,
)
from strongroom.luks2.limits import MAX_BACKUP_SLACK_BYTES, MAX_KEYSLOTS_BYTES
from strongroom.tee.provider import Tee
from strongroom.units import ByteCount, ByteOffset

_UNFINISHED: Final = (
    "the old header is still in place, over keyslots of which some may be the backup's by now; "
    "run the restore again"
)
_OLDER_HINT: Final = (
    "an older header brings back keyslots that were removed since; --force restores it all the same"
)
_OTHER_KEY_HINT: Final = (
    "save the header in place with `strongroom header backup IMAGE FILE`; --force restores the "
    "backup all the same"
)
_BARE_HINT: Final = "it is from before the volume was sealed, or was made by somebody else"
_MOST_BYTES: Final = ByteCount(HEADER_COPY_BYTES + MAX_KEYSLOTS_BYTES + MAX_BACKUP_SLACK_BYTES)


def write_backup(inspected: Inspected, disk: Disk, output: int) -> BackupWritten:
    """Copy the header area to an empty file and make it durable.

    Also that of a header which cannot be used. What cannot be read is zeros in the copy.

    Raises:
        NoSpaceError: The output is full.
        DiskError: Reading or writing failed.
    """
    size = backup_size_bytes(inspected.header)
    data = disk.read_header_area(ByteOffset(0), size)
    write_at(output, ByteOffset(0), data)
    sync(output)
    return _written(inspected, len(data), unreadable(disk))


def read_backup(backup: int, tee: Tee) -> BackupFacts:
    """Return of which volume a backup says that it is.

    Raises:
        FormatError: It is not a whole, valid header.
    """
    checked = check_backup(None, _read(backup))
    inspected = inspect(checked.loaded, _material(checked), tee)
    return BackupFacts(inspected.uuid, inspected.former_uuids)


def restore_backup(
    disk: Disk, backup: int, tee: Tee, *, known: KnownHeader | None, force: bool
) -> BackupWritten:
    """Check a backup and write it over the header.

    The keyslot areas are written before the header that refers to them. A kill in between can leave
    a header whose keyslots do not open; running the restore again completes it.

    Raises:
        RollbackError: The backup is older than the header or than what is known, of another volume,
            of another volume key, or lacks the authentication that either has, without ``force``.
        HeaderTamperedError: The backup was tampered with, also with ``force``; or it has a damaged
            keyslot, without.
        FormatError: The backup is not a whole, valid header.
    """
    data = _read(backup)
    present = None if force else _present_header(disk)
    # What a header that was tampered with says of its age is the word of whoever did it.
    current = None if present is None or _is_tampered(present, disk, tee) else present.header
    checked = check_backup(current, data, detached=disk.detached)
    if present is not None:
        if current is None:
            _check_same_volume(present.header, checked)
        _check_same_key(present.header, checked.loaded.header)
    inspected = inspect(checked.loaded, _material(checked), tee)
    if inspected.state == "tampered":
        raise tampered(inspected.findings)
    if inspected.damaged and not force:
        raise HeaderTamperedError(
            f"in the backup {'; '.join(inspected.damaged.values())}",
            hint="--force restores it all the same, for the other keyslots",
        )
    if known is not None and not force:
        _check_known(known, inspected)
    if current is not None:
        _check_epoch(current, inspected)
    if not disk.detached:
        inspected.header.data_size_bytes(disk.image_size_bytes())
    area, first_sync, *_ = restore_steps(checked)
    write_first((area, first_sync), disk, _UNFINISHED)
    _, notices = write_copies(inspected.header, disk, _UNFINISHED)
    return _written(inspected, len(data), notices)


def _read(backup: int) -> bytes:
    return read_at(backup, ByteOffset(0), ByteCount(_MOST_BYTES + 1))


def unreadable(disk: Disk) -> tuple[str, ...]:
    """Return what to say about parts of the header that cannot be read."""
    return tuple(
        f"{size} bytes at {offset} of the header cannot be read" for offset, size in disk.unreadable
    )


def _written(inspected: Inspected, size_bytes: int, notices: tuple[str, ...]) -> BackupWritten:
    binary = inspected.header.binary
    return BackupWritten(
        binary.uuid, binary.seqid, size_bytes, _epoch(inspected), clipped_all(notices)
    )


def _epoch(inspected: Inspected) -> int:
    return 0 if inspected.token is None else inspected.token.epoch


def _material(checked: Backup) -> dict[int, bytes]:
    header = checked.loaded.header
    start = header.keyslots_offset_bytes
    return {
        number: checked.keyslots_area[slot.area.offset_bytes - start :][: slot.area.size_bytes]
        for number, slot in header.keyslots.items()
    }


def _check_known(known: KnownHeader, inspected: Inspected) -> None:
    # Also keeps the host to the file that it asked about before.
    if inspected.uuid.lower() != known.volume.lower():
        raise RollbackError(
            f"the backup is of the volume {inspected.uuid}, and {known.volume} was expected"
        )
    if known.authenticated and inspected.token is None:
        raise RollbackError(
            "the backup has no authentication, and the volume had when it was last seen",
            hint=_BARE_HINT,
        )
    if _epoch(inspected) < known.minimum_epoch:
        raise RollbackError(
            f"the backup is of epoch {_epoch(inspected)}, "
            f"and epoch {known.minimum_epoch} was seen here",
            hint=_OLDER_HINT,
        )


def _check_epoch(current: Header, inspected: Inspected) -> None:
    token = strongroom_token(current)
    if token is None:
        return
    if inspected.token is None:
        raise RollbackError(
            "the backup has no authentication, and the header has",
            hint=_BARE_HINT,
        )
    if inspected.token.epoch < token.epoch:
        raise RollbackError(
            f"the backup is of epoch {inspected.token.epoch}, and the header of {token.epoch}",
            hint=f"{_OLDER_HINT}; --force restores it all the same",
        )


def _check_same_volume(present: Header, checked: Backup) -> None:
    ours, theirs = present.binary.uuid, checked.loaded.header.binary.uuid
    if ours.lower() != theirs.lower():
        raise RollbackError(f"the backup is of the volume {theirs}, and this one is {ours}")


def _check_same_key(present: Header, backup: Header) -> None:
    """Refuse a backup from before a reencryption: the data that is there needs the new key."""
    ours, theirs = (it.digests[it.segment_digest_number] for it in (present, backup))
    if (ours.salt, ours.digest) != (theirs.salt, theirs.digest):
        raise RollbackError(
            "the backup has the digest of another volume key than the header in place: if the "
            "volume was reencrypted in between, the backup makes all of its data unreadable",
            hint=_OTHER_KEY_HINT,
        )


def _is_tampered(present: LoadedHeader, disk: Disk, tee: Tee) -> bool:
    """Tell whether the enclave that the volume is sealed to finds its header changed."""
    try:
        material = {
            number: disk.read_header_area(slot.area.offset_bytes, slot.area.size_bytes)
            for number, slot in present.header.keyslots.items()
        }
        return inspect(present, material, tee).state == "tampered"
    except SealedBlobError:
        return False


def _present_header(disk: Disk) -> LoadedHeader | None:
    # A header that is gone or damaged is what backups are for: it stops nobody from restoring. One
    # that is whole but not understood is not overwritten.
    try:
        loaded = load_header(
            disk.header_copy(), image_size_bytes=disk.header_size_bytes(), detached=disk.detached
        )
    except (NotLuksError, HeaderBrokenError):
        return None
    # Nothing opens one with a malformed token either, and its sequence number may be anybody's.
    try:
        strongroom_token(loaded.header)
    except FormatError:
        return None
    return loaded

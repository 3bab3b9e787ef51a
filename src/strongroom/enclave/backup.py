# SPDX-License-Identifier: Apache-2.0
"""Header backups, in the format of ``cryptsetup luksHeaderBackup``: the raw header area.

A restored backup brings its old passphrases back. That cannot be prevented by a passphrase alone;
an older backup is refused unless the operator insists.
"""

from typing import Final

from strongroom.boundary.calls import BackupWritten
from strongroom.enclave.disk import Disk, read_at, sync, write_at
from strongroom.errors import HeaderBrokenError, NotLuksError
from strongroom.luks2 import (
    HEADER_COPY_BYTES,
    Header,
    backup_size_bytes,
    check_backup,
    load_header,
    restore_steps,
)
from strongroom.luks2.limits import MAX_BACKUP_SLACK_BYTES, MAX_KEYSLOTS_BYTES
from strongroom.units import ByteCount, ByteOffset

_MOST_BYTES: Final = ByteCount(HEADER_COPY_BYTES + MAX_KEYSLOTS_BYTES + MAX_BACKUP_SLACK_BYTES)


def write_backup(header: Header, disk: Disk, output: int) -> BackupWritten:
    """Copy the header area to an empty file and make it durable.

    Raises:
        NoSpaceError: The output is full.
        DiskError: Reading or writing failed.
    """
    size = backup_size_bytes(header)
    data = disk.read_header_area(ByteOffset(0), size)
    write_at(output, ByteOffset(0), data)
    sync(output)
    return BackupWritten(header.binary.uuid, header.binary.seqid, len(data))


def restore_backup(disk: Disk, backup: int, *, force: bool) -> BackupWritten:
    """Check a backup and write it over the header.

    The keyslot areas are written before the header that refers to them. A kill in between can leave
    a header whose keyslots do not open; running the restore again completes it.

    Raises:
        RollbackError: The backup is older than the header, or of another volume, without ``force``.
        FormatError: The backup is not a whole, valid header.
    """
    data = read_at(backup, ByteOffset(0), ByteCount(_MOST_BYTES + 1))
    checked = check_backup(None if force else _current_header(disk), data, detached=disk.detached)
    restored = checked.loaded.header
    if not disk.detached:
        restored.data_size_bytes(disk.image_size_bytes())
    disk.apply(restore_steps(checked))
    return BackupWritten(restored.binary.uuid, restored.binary.seqid, len(data))


def _current_header(disk: Disk) -> Header | None:
    # A header that is gone or damaged is what backups are for: it stops nobody from restoring. One
    # that is whole but not understood is not overwritten.
    try:
        return load_header(
            disk.header_copy(), image_size_bytes=disk.header_size_bytes(), detached=disk.detached
        ).header
    except (NotLuksError, HeaderBrokenError):
        return None

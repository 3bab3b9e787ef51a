# SPDX-License-Identifier: Apache-2.0
"""Header backups: both header copies and the keyslots area, as ``luksHeaderBackup`` writes them."""

from strongroom.errors import FormatError, RollbackError
from strongroom.luks2.commit import Step, Sync, WriteAt, commit_steps
from strongroom.luks2.layout import check_segment
from strongroom.luks2.limits import HEADER_COPY_BYTES, MAX_BACKUP_SLACK_BYTES, STRONGROOM_TOKEN
from strongroom.luks2.load import LoadedHeader, load_header
from strongroom.luks2.model import Header
from strongroom.luks2.token import strongroom_token
from strongroom.units import ByteCount, ByteOffset
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was checked.

    Attributes:
        loaded: Its header.
        keyslots_area: The bytes of its keyslots area.
    """

    loaded: LoadedHeader
    keyslots_area: bytes


def check_backup(current: Header | None, backup: bytes, *, detached: bool = True) -> Backup:
    """Check that a backup may replace the current header.

    Args:
        current: The header in place, or ``None`` when there is none left; then the caller has to
            know that the backup belongs to this image. If the backup has a ``strongroom`` token,
            the caller has to compare epochs too.
        backup: The whole file.
        detached: Whether the header will lie on another device than the data. ``False`` also
            checks that the data does not start inside the header.

    Raises:
        BoundsError: The data would start inside the header.
        RollbackError: The backup is of another volume, or older than the current header.
        TruncatedError: The backup ends too early.
        FormatError: It is no backup, or describes the data in another way; or any error of
            :func:`load_header`.
    """
    loaded = load_header(
        backup[:HEADER_COPY_BYTES], image_size_bytes=ByteCount(len(backup)), detached=True
    )
    header = loaded.header
    if len(backup) > header.total_bytes + MAX_BACKUP_SLACK_BYTES:
        raise FormatError(
            f"the file has {len(backup)} bytes and a backup of its header {header.total_bytes}",
            hint="this is a whole volume, and not a backup of a header",
        )
    check_segment(header, detached=detached)
    if current is not None:
        _check_successor(current, header)
    area = backup[header.keyslots_offset_bytes : header.total_bytes]
    return Backup(loaded, area)


def backup_size_bytes(header: Header) -> ByteCount:
    """Return how many bytes from the start of the header device make a backup."""
    return header.total_bytes


def restore_steps(backup: Backup) -> tuple[Step, ...]:
    """Return the steps that put a backup in place: keyslots area first, then both copies.

    After a crash the old header is still in force until the secondary copy is written, but keyslots
    that lie elsewhere in it may be lost by then: the restore has to be repeated.
    """
    header = backup.loaded.header
    area = WriteAt(ByteOffset(header.keyslots_offset_bytes), backup.keyslots_area)
    return (area, Sync(), *commit_steps(header))


def _check_successor(current: Header, header: Header) -> None:
    if header.binary.uuid.lower() not in _names_of(current):
        raise RollbackError(
            f"the backup is of the volume {header.binary.uuid}, and this one is "
            f"{current.binary.uuid}"
        )
    # Where there is an epoch, that one tells what is older. Anybody may raise the number.
    is_authenticated = any(token.kind == STRONGROOM_TOKEN for token in header.tokens.values())
    if header.binary.seqid < current.binary.seqid and not is_authenticated:
        raise RollbackError(
            f"the backup has version {header.binary.seqid}, and the volume has "
            f"{current.binary.seqid} already",
            hint="an older header brings back keyslots that were removed since; --force restores "
            "it all the same",
        )
    if header.segment != current.segment or header.total_bytes != current.total_bytes:
        raise FormatError("the backup describes the data, or the header's size, in another way")


def _names_of(header: Header) -> frozenset[str]:
    """Return the UUIDs of a volume: the header's, and those that its token has from before."""
    token = strongroom_token(header)
    former = () if token is None else (token.header_uuid, token.sealed_uuid)
    return frozenset(uuid.lower() for uuid in (header.binary.uuid, *former))

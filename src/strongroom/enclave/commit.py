# SPDX-License-Identifier: Apache-2.0
"""Putting an edited header on the disk, authenticated where the volume is.

Key material first, then the header, and only then is wiped what the header no longer refers to.
"""

from typing import Final

from strongroom._core import Secret
from strongroom.enclave.authentication import authenticated
from strongroom.enclave.disk import Disk
from strongroom.enclave.inspection import Inspected, inspect
from strongroom.enclave.keyslots import Edit
from strongroom.enclave.sealed_slots import seal_key_for
from strongroom.luks2 import (
    Header,
    HeaderCopy,
    LoadedHeader,
    Sealing,
    Step,
    Sync,
    WriteAt,
    commit_steps,
    repair_steps,
    unreferenced_areas,
)
from strongroom.tee.provider import Tee
from strongroom.units import KIB, ByteCount, ByteOffset
from strongroom.values import replace

_SCRUB_BYTES: Final = 64 * KIB


def commit(
    edit: Edit,
    before: Inspected,
    disk: Disk,
    *,
    tee: Tee,
    header_key: Secret,
    sealing: Sealing | None = None,
) -> Inspected:
    """Write an edit of a header, and return the header as it is now.

    The host holds the header's lock since the header was read, or else
    :meth:`Disk.ensure_as_read` was called under it: what others wrote since would be undone.

    Args:
        edit: What to write.
        before: The header that it started from. Where that has a token, the new one has it too,
            one epoch later.
        disk: Where it goes.
        tee: Gives the seal key.
        header_key: From :func:`strongroom.enclave.header_keys.volume_header_key`.
        sealing: To which enclave the volume is sealed from now on, if to another one.

    Raises:
        NoSpaceError: The disk is full.
        DiskError: Writing failed.
    """
    header = edit.header
    if before.token is not None:
        token = replace(
            before.token,
            epoch=before.token.epoch + 1,
            sealing=sealing or before.token.sealing,
            slots=edit.slots,
        )
        seal_key = seal_key_for(tee, token.sealing, before.uuid)
        try:
            header = authenticated(
                header, edit.material, token, seal_key=seal_key, header_key=header_key
            )
        finally:
            seal_key.erase()
    # A broken copy first: with one of two, the first write of a commit would be to the only one.
    disk.apply((*repair_steps(before.loaded), *edit.before, *commit_steps(header)))
    scrub(header, disk)
    written = LoadedHeader(header, HeaderCopy.PRIMARY, (), (), canonical=True)
    return inspect(written, edit.material, tee)


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

# SPDX-License-Identifier: Apache-2.0
"""Writing a header so that a crash at any moment leaves a volume that opens.

The steps are values: the caller carries them out in order, and stops at the first that fails. At
every moment one copy is whole, as the other is only touched when the first is on the disk.

This holds when both copies were whole before, so broken ones are repaired first.
"""

from strongroom.luks2.binary import HeaderCopy, build_copy
from strongroom.luks2.load import LoadedHeader
from strongroom.luks2.model import Header
from strongroom.units import ByteOffset
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class WriteAt:
    """Write ``data`` at ``offset`` bytes from the start of the header device."""

    offset: ByteOffset
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Wait until everything written so far is durable."""


Step = WriteAt | Sync


def commit_steps(header: Header) -> tuple[Step, ...]:
    """Return the steps that write both copies: secondary, sync, primary, sync.

    The sequence number is written as it is: every edit has raised it already.
    """
    return (
        _write(header, HeaderCopy.SECONDARY),
        Sync(),
        _write(header, HeaderCopy.PRIMARY),
        Sync(),
    )


def repair_steps(loaded: LoadedHeader) -> tuple[Step, ...]:
    """Return the steps that rewrite the broken copies, and nothing else.

    Version and contents stay those of the copy that was used. Empty when nothing is broken.
    """
    steps: list[Step] = []
    for copy in loaded.broken:
        steps += [_write(loaded.header, copy), Sync()]
    return tuple(steps)


def _write(header: Header, copy: HeaderCopy) -> WriteAt:
    data = build_copy(header.binary, header.metadata.json_text, copy)
    return WriteAt(ByteOffset(header.binary.offset_of(copy)), data)

# SPDX-License-Identifier: Apache-2.0
"""Where things lie: what must not overlap, and what is free.

::

    0          primary header | secondary header | keyslots area ... | data segment ...
               hdr_size         hdr_size           keyslots_size       segment offset
"""

from strongroom.errors import BoundsError, FormatError, KeyslotStateError, LimitError
from strongroom.luks2.limits import (
    AREA_GRID_BYTES,
    MAX_KEYSLOTS_BYTES,
    SECTOR_BYTES,
    SECTOR_SIZES,
    UINT64_MAX,
)
from strongroom.luks2.model import CryptSegment, Header
from strongroom.units import ByteCount, ByteOffset

_Span = tuple[int, int, str]


def check_config(header: Header) -> None:
    """Check the ``config`` section against the binary header.

    Raises:
        FormatError: The sizes of the JSON area disagree.
        LimitError: The keyslots area is larger than :data:`MAX_KEYSLOTS_BYTES`.
        BoundsError: Its size is off the grid.
    """
    config = header.metadata.config
    if config.json_size != header.binary.json_size:
        raise FormatError(
            f"the JSON area has {header.binary.json_size} bytes and claims {config.json_size}"
        )
    if config.keyslots_size > MAX_KEYSLOTS_BYTES:
        raise LimitError(
            f"the keyslots area of {config.keyslots_size} bytes is larger than {MAX_KEYSLOTS_BYTES}"
        )
    if config.keyslots_size % AREA_GRID_BYTES:
        raise BoundsError(f"the keyslots area is not on the grid of {AREA_GRID_BYTES} bytes")


def check_areas(header: Header) -> None:
    """Check that the area of every keyslot lies in its place and none overlap.

    Raises:
        BoundsError: One does not, or two do.
    """
    start, end = header.keyslots_offset_bytes, header.total_bytes
    previous: _Span = (0, start, "the headers")
    for span in _spans(header):
        offset, size, name = span
        if size == 0:
            raise BoundsError(f"the area of {name} is empty")
        if offset < start or offset + size > end:
            raise BoundsError(f"the area of {name} lies outside the keyslots area")
        if offset < previous[0] + previous[1]:
            raise BoundsError(f"the areas of {previous[2]} and {name} overlap")
        previous = span


def check_segment(header: Header, *, detached: bool) -> None:
    """Check that the segment lies in its place.

    Raises:
        BoundsError: It does not.
    """
    _check_segment(header.segment)
    end = header.total_bytes
    if not detached and header.segment.offset_bytes < end:
        raise BoundsError(
            f"the data starts at {header.segment.offset_bytes}, inside the header, "
            f"which ends at {end}",
            hint="if this is a detached header, name the image and the header separately",
        )


def largest_sector_size(data_size_bytes: ByteCount) -> int:
    """Return the largest sector size of which a data area is a multiple, as dm-crypt demands.

    What is less than 512 bytes at its end is not counted: no block device has it.
    """
    whole = data_size_bytes - data_size_bytes % SECTOR_BYTES
    return max(size for size in SECTOR_SIZES if whole % size == 0)


def allocate_area(header: Header, size_bytes: int) -> ByteOffset:
    """Return where an area of ``size_bytes``, rounded up to 4096, finds room: the first gap.

    Raises:
        KeyslotStateError: There is no such gap.
    """
    needed = -(-size_bytes // AREA_GRID_BYTES) * AREA_GRID_BYTES
    for offset, size in unreferenced_areas(header):
        aligned = -(-offset // AREA_GRID_BYTES) * AREA_GRID_BYTES
        if aligned + needed <= offset + size:
            return ByteOffset(aligned)
    raise KeyslotStateError(
        f"the keyslots area has no room for {needed} more bytes",
        hint="remove a keyslot that is not needed",
    )


def unreferenced_areas(header: Header) -> tuple[tuple[ByteOffset, ByteCount], ...]:
    """Return what no keyslot uses inside the keyslots area, as offsets and sizes, in order.

    Nothing there is needed, and material of removed keyslots may still be: it can be overwritten.
    """
    gaps: list[tuple[ByteOffset, ByteCount]] = []
    position: int = header.keyslots_offset_bytes
    for offset, size, _ in [*_spans(header), (header.total_bytes, 0, "")]:
        if offset > position:
            gaps.append((ByteOffset(position), ByteCount(offset - position)))
        position = offset + size
    return tuple(gaps)


def _spans(header: Header) -> list[_Span]:
    """Return offset, size and name of all keyslot areas, by offset."""
    spans: list[_Span] = [
        (slot.area.offset_bytes, slot.area.size_bytes, f"keyslot {number}")
        for number, slot in header.keyslots.items()
    ]
    spans += [
        (slot.offset_bytes, slot.size_bytes, f"keyslot {number}")
        for number, slot in header.foreign_keyslots.items()
    ]
    return sorted(spans)


def _check_segment(segment: CryptSegment) -> None:
    sector = segment.sector_size_bytes
    if segment.offset_bytes % sector:
        raise BoundsError(f"the data starts at {segment.offset_bytes}, off the {sector}-byte grid")
    if segment.iv_tweak % (sector // SECTOR_BYTES):
        raise BoundsError(f"the iv_tweak {segment.iv_tweak} is off the {sector}-byte grid")
    if segment.size_bytes is None:
        return
    if segment.size_bytes == 0 or segment.size_bytes % sector:
        raise BoundsError(f"the data size {segment.size_bytes} is not in whole sectors")
    if segment.offset_bytes + segment.size_bytes > UINT64_MAX:
        raise BoundsError("the data ends beyond 64 bits")
    if segment.iv_tweak + segment.size_bytes // SECTOR_BYTES > UINT64_MAX:
        raise BoundsError("the sector numbers of the data exceed 64 bits")

# SPDX-License-Identifier: Apache-2.0
"""What a block device stands on: the files and devices whose bytes it shows.

Partitions lie on their disk, loop devices on a file or device, the devices of dm and md on their
parts. The kernel claims the devices below a partition, dm and md itself. It claims nothing below a
loop device: those files and devices are the grounds of a target.

Spec: loop(4); Documentation/ABI/stable/sysfs-block.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.values import dataclass, replace

_SECTOR_BYTES: Final = 512
_DEPTH_LIMIT: Final = 16
"""Deeper stacks of devices than any real one; ends a loop in a tree that changes under us."""
_LOOP_GET_STATUS64: Final = 0x4C05
_LOOP_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes. ``shared``: the kernel divides it among several devices of dm or md."""

    start: int
    length: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """A file or block device below a loop device, and the part of it that the target shows.

    Attributes:
        path: Its path, as the kernel shows it.
        file: ``st_dev`` and ``st_ino``; what ``path`` leads to now may be another file.
        span: The part.
    """

    path: Path
    file: tuple[int, int]
    span: Span


def grounds(device_number: int) -> tuple[Ground, ...]:
    """Return the files and devices on which loop devices in or below a block device stand.

    What may not be looked at is left out: an ordinary user cannot ask a loop device for its file,
    and sees it only where the file's path leads to it.
    """
    entry = _entry(device_number)
    return tuple(_below(entry, Span(0, _size_of(entry)), _DEPTH_LIMIT))


def whole_disk_and_parts(device_number: int) -> frozenset[int]:
    """Return the numbers of a device, its partitions, and the disk that it is a partition of.

    A claim on one of them keeps out claims on the others.
    """
    entry = _entry(device_number)
    related = {device_number}
    if (entry / "partition").exists():
        related.add(_number_in(entry.parent))
    related |= {_number_in(partition.parent) for partition in entry.glob("*/partition")}
    return frozenset(related)


def open_ground(ground: Ground, flags: int) -> int:
    """Open a ground by its path, if that still leads to it; the caller closes it.

    Raises:
        OSError: It cannot be opened, or another file is there now (``ESTALE``).
    """
    fd = os.open(ground.path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    info = os.fstat(fd)
    if (info.st_dev, info.st_ino) != ground.file:
        os.close(fd)
        raise FileNotFoundError(f"{ground.path} is another file now")
    return fd


def _below(entry: Path, span: Span, depth: int) -> Iterator[Ground]:
    if depth == 0:
        return
    if (entry / "partition").exists():
        start = _number_of(entry / "start") * _SECTOR_BYTES
        yield from _below(entry.parent, replace(span, start=span.start + start), depth - 1)
    elif (entry / "loop/backing_file").exists():
        yield from _below_loop(entry, span, depth)
    for slave in sorted(entry.glob("slaves/*")):
        below = slave.resolve()
        yield from _below(below, Span(0, _size_of(below), shared=True), depth - 1)


def _below_loop(entry: Path, span: Span, depth: int) -> Iterator[Ground]:
    shown = (entry / "loop/backing_file").read_text(errors="surrogateescape").rstrip("\n")
    path = Path(shown.removesuffix(_DELETED))
    file = _file_below(entry) or _file_at(path)
    if file is None:
        return
    offset = _number_of(entry / "loop/offset")
    ground = Ground(path, file, replace(span, start=span.start + offset))
    yield ground
    with suppress(OSError):
        info = path.stat()
        if stat.S_ISBLK(info.st_mode) and (info.st_dev, info.st_ino) == file:
            yield from _below(_entry(info.st_rdev), ground.span, depth - 1)


def _file_below(entry: Path) -> tuple[int, int] | None:
    """Ask a loop device for the file below it: device and inode, whatever its path means now."""
    try:
        fd = os.open(Path("/dev") / entry.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_rdev != _number_in(entry):
            return None
        answer = fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO.size))
    except OSError:
        return None
    finally:
        os.close(fd)
    device, inode, *_ = _LOOP_INFO.unpack(answer)
    return _decoded(device), inode


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _decoded(device: int) -> int:
    """Return a device number as ``stat`` has it from the kernel's 64-bit encoding, its own."""
    major = (device >> 8) & 0xFFF
    minor = (device & 0xFF) | ((device >> 12) & 0xFFFFFF00)
    return os.makedev(major, minor)


def _entry(device_number: int) -> Path:
    link = Path(f"/sys/dev/block/{os.major(device_number)}:{os.minor(device_number)}")
    return link.resolve()


def _size_of(entry: Path) -> int:
    return _number_of(entry / "size") * _SECTOR_BYTES


def _number_in(entry: Path) -> int:
    try:
        major, minor = (entry / "dev").read_text().split(":")
        return os.makedev(int(major), int(minor))
    except (OSError, ValueError):
        return 0


def _number_of(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0

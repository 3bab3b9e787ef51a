# SPDX-License-Identifier: Apache-2.0
"""The disk as the enclave sees it: descriptors that the host passed, and nothing it may trust.

The header is read into a private copy, every byte of it at most once: what is checked is what is
used, whatever the disk says when it is asked again.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final, Self, TypeAlias

from strongroom._core import takes_direct_transfers
from strongroom.errors import (
    DiskError,
    KeyslotStateError,
    NoPermissionError,
    NoSpaceError,
    PlatformError,
    UnavailableError,
)
from strongroom.luks2 import HEADER_COPY_BYTES, Step, WriteAt
from strongroom.units import MIB, ByteCount, ByteOffset

_CHUNK_BYTES: Final = MIB
_HOLE_BYTES: Final = 4096
"""What is given up where a read fails: a page, the unit in which the kernel reads a file."""
_MAX_HOLES: Final = 64
"""A disk may take seconds to give a sector up; one with more bad ones is not read further."""

_Range: TypeAlias = tuple[int, int]


class Disk:
    """An image and, if it is detached, its header.

    The descriptors are duplicated; :meth:`close` releases the copies. Through ``direct_fd``, the
    image opened with ``O_DIRECT``, only data go: a header has sizes of its own.
    """

    def __init__(
        self,
        image_fd: int,
        header_fd: int | None,
        *,
        read_only: bool = False,
        direct_fd: int | None = None,
    ) -> None:
        self.read_only = read_only
        self._private_copy = b""
        self._unreadable: tuple[_Range, ...] = ()
        self.image_fd = os.dup(image_fd)
        self._header_fd = self.image_fd if header_fd is None else os.dup(header_fd)
        self.data_fd = self.image_fd if direct_fd is None else os.dup(direct_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def detached(self) -> bool:
        """Whether the header lies on another device than the data."""
        return self._header_fd != self.image_fd

    def ensure_takes(self, offset: ByteOffset, sector_size: int) -> None:
        """Check that data can be moved a sector at a time past the page cache, where they are to.

        Raises:
            UnavailableError: The device has larger blocks than sectors.
            DiskError: Reading failed.
        """
        if self.data_fd == self.image_fd:
            return
        if not takes_direct_transfers(self.data_fd, offset_bytes=offset, length_bytes=sector_size):
            raise UnavailableError(
                f"the disk does not take direct transfers of {sector_size} bytes at {offset}",
                hint="open it without --direct",
            )

    def image_size_bytes(self) -> ByteCount:
        """Return the size of the image; also for block devices.

        Raises:
            DiskError: The descriptor is not seekable.
        """
        return _size_of(self.image_fd)

    def header_size_bytes(self) -> ByteCount:
        """Return the size of the device that holds the header."""
        return _size_of(self._header_fd)

    def header_copy(self) -> bytes:
        """Read the start of the header device, once: at most :data:`HEADER_COPY_BYTES`.

        Raises:
            DiskError: Reading failed.
        """
        return self.read_header_area(ByteOffset(0), ByteCount(HEADER_COPY_BYTES))

    def read_header_area(self, offset: ByteOffset, size: ByteCount) -> bytes:
        """Return up to ``size`` bytes of the private copy; fewer only at the device's end.

        What the copy does not have yet is read from the device: each byte once, and never again.
        What the device cannot read is zeros here, and :attr:`unreadable` says so: a sector that is
        gone must not decide over the rest of a header.

        Raises:
            DiskError: Reading failed, in more places than a few sectors.
        """
        present = len(self._private_copy)
        missing = offset + size - present
        if missing > 0:
            data, holes = _read_around(self._header_fd, present, missing)
            self._private_copy += data
            self._unreadable += holes
        return self._private_copy[offset : offset + size]

    @property
    def unreadable(self) -> tuple[tuple[int, int], ...]:
        """Offset and size in bytes of what could not be read of the header, in order."""
        return self._unreadable

    def is_unreadable(self, offset: int, size: int) -> bool:
        """Tell whether a part of the header, or a piece of it, could not be read."""
        return any(
            start < offset + size and offset < start + length for start, length in self._unreadable
        )

    def header_now(self) -> bytes:
        """Return the header as the disk shows it now, to say what came of a change.

        Nothing is checked with it or taken from it.

        Raises:
            DiskError: Reading failed.
        """
        return read_at(self._header_fd, ByteOffset(0), ByteCount(HEADER_COPY_BYTES))

    def forget_header(self) -> None:
        """Release the private copy: nothing asks for the header any more."""
        self._private_copy = b""

    def ensure_as_read(self, size: ByteCount) -> None:
        """Compare the disk's header with the private copy, which alone is used.

        For headers that were read under a lock which was let go since. An honest host is thereby
        told; against a hostile one nothing rests on it.

        Args:
            size: What the header takes up. Data may follow, which change while a volume is open.

        Raises:
            KeyslotStateError: They differ, or the private copy was released.
            DiskError: Reading failed, in more places than a few sectors.
        """
        known = self._private_copy[: min(size, HEADER_COPY_BYTES)]
        if not known or _read_around(self._header_fd, 0, len(known))[0] != known:
            raise KeyslotStateError(
                "the header on the disk has changed since it was read, and nothing was changed now",
                hint="run the command again: it starts from the header as it is by then",
            )

    def apply(self, steps: tuple[Step, ...]) -> None:
        """Carry out writes and syncs on the header device, in order.

        Raises:
            NoSpaceError: The disk is full.
            DiskError: Writing failed; what was written before stays.
        """
        for step in steps:
            match step:
                case WriteAt():
                    write_at(self._header_fd, step.offset, step.data)
                    self._note_write(step)
                case _:
                    sync(self._header_fd)

    def make_header_durable(self) -> None:
        """Wait until the header that was read would survive a power cut, whoever wrote it.

        A descriptor that is for reading only does as well. A file system that cannot sync is one
        that is never written to.

        Raises:
            DiskError: The disk said no, so that the next power cut may bring another header.
        """
        try:
            os.fsync(self._header_fd)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise DiskError(
                    f"cannot sync the disk: {os.strerror(err.errno or 0)}",
                    hint="look at the kernel's log",
                ) from err

    def _note_write(self, step: WriteAt) -> None:
        known = step.data[: max(0, len(self._private_copy) - step.offset)]
        before = self._private_copy[: step.offset]
        after = self._private_copy[step.offset + len(known) :]
        self._private_copy = before + known + after

    def close(self) -> None:
        """Release the descriptors."""
        if self.detached:
            os.close(self._header_fd)
        if self.data_fd != self.image_fd:
            os.close(self.data_fd)
        os.close(self.image_fd)


def read_at(descriptor: int, offset: ByteOffset, size: ByteCount) -> bytes:
    """Return up to ``size`` bytes; fewer only at the end of the file.

    Raises:
        DiskError: Reading failed.
    """
    parts: list[bytes] = []
    missing: int = size
    while missing:
        with _reporting("read"):
            part = os.pread(descriptor, missing, offset + size - missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    # One part, the usual case, is not copied.
    return b"".join(parts)


def _read_around(descriptor: int, offset: int, size: int) -> tuple[bytes, tuple[_Range, ...]]:
    """As :func:`read_at`, with zeros where sectors cannot be read, and where that is."""
    data = bytearray()
    holes: list[_Range] = []
    while len(data) < size:
        position = offset + len(data)
        try:
            part = os.pread(descriptor, size - len(data), position)
        except OSError as err:
            if err.errno != errno.EIO or len(holes) == _MAX_HOLES:
                raise disk_error(err, "read") from err
            end = min((position // _HOLE_BYTES + 1) * _HOLE_BYTES, offset + size)
            part = bytes(end - position)
            holes.append((position, len(part)))
        if not part:
            break
        data += part
    return bytes(data), tuple(holes)


def write_at(descriptor: int, offset: ByteOffset, data: bytes) -> None:
    """Write all of ``data``.

    Raises:
        NoSpaceError: The disk is full.
        DiskError: Writing failed.
    """
    rest = memoryview(data)
    while rest:
        with _reporting("write"):
            written = os.pwrite(descriptor, rest[:_CHUNK_BYTES], offset + len(data) - len(rest))
        rest = rest[written:]


def sync(descriptor: int) -> None:
    """Make what was written survive a power cut.

    Raises:
        DiskError: The disk said no.
    """
    with _reporting("sync"):
        os.fsync(descriptor)


def _size_of(descriptor: int) -> ByteCount:
    with _reporting("measure"):
        return ByteCount(os.lseek(descriptor, 0, os.SEEK_END))


@contextlib.contextmanager
def _reporting(verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise disk_error(err, verb) from err


def disk_error(err: OSError, verb: str) -> PlatformError:
    """Return the error of ours that says what the disk said."""
    reason = os.strerror(err.errno or 0)
    match err.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return NoSpaceError(f"cannot {verb} the disk: {reason}", hint="free some space")
        case errno.EPERM | errno.EACCES | errno.EBADF | errno.EROFS:
            return NoPermissionError(
                f"cannot {verb} the disk: {reason}", hint="the disk was opened read-only"
            )
        case _:
            return DiskError(f"cannot {verb} the disk: {reason}", hint="look at the kernel's log")

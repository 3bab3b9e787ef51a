# SPDX-License-Identifier: Apache-2.0
"""Opening an image, and making a new one."""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from strongroom.errors import NoPermissionError, UnavailableError, UsageError
from strongroom.host.attach._libc import reserve
from strongroom.host.target._errno import translated, translating

_BLKROGET: Final = 0x125E
_INT: Final = struct.Struct("i")


def open_image(path: Path, *, read_only: bool, hint: str = "") -> int:
    """Open an image, a regular file or block device, following links; the caller closes it.

    A block device that is protected against writing can be opened for it, and loses every write
    later; it is refused here.

    Args:
        path: Its name.
        read_only: Open it for reading only.
        hint: How to go on where it may not be written.

    Raises:
        NotFoundError: There is no such file.
        NoPermissionError: The caller may not open it so, the file system is read-only, or the
            device is protected against writing.
        UsageError: It is something else, such as a directory or a pipe.
        DiskError: Opening failed otherwise.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    with translating(path, read_only_hint="" if read_only else hint):
        # Opening a pipe or a character device can wait or do things, so look first.
        looked_at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            _ensure_image(os.fstat(looked_at).st_mode, path)
            by_descriptor = f"/proc/self/fd/{looked_at}"
            fd = os.open(by_descriptor, access | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(looked_at)
    try:
        os.set_blocking(fd, True)
        if not read_only and stat.S_ISBLK(os.fstat(fd).st_mode) and _is_write_protected(fd):
            raise NoPermissionError(
                f"{path} is write-protected",
                hint=hint or f"take the protection off: `blockdev --setrw {path}`",
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_directly(image_fd: int, path: Path, *, read_only: bool) -> int:
    """Open an open image once more, past the page cache; the caller closes it.

    Args:
        image_fd: The image, whatever ``path`` means by now.
        path: What a message calls it.
        read_only: Open it for reading only.

    Raises:
        UnavailableError: Its file system has no ``O_DIRECT``.
        NoPermissionError: The caller may not open it so.
        DiskError: Opening failed otherwise.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    try:
        return os.open(f"/proc/self/fd/{image_fd}", access | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as err:
        if err.errno == errno.EINVAL:
            raise UnavailableError(
                f"the file system of {path} has no direct I/O", hint="open it without --direct"
            ) from err
        raise translated(err, path) from err


@contextmanager
def create_image(path: Path, size_bytes: int, *, sparse: bool) -> Iterator[int]:
    """Make a new image that appears under its name, complete and on disk, when the block succeeds.

    Yields a descriptor for reading and writing that is closed at the end. If the block fails, or
    the process is killed in it, nothing is left; only on file systems without unnamed files a kill
    leaves a hidden file beside the target.

    Args:
        path: The name, which must not exist.
        size_bytes: The size.
        sparse: Do not reserve the space. It is also not reserved where that is not possible.

    Raises:
        TargetInUseError: The name exists, at the beginning or at the end.
        NoSpaceError: There is no room.
        NotFoundError: The directory does not exist.
        NoPermissionError: The caller may not write there.
        DiskError: Another operation failed.
    """
    with translating(path):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with translating(path):
            fd, temporary = _open_unnamed(path, directory)
        try:
            with translating(path):
                _give_size(fd, size_bytes, sparse=sparse)
            yield fd
            with translating(path):
                os.fsync(fd)
                _publish(fd, temporary, path.name, directory)
                os.fsync(directory)
        finally:
            os.close(fd)
            if temporary:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
    finally:
        os.close(directory)


def _is_write_protected(fd: int) -> bool:
    answer = fcntl.ioctl(fd, _BLKROGET, bytes(_INT.size))
    return bool(_INT.unpack(answer)[0])


def _ensure_image(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise UsageError(f"{path} is neither a regular file nor a block device")


def _open_unnamed(path: Path, directory: int) -> tuple[int, str]:
    """Open a new file without a name, or one with a hidden name where there is no such thing."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory), ""
    except OSError as err:
        if err.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}:
            raise
    temporary = f".{path.name[:200]}.{os.urandom(4).hex()}"
    created = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    return created, temporary


def _give_size(fd: int, size_bytes: int, *, sparse: bool) -> None:
    if not sparse:
        try:
            reserve(fd, size_bytes)
        except OSError as err:
            if err.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
    os.ftruncate(fd, size_bytes)


def _publish(fd: int, temporary: str, name: str, directory: int) -> None:
    """Give the file its name, replacing nothing."""
    source = temporary or f"/proc/self/fd/{fd}"
    try:
        os.link(source, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as err:
        if not temporary or err.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            raise
        # No hard links here: take the name first, then replace what we ourselves put there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=directory))
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)

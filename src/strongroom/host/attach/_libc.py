# SPDX-License-Identifier: Apache-2.0
"""The six Linux calls that Python's standard library does not offer.

Nothing here knows about volumes: integers and paths in, ``OSError`` out.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_SHUT_DOWN: Final = 0x8004587D
"""``FS_IOC_SHUTDOWN``, of ext4, XFS, F2FS and others."""
_WITHOUT_LOG: Final = 2
"""Write nothing more, not even the journal."""
_PR_SET_IO_FLUSHER: Final = 57
_PR_GET_IO_FLUSHER: Final = 58

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def mount(
    source: str, mount_point: Path, file_system: str, options: str, *, read_only: bool
) -> None:
    """Mount a file system on which nothing is a device or a program.

    Raises:
        OSError: No permission, no such file system, or it refused the options.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | (_MS_RDONLY if read_only else 0)
    result = _libc.mount(
        source.encode(), os.fsencode(mount_point), file_system.encode(), flags, options.encode()
    )
    _check(result, mount_point)


def unmount_lazily(mount_point: Path) -> None:
    """Take a mount out of the tree at once; it ends when its last user does.

    Raises:
        OSError: Not a mount point (``EINVAL``), or no permission.
    """
    _check(_libc.umount2(os.fsencode(mount_point), _MNT_DETACH | _UMOUNT_NOFOLLOW), mount_point)


def sync_file_system(fd: int) -> None:
    """Write back the whole file system that ``fd`` lies on; blocks as long as its device does."""
    _check(_libc.syncfs(fd))


def shut_down_file_system(fd: int) -> None:
    """Have the file system that ``fd`` lies on refuse everything from now on, but being unmounted.

    Raises:
        OSError: It cannot do that (``ENOTTY``), or no permission.
    """
    fcntl.ioctl(fd, _SHUT_DOWN, struct.pack("=I", _WITHOUT_LOG))


def reserve(fd: int, size_bytes: int) -> None:
    """Give a file its size and its blocks; never emulated by writing, unlike posix_fallocate.

    Raises:
        OSError: ``ENOSPC``, or ``EOPNOTSUPP`` where the file system cannot reserve.
    """
    _check(_libc.fallocate(fd, 0, 0, size_bytes))


@contextmanager
def io_flusher() -> Iterator[bool]:
    """Mark this thread, and the children it starts, as part of the block I/O path.

    A process that serves a block device deadlocks when the kernel, short of memory, waits for that
    very device on the process's behalf. The mark (PR_SET_IO_FLUSHER) makes its allocations and
    writes go ahead instead. Children keep it; this thread gives it up at the end.

    Yields:
        Whether the mark is set; it needs CAP_SYS_RESOURCE.
    """
    before = _libc.prctl(_PR_GET_IO_FLUSHER, 0, 0, 0, 0)
    if before != 0:
        # Set already, and then to be kept; or refused (-1).
        yield before == 1
        return
    marked = _libc.prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0
    try:
        yield marked
    finally:
        _libc.prctl(_PR_SET_IO_FLUSHER, 0, 0, 0, 0)


def _check(result: int, path: Path | None = None) -> None:
    if result == 0:
        return
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), None if path is None else str(path))

# SPDX-License-Identifier: Apache-2.0
"""Loop devices by their ioctls.

The device clears itself when its last user closes it, so a host that is killed leaves none behind.
Whose it is stands in the name of its backing file, and for people in its ``lo_file_name``.

Spec: loop(4), linux/loop.h.
"""

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.errors import NoLoopError, NoPermissionError, PlatformError
from strongroom.host.attach._bounded import wait_until
from strongroom.values import dataclass

CONTROL: Final = Path("/dev/loop-control")
TAG_LIMIT: Final = 63
"""Bytes of ``lo_file_name`` that can be used; the last of 64 is zero."""

_CLR_FD: Final = 0x4C01
_CONFIGURE: Final = 0x4C0A
_CTL_GET_FREE: Final = 0x4C82

_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4
_DIRECT_IO: Final = 16

# device, inode, rdevice, offset, sizelimit; number, encrypt type, key size, flags; file name,
# crypt name, key; init[2].
_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG: Final = struct.Struct(f"=II{_INFO.size}s64x")

_TRIES: Final = 64
"""Somebody else may take the free device between two calls; each try means that they went on."""
_NODE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A bound loop device, kept bound by the open descriptor ``fd``."""

    path: Path
    fd: int


def make_loop(backing_fd: int, *, sector_size_bytes: int, read_only: bool, tag: str) -> LoopDevice:
    """Bind a free loop device to an open file.

    Direct I/O past the page cache of the file: the plaintext is cached once, not twice, and writing
    is about twice as fast over FUSE.

    Args:
        backing_fd: Open for what the device shall do; the caller may close it afterwards.
        sector_size_bytes: The device's logical block size.
        read_only: Refuse writes.
        tag: Says whose device it is, at most :data:`TAG_LIMIT` bytes.

    Raises:
        NoLoopError: There is no loop driver, no free device, or no node for it.
        NoPermissionError: The caller may not use loop devices.
        PlatformError: The kernel refused the settings.
    """
    flags = _AUTOCLEAR | _DIRECT_IO | (_READ_ONLY if read_only else 0)
    name = tag.encode()[:TAG_LIMIT]
    info = _INFO.pack(*(0,) * 8, flags, name, b"", b"", 0, 0)
    config = _CONFIG.pack(backing_fd, sector_size_bytes, info)
    for _ in range(_TRIES):
        path = _free_device()
        fd = _open_device(path)
        try:
            fcntl.ioctl(fd, _CONFIGURE, config)
            # Kept open for reading only: a kernel that protects mounted devices from writers
            # refuses to mount one that somebody holds open for writing.
            return LoopDevice(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as err:
            if err.errno != errno.EBUSY:
                raise PlatformError(f"{path} cannot be bound: {err.strerror}") from err
        finally:
            os.close(fd)
    raise NoLoopError("no loop device could be had: others take every free one")


def clear(fd: int) -> None:
    """Mark a loop device for clearing: it is unbound when its last user closes it."""
    with suppress(OSError):
        fcntl.ioctl(fd, _CLR_FD)


def is_bound(device: Path) -> bool:
    """Say whether a loop device has a backing file."""
    return (Path("/sys/block") / device.name / "loop/backing_file").exists()


def tag_of(device: Path) -> str:
    """Return the name of the backing file, which is the tag; empty if it is unbound or gone.

    From sysfs, which knows it by itself: the ioctl asks the backing file for its attributes, and
    fails or waits when the FUSE server behind that is dead or hangs.
    """
    try:
        shown = (Path("/sys/block") / device.name / "loop/backing_file").read_text(errors="replace")
    except OSError:
        return ""
    return shown.rstrip("\n").rpartition("/")[2]


def _free_device() -> Path:
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        raise _refused(err, CONTROL) from err
    try:
        return Path(f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}")
    except OSError as err:
        raise _refused(err, CONTROL) from err
    finally:
        os.close(control)


def _open_device(path: Path) -> int:
    if not wait_until(path.exists, _NODE_SECONDS):
        raise NoLoopError(
            f"the kernel made {path.name} but {path} is missing",
            hint=f"make the node: `mknod {path} b 7 {path.name.removeprefix('loop')}`",
        )
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        raise _refused(err, path) from err


def _refused(err: OSError, path: Path) -> PlatformError:
    if err.errno in {errno.EACCES, errno.EPERM}:
        return NoPermissionError(f"no permission to use {path}", hint="run as root")
    return NoLoopError(
        f"{path} cannot be used: {err.strerror}",
        hint="load the driver: `modprobe loop`",
    )

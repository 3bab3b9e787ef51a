# SPDX-License-Identifier: Apache-2.0
"""Owning a target: one lock for as long as it is open, another for each change of its header."""

import errno
import fcntl
import os
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom.errors import AlreadyOpenError, PlatformError
from strongroom.host.target._errno import translated
from strongroom.values import dataclass

OPEN_LOCK_OFFSET: Final = (1 << 62) + 0x5372
"""Where the bytes begin whose lock means "open". No image reaches them: they are never data."""

WHOLE_BYTES: Final = 1 << 61
"""The length of the lock of a whole image, however large it becomes."""

_HEADER_LOCK_SECONDS: Final = 30.0
_LOCK_POLL_SECONDS: Final = 0.02
_LOCK_DIRECTORY: Final = Path("/run/cryptsetup")
END_IT: Final = "wait until that program ends, or end it; `lslocks` lists all locks"
_FLOCK: Final = struct.Struct("hhqqi0q")
"""``struct flock``: type, whence, start, length, pid."""


class OpenLock:
    """The exclusion of two opens of one image, of which one may write.

    An open-file-description lock far behind all data: it belongs to the descriptor, is shared with
    processes that inherit or are sent it, and goes when the last of them closes it.
    It is not a ``flock``, because cryptsetup takes that for its own work on a header and must be
    able to do so on an open volume. Each byte of the lock stands for a byte of the image, so that
    devices on different parts of one file do not exclude each other. Locks of different nodes of
    one block device do not meet; :class:`strongroom.host.target.Hold` claims the device as well.

    Spec: fcntl(2), "Open file description locks".
    """

    def __init__(
        self, fd: int, *, path: Path, read_only: bool, start: int = 0, length: int = WHOLE_BYTES
    ) -> None:
        """Lock a part of the image, by default all of it.

        Args:
            fd: The image; open for writing unless ``read_only``.
            path: What a message calls it.
            read_only: Allow others that lock it so.
            start: Where the part begins, in bytes of the image.
            length: The size of the part in bytes.

        Raises:
            AlreadyOpenError: Another process has the image open, or locked for another reason.
            PlatformError: The file system has no such locks.
        """
        self._fd = fd
        self._start, self._length = start, length
        kind = fcntl.F_RDLCK if read_only else fcntl.F_WRLCK
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(kind, start, length))
        except OSError as err:
            if err.errno in {errno.EAGAIN, errno.EACCES}:
                part = locked_part(fd, start=start, length=length, unless_shared=read_only)
                raise refusal(fd, part, path) from err
            raise PlatformError(f"{path} cannot be locked: {err.strerror}") from err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Unlock without closing the descriptor."""
        with suppress(OSError):
            unlocked = _flock(fcntl.F_UNLCK, self._start, self._length)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, unlocked)


@dataclass(frozen=True, slots=True)
class LockedPart:
    """A part of an image that another process has open.

    ``pid`` is the process, where the kernel tells: never of an :class:`OpenLock`.
    """

    exclusive: bool
    length: int
    start: int = OPEN_LOCK_OFFSET
    pid: int = -1

    @property
    def is_foreign(self) -> bool:
        """Whether the lock is no :class:`OpenLock`, but of a program that locks for itself."""
        return self.start < OPEN_LOCK_OFFSET or self.pid > 0

    @property
    def is_whole(self) -> bool:
        """Whether the image itself is open, and not a device on a part of it."""
        return self.length == WHOLE_BYTES


def locked_part(
    fd: int, *, start: int = 0, length: int = WHOLE_BYTES, unless_shared: bool = False
) -> LockedPart | None:
    """Return a part of an image that is open and overlaps this one, or ``None``.

    Locks nothing, and needs no right to write. ``unless_shared``: readers do not count.
    """
    asked = _flock(fcntl.F_RDLCK if unless_shared else fcntl.F_WRLCK, start, length)
    kind, _, first, found, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    return LockedPart(kind == fcntl.F_WRLCK, found, first, pid)


def refusal(fd: int, part: LockedPart | None, path: Path) -> AlreadyOpenError:
    """Return what to raise for an image that is locked; ``part`` is :func:`locked_part`'s."""
    from strongroom.host.target.holders import holders, is_of_caller  # noqa: PLC0415 - only here

    if part is None or not part.is_foreign:
        seen = "see `strongroom list`"
        if part is not None and not is_of_caller(fd, frozenset({"OFDLCK"})):
            seen = f"not by this account: by {holders(fd, frozenset({'OFDLCK'}))}"
        return AlreadyOpenError(f"{path} is open already", hint=seen)
    who = holders(fd, frozenset({"OFDLCK", "POSIX"}), told=part.pid)
    return AlreadyOpenError(f"{path} is locked by {who}", hint=END_IT)


class HeaderLock:
    """The lock under which LUKS2 headers are read and changed, cryptsetup's own; a context manager.

    Files are locked themselves, block devices by a file in ``/run/cryptsetup``.

    Spec: cryptsetup, lib/utils_device_locking.c.
    """

    def __init__(self, fd: int, *, path: Path, wait_seconds: float = _HEADER_LOCK_SECONDS) -> None:
        """Lock; ``fd`` is the image or detached header, open in any way, ``path`` its name.

        Raises:
            AlreadyOpenError: Somebody else kept the lock for ``wait_seconds``.
            NoPermissionError: The lock file of a block device cannot be made.
            PlatformError: The file system has no such locks.
        """
        end = time.monotonic() + wait_seconds
        info = os.fstat(fd)
        self._resource: Path | None = None
        if stat.S_ISBLK(info.st_mode):
            numbers = f"L_{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
            self._resource = _LOCK_DIRECTORY / numbers
        while True:
            self._lock = _open_lock_file(fd, self._resource, path)
            try:
                _flock_until(self._lock, end, path)
            except BaseException:
                os.close(self._lock)
                raise
            # The one before us may have removed the file that we locked.
            if self._resource is None or _is_same_file(self._lock, self._resource):
                return
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Unlock."""
        if self._resource is not None and _is_same_file(self._lock, self._resource):
            self._resource.unlink(missing_ok=True)
        os.close(self._lock)


def _flock(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, OPEN_LOCK_OFFSET + start, length, 0)


def _open_lock_file(fd: int, resource: Path | None, path: Path) -> int:
    try:
        if resource is None:
            # An own open file description: a flock is shared among copies of a descriptor.
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        _LOCK_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
        return os.open(resource, flags, 0o600)
    except OSError as err:
        raise translated(err, resource or path) from err


def _flock_until(lock: int, end: float, path: Path) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() > end:
                from strongroom.host.target.holders import holders  # noqa: PLC0415 - see above

                who = holders(lock, frozenset({"FLOCK"}))
                raise AlreadyOpenError(
                    f"the header of {path} is locked by {who}", hint=END_IT
                ) from err
        except OSError as err:
            raise PlatformError(f"{path} cannot be locked: {err.strerror}") from err
        else:
            return
        time.sleep(_LOCK_POLL_SECONDS)


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False

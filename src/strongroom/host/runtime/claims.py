# SPDX-License-Identifier: Apache-2.0
"""Being a volume's host process, and which host processes live."""

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from strongroom.errors import AlreadyOpenError, PlatformError, UsageError
from strongroom.host.attach.record import number, process_started
from strongroom.host.listening import listening_at
from strongroom.host.runtime import marks, place
from strongroom.host.runtime.directory import (
    Record,
    VolumeDirectory,
    check_name,
    is_name,
    keep_log_in,
    read_record_in,
    write_record_in,
)

_CLAIM_ATTEMPTS: Final = 5
_CLAIM_PAUSE_SECONDS: Final = 0.02
_MAX_SOCKET_PATH_BYTES: Final = 107
"""sockaddr_un holds 108 bytes with the final NUL."""
_LOCK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Claim:
    """The right to be a volume's host process, held until :meth:`release` or death.

    It holds the directories open: what it writes goes there, wherever they are by then.
    """

    def __init__(
        self, directory: VolumeDirectory, descriptors: tuple[int, int, int], mark: socket.socket
    ) -> None:
        self.directory = directory
        self.mark = mark
        """Answers as the control socket does; it is there as long as this process."""
        self._root_fd, self._lock_fd, self._fd = descriptors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def write_record(self, record: Record) -> None:
        """Replace the record in one step.

        The record then names this process, so that a later command knows whether it lives.

        Raises:
            StrongroomError: There is no room, or the directory was removed.
        """
        own = {"host_pid": os.getpid(), "host_started": process_started(os.getpid())}
        with place.translating(self.directory.path):
            write_record_in(self._fd, {**record, **own})

    def open_log(self) -> IO[bytes]:
        """Open the log to append to it.

        Raises:
            StrongroomError: There is no room, or the directory was removed.
        """
        with place.translating(self.directory.log):
            fd = os.open("log", _APPEND, 0o600, dir_fd=self._fd)
        return os.fdopen(fd, "ab", buffering=0)

    def keep_log(self) -> Path | None:
        """Keep the end of the log beyond the directory, and say where, if that worked."""
        return keep_log_in(self._root_fd, self._fd, self.directory)

    def forget_log(self) -> None:
        """Remove the log of an earlier crash, as the volume has ended in order since."""
        with contextlib.suppress(OSError):
            os.unlink(self.directory.kept_log.name, dir_fd=self._root_fd)

    @contextlib.contextmanager
    def listening(self, path: Path) -> Iterator[socket.socket]:
        """Listen on a socket in the directory for the length of a block.

        Raises:
            StrongroomError: There is no room, or the directory is not where it was.
        """
        self._ensure_in_place()
        with listening_at(path) as listener:
            self._ensure_in_place()
            yield listener

    def _ensure_in_place(self) -> None:
        # A socket is made by its path only. The way there is in no other user's hands.
        where = self.directory.path
        with place.translating(where):
            if not os.path.samestat(where.lstat(), os.fstat(self._fd)):
                raise PlatformError(f"{where} is another directory now", hint="open it again")

    def release(self) -> None:
        """Remove the directory and let go of the name."""
        self.mark.close()
        if _is_same_file(self._root_fd, self.directory.name, self._fd):
            remove(self._root_fd, self.directory)
        if _is_same_file(self._root_fd, self.directory.lock.name, self._lock_fd):
            with contextlib.suppress(OSError):
                os.unlink(self.directory.lock.name, dir_fd=self._root_fd)
        for fd in (self._fd, self._lock_fd, self._root_fd):
            os.close(fd)


def claim(name: str) -> Claim:
    """Take a name for a new volume, cleaning up after a dead one that had it.

    Raises:
        AlreadyOpenError: A living host process has the name.
        NoPermissionError: The runtime directory cannot be written, or is in the hands of another
            user.
        NoSpaceError: There is no room in it.
        PlatformError: It cannot be used for another reason.
        UsageError: The name is invalid, or the runtime directory's path is too long for sockets.
    """
    directory = VolumeDirectory(check_name(name))
    shown = os.path.realpath(place.root())
    if max(map(len, map(os.fsencode, (str(directory.control_socket), f"{shown}/{name}")))) > (
        _MAX_SOCKET_PATH_BYTES
    ):
        raise UsageError(
            f"the path of {directory.control_socket} is too long for a socket",
            hint="choose a shorter name, or move STRONGROOM_RUNTIME_DIR",
        )
    with contextlib.ExitStack() as undo:
        root_fd = place.make()
        undo.callback(os.close, root_fd)
        # systemd-tmpfiles leaves a directory alone while somebody holds a lock on it.
        with contextlib.suppress(OSError):
            fcntl.flock(root_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with place.translating(directory.path):
            lock_fd = _lock_patiently(root_fd, directory)
            undo.callback(os.close, lock_fd)
            _make_anew(root_fd, directory)
            fd = place.open_below(root_fd, name, directory.path)
            undo.callback(os.close, fd)
            mark = marks.make(place.root(), name)
        undo.pop_all()
        return Claim(directory, (root_fd, lock_fd, fd), mark)


def _make_anew(root_fd: int, directory: VolumeDirectory) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory.name, 0o700, dir_fd=root_fd)
        return
    # A dead volume had the name; its traces are looked at only now that there are some.
    from strongroom.host.runtime.sweeping import clean  # noqa: PLC0415 - see above

    clean(root_fd, directory)
    os.mkdir(directory.name, 0o700, dir_fd=root_fd)


def _lock_patiently(root_fd: int, directory: VolumeDirectory) -> int:
    """Return the locked descriptor; a command that only looks holds the lock for a moment."""
    for _ in range(_CLAIM_ATTEMPTS):
        lock_fd = lock_of_dead(root_fd, directory)
        if lock_fd is not None:
            return lock_fd
        time.sleep(_CLAIM_PAUSE_SECONDS)
    raise AlreadyOpenError(
        f"a volume named {directory.name} is open already",
        hint=f"choose another name, or `strongroom close {directory.name}`",
    )


def volumes() -> tuple[VolumeDirectory, ...]:
    """Return the volumes whose host process lives, also those whose directory was removed.

    Raises:
        NoPermissionError: The runtime directory is in the hands of another user.
        PlatformError: It cannot be used.
    """
    with place.opened() as root_fd:
        names = set(marks.living(place.root()))
        if root_fd is not None:
            names |= {item.name for item in directories(root_fd) if _is_alive_in(root_fd, item)}
    return tuple(VolumeDirectory(name) for name in sorted(names))


def is_alive(directory: VolumeDirectory) -> bool:
    """Tell whether a volume's host process lives.

    Raises:
        NoPermissionError: The runtime directory is in the hands of another user.
        PlatformError: It cannot be used.
    """
    with place.opened() as root_fd:
        if root_fd is not None and _is_alive_in(root_fd, directory):
            return True
        return directory.name in marks.living(place.root())


def lock_of_dead(root_fd: int, directory: VolumeDirectory) -> int | None:
    """Return the locked descriptor of a name, or ``None`` if its volume lives.

    The lock is free if its file was removed while the volume was open. So the other signs of life
    count too, and no new file is made beside a volume that lives.

    Raises:
        OSError: The lock cannot be opened or made.
    """
    try:
        lock_fd = try_lock(root_fd, directory, create=False)
    except FileNotFoundError:
        if _has_living_host(root_fd, directory):
            return None
        lock_fd = try_lock(root_fd, directory)
    if lock_fd is not None and _has_living_host(root_fd, directory):
        os.close(lock_fd)
        return None
    return lock_fd


def directories(root_fd: int) -> tuple[VolumeDirectory, ...]:
    """Return the directories of volumes, dead or alive."""
    with os.scandir(root_fd) as entries:
        names = [item.name for item in entries if item.is_dir(follow_symlinks=False)]
    return tuple(VolumeDirectory(name) for name in sorted(names) if is_name(name))


def try_lock(root_fd: int, directory: VolumeDirectory, *, create: bool = True) -> int | None:
    """Return the locked descriptor, or ``None`` when a living process has the lock.

    Raises:
        FileNotFoundError: There is no lock, and none is to be made.
        OSError: It cannot be opened or made.
    """
    name = directory.lock.name
    flags = _LOCK | (os.O_CREAT if create else 0)
    while True:
        lock_fd = os.open(name, flags, 0o600, dir_fd=root_fd)
        try:
            if not stat.S_ISREG(os.fstat(lock_fd).st_mode):
                raise PlatformError(f"{directory.lock} is not a regular file")
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            return None
        except BaseException:
            os.close(lock_fd)
            raise
        # Its holder may have unlinked the file between our open and our lock: then this lock
        # guards nothing, and the one at the path is to be had anew.
        if _is_same_file(root_fd, name, lock_fd):
            return lock_fd
        os.close(lock_fd)


def remove(root_fd: int, directory: VolumeDirectory) -> None:
    """Remove a volume's directory and what is in it."""
    import shutil  # noqa: PLC0415 - it loads three libraries for archives, and most never ask

    shutil.rmtree(directory.name, ignore_errors=True, dir_fd=root_fd)


def _is_alive_in(root_fd: int, directory: VolumeDirectory) -> bool:
    try:
        lock_fd = try_lock(root_fd, directory, create=False)
    except (OSError, PlatformError):
        return _recorded_host_lives(root_fd, directory)
    if lock_fd is None:
        return True
    os.close(lock_fd)
    return _recorded_host_lives(root_fd, directory)


def _has_living_host(root_fd: int, directory: VolumeDirectory) -> bool:
    """Tell by the mark, and by the process in the record, which shows in any network namespace."""
    return directory.name in marks.living(place.root()) or _recorded_host_lives(root_fd, directory)


def _recorded_host_lives(root_fd: int, directory: VolumeDirectory) -> bool:
    try:
        fd = place.open_below(root_fd, directory.name, directory.path)
    except (OSError, PlatformError):
        return False
    try:
        record = read_record_in(fd)
    finally:
        os.close(fd)
    started = number(record, "host_started")
    return started >= 0 and process_started(number(record, "host_pid")) == started


def _is_same_file(root_fd: int, name: str, fd: int) -> bool:
    try:
        there = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(fd))

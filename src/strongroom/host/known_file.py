# SPDX-License-Identifier: Apache-2.0
"""The file ``known-enclaves`` of the state directory: read with distrust, replaced as a whole.

It has mode 0600, and is only ever replaced under the lock of ``known-enclaves.lock``: a kill leaves
the old file or the new one, and no update is lost. Nothing vouches for it, so one that others may
write is refused. What its lines mean is in :mod:`strongroom.host.known_enclaves`.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from strongroom.directories import make_durably
from strongroom.errors import NoPermissionError, NoSpaceError, PlatformError, TeeError
from strongroom.host.state import state_directory

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Some 9 000 volumes: more is not this file."""

_NAME: Final = "known-enclaves"
_LOCK: Final = f"{_NAME}.lock"
_DRAFT: Final = f".{_NAME}.new"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, a FIFO in the place of a file would hold us for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHER_WRITES: Final = stat.S_IWGRP | stat.S_IWOTH

_LOCK_SECONDS: Final = 10.0
_LOCK_POLL_SECONDS: Final = 0.01


def path() -> Path:
    """Return the file's absolute path. It need not exist."""
    return state_directory() / _NAME


def read() -> list[bytes]:
    """Return the lines of the file; none where there is no file.

    Raises:
        TeeError: It cannot be read, or may have been written by others.
    """
    try:
        directory = os.open(state_directory(), _DIRECTORY)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise _unreadable(state_directory(), err) from err
    try:
        return _read_in(directory)
    finally:
        os.close(directory)


def mentions(directory: Path, volume: str) -> bool:
    """Tell whether the file of another account names a volume. For messages only, as it is theirs.

    Nothing but its beginning is read, and no link is followed. What cannot be read names nothing.
    """
    try:
        fd = os.open(directory / _NAME, _READ)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        content = file.read(MAX_FILE_BYTES)
    wanted = volume.lower().encode() + b" "
    return any(line.startswith(wanted) for line in content.split(b"\n"))


def update(change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the lines by what ``change`` makes of them; if that is the same, write nothing.

    Raises:
        TeeError: As :func:`read`, and the state directory may be written by others.
        NoPermissionError: The state directory cannot be written.
        NoSpaceError: There is no room.
        PlatformError: It could not be written for another reason.
    """
    seen = read()
    # Who only opens volumes needs no right to write.
    if change(seen) == seen:
        return
    with _translated(), _locked_directory() as directory:
        before = _read_in(directory)
        after = change(before)
        if after != before:
            _write(directory, after)


def ensure_room(line_bytes: int) -> None:
    """Check that one more line could be written now; wait for the lock, and leave no trace.

    Raises:
        TeeError: As :func:`update`.
        NoPermissionError: The same.
        NoSpaceError: The same.
        PlatformError: The same.
    """
    with _translated(), _locked_directory() as directory:
        _write_draft(directory, [*_read_in(directory), bytes(line_bytes)])
        _remove_draft(directory)


def _read_in(directory: int) -> list[bytes]:
    # Whoever may write there may put another file in the place of ours, or take it away.
    _check(os.fstat(directory), state_directory())
    try:
        fd = os.open(_NAME, _READ, dir_fd=directory)
        try:
            content = _content(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise _unreadable(path(), err) from err
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _content(fd: int) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise TeeError(f"{path()} is not a regular file", hint=_set_aside())
    _check(status, path())
    with os.fdopen(fd, "rb", closefd=False) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise TeeError(f"{path()} is longer than {MAX_FILE_BYTES} bytes", hint=_set_aside())
    return content


def _set_aside() -> str:
    name = shlex.quote(str(path()))
    return f"put it back from a backup, or `mv {name} {name}.bad`: enclaves are trusted anew then"


def _check(status: os.stat_result, checked: Path) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise TeeError(
            f"{checked} belongs to user {status.st_uid}",
            hint="what is known of enclaves must be yours or root's; STRONGROOM_STATE_DIR moves it",
        )
    if status.st_mode & _OTHER_WRITES:
        raise TeeError(
            f"others may change {checked}: its mode is {stat.S_IMODE(status.st_mode):04o}",
            hint=f"think of who may have done so, then `chmod go-w {shlex.quote(str(checked))}`",
        )


def _unreadable(what: Path, err: OSError) -> TeeError:
    return TeeError(
        f"cannot read {what}: {err.strerror}",
        hint="it tells which enclaves are trusted; STRONGROOM_STATE_DIR moves it",
    )


@contextlib.contextmanager
def _locked_directory() -> Iterator[int]:
    """Make the state directory if need be; hold it open, and its lock."""
    make_durably(state_directory())
    with contextlib.ExitStack() as stack:
        directory = os.open(state_directory(), _DIRECTORY)
        stack.callback(os.close, directory)
        _check(os.fstat(directory), state_directory())
        lock = os.open(_LOCK, _OPEN_LOCK, 0o600, dir_fd=directory)
        stack.callback(os.close, lock)
        _lock(lock)
        yield directory


def _lock(lock: int) -> None:
    """Take the lock, which is held for one small write; its file is never removed."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() > until:
                raise PlatformError(
                    f"another process holds {path()}.lock since {_LOCK_SECONDS:.0f} seconds",
                    hint=f"it may be stopped; `fuser {path()}.lock` names it",
                ) from err
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return


def _write(directory: int, lines: list[bytes]) -> None:
    _write_draft(directory, lines)
    try:
        os.replace(_DRAFT, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        _remove_draft(directory)
        raise
    os.fsync(directory)


def _write_draft(directory: int, lines: list[bytes]) -> None:
    content = b"".join(line + b"\n" for line in lines)
    if len(content) > MAX_FILE_BYTES:
        raise NoSpaceError(f"{path()} would be longer than {MAX_FILE_BYTES} bytes")
    # Under the lock, a draft that is there was left by a process that died.
    _remove_draft(directory)
    try:
        with os.fdopen(os.open(_DRAFT, _MAKE, 0o600, dir_fd=directory), "wb") as draft:
            draft.write(content)
            draft.flush()
            os.fsync(draft.fileno())
    except OSError:
        _remove_draft(directory)
        raise


def _remove_draft(directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_DRAFT, dir_fd=directory)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        message = f"cannot write {path()}: {err.strerror}"
        match err.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise NoPermissionError(
                    message, hint="run as its owner, or set STRONGROOM_STATE_DIR"
                ) from err
            case errno.ENOSPC | errno.EDQUOT:
                raise NoSpaceError(message) from err
            case _:
                raise PlatformError(message, hint="STRONGROOM_STATE_DIR moves it") from err

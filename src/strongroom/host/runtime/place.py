# SPDX-License-Identifier: Apache-2.0
"""The runtime directory: where it is, and whether other users are kept out of it.

A user who may write there could put a socket of his own in the place of a volume's, and records
that name processes and files of his choice. So the directory is used only if it belongs to the
caller, no other user may write to it, and no other user may exchange it on the way from ``/``.
"""

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.errors import NoPermissionError, NoSpaceError, PlatformError, StrongroomError

_ROOT: Final = 0
_DEFAULT: Final = Path("/run/strongroom")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_LINKS: Final = 40
"""As many symbolic links as the kernel follows."""


def root() -> Path:
    """Return the directory of all open volumes; it need not exist.

    It is the first of these that applies:

    1. ``STRONGROOM_RUNTIME_DIR``, unless empty. A relative path counts from the current directory.
    2. ``/run/strongroom`` for root.
    3. ``strongroom`` in ``XDG_RUNTIME_DIR``, unless that is empty or relative.

    Raises:
        NoPermissionError: None applies: the user has no runtime directory.

    Spec: XDG Base Directory Specification 0.8.
    """
    chosen = os.environ.get("STRONGROOM_RUNTIME_DIR")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == _ROOT:
        return _DEFAULT
    own = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not own.is_absolute():
        raise NoPermissionError(
            f"user {os.geteuid()} has no runtime directory: XDG_RUNTIME_DIR is not set",
            hint="export STRONGROOM_RUNTIME_DIR=~/.strongroom-run",
        )
    return own / "strongroom"


@contextlib.contextmanager
def opened() -> Iterator[int | None]:
    """Give a descriptor of the runtime directory, or ``None`` if there is no such directory.

    Raises:
        NoPermissionError: It belongs to another user, other users may write there or exchange it,
            or it cannot be read.
        PlatformError: It is something else, a symbolic link for example.
    """
    place = root()
    try:
        fd = os.open(place, _DIRECTORY)
    except FileNotFoundError:
        yield None
        return
    except OSError as err:
        raise refused(err, place) from err
    try:
        _ensure_ours(os.fstat(fd), place)
        _ensure_no_other_way(place)
        yield fd
    finally:
        os.close(fd)


def make() -> int:
    """Return a descriptor of the runtime directory, which is made if it is missing.

    Raises:
        StrongroomError: As :func:`opened`, or it cannot be made.
    """
    place = root()
    with translating(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened() as fd:
        if fd is None:
            raise PlatformError(f"{place} was removed again", hint="try again")
        return os.dup(fd)


def open_below(directory: int, name: str, shown: Path) -> int:
    """Open a directory in the runtime directory, by descriptor; it must be the caller's too.

    Raises:
        FileNotFoundError: There is none.
        NoPermissionError: It belongs to another user, or other users may write there.
        OSError: It cannot be opened, or is no directory.
    """
    fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        _ensure_ours(os.fstat(fd), shown)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def translating(place: Path) -> Iterator[None]:
    """Raise the errors of the system in the block as ours; ``place`` is where they arise."""
    try:
        yield
    except OSError as err:
        raise refused(err, place) from err


def refused(err: OSError, place: Path) -> StrongroomError:
    """Return the error of ours for one of the system that arose in the runtime directory."""
    reason = err.strerror or str(err)
    if err.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(
            f"there is no room in {place}: {reason}",
            hint=f"free some space there: df {shlex.quote(str(place))}",
        )
    if err.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return NoPermissionError(f"{place} cannot be used: {reason}", hint=_elsewhere())
    return PlatformError(f"{place} cannot be used: {reason}", hint=_elsewhere())


def _elsewhere() -> str:
    """Say how to take another directory, in words that work when they are typed."""
    if os.geteuid() != _ROOT:
        return "export STRONGROOM_RUNTIME_DIR=~/.strongroom-run"
    if root() != _DEFAULT:
        return "unset STRONGROOM_RUNTIME_DIR"
    return "export STRONGROOM_RUNTIME_DIR=/root/strongroom-run"


def _ensure_ours(info: os.stat_result, place: Path) -> None:
    if info.st_uid != os.geteuid():
        raise NoPermissionError(
            f"{place} belongs to user {info.st_uid}, not to user {os.geteuid()}",
            hint=_elsewhere(),
        )
    if info.st_mode & _OTHERS_WRITE:
        raise NoPermissionError(
            f"other users may write to {place}: its mode is {stat.S_IMODE(info.st_mode):04o}",
            hint=f"chmod go-w {shlex.quote(str(place))}",
        )


def _ensure_no_other_way(place: Path, depth: int = _LINKS) -> None:
    """Check that no other user can put another directory in the place of this one.

    Raises:
        NoPermissionError: A directory or link on the way is in the hands of another user.
    """
    # Who owns the root directory can exchange all that is below it in any case. In a user
    # namespace that may be a user without a number here.
    trusted = {_ROOT, os.geteuid(), Path("/").stat().st_uid}
    for step in reversed(place.parents):
        with translating(step):
            info = step.lstat()
        is_link = stat.S_ISLNK(info.st_mode)
        is_open = not is_link and info.st_mode & _OTHERS_WRITE and not info.st_mode & stat.S_ISVTX
        if info.st_uid not in trusted or is_open or depth == 0:
            raise NoPermissionError(
                f"{step}, on the way to {place}, can be changed by other users: it belongs to user "
                f"{info.st_uid} and has the mode {stat.S_IMODE(info.st_mode):04o}",
                hint=_elsewhere(),
            )
        if is_link:
            with translating(step):
                target = step.parent / step.readlink()
            _ensure_no_other_way(target / "x", depth - 1)

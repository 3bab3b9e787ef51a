# SPDX-License-Identifier: Apache-2.0
"""Which processes hold a lock on a file, for messages; loaded only where a lock is refused.

Any program that may read a file can lock it. The kernel tells everybody which process took a flock
or a POSIX lock, but not which one has a lock of an open file description: that is in the list of
the descriptors of each process, which only its own user and root may read.

Spec: proc_locks(5), proc_pid_fdinfo(5).
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

LockKind = Literal["FLOCK", "OFDLCK", "POSIX"]

_PROC: Final = Path("/proc")
_MOST_NAMED: Final = 3


def holders(fd: int, kinds: frozenset[LockKind], *, told: int = 0) -> str:
    """Return the processes that hold locks on a file, such as "process 12 (cat) of user bob".

    Args:
        fd: The file.
        kinds: The kinds of locks that count.
        told: A process that the kernel has named already, if it has.
    """
    pids = {told} if told > 0 else {*_by_descriptors(fd, kinds)} or {*_listed(fd, kinds)}
    if not pids:
        return "another program, which does not show here"
    named = [_words(pid) for pid in sorted(pids)]
    more = [f"{len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return ", ".join((*named[:_MOST_NAMED], *more))


def is_of_caller(fd: int, kinds: frozenset[LockKind]) -> bool:
    """Tell whether a process of the caller's user holds such a lock, or no process that shows."""
    pids = {*_by_descriptors(fd, kinds)}
    return not pids or any(_uid(pid) == os.geteuid() for pid in pids)


def _by_descriptors(fd: int, kinds: frozenset[LockKind]) -> Iterator[int]:
    """Look at the descriptors of all processes that may be looked at."""
    own = os.fstat(fd)
    others = (entry for entry in _PROC.glob("[0-9]*") if entry.name != str(os.getpid()))
    for process in others:
        with suppress(OSError):
            for entry in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.path.samestat(entry.stat(), own):
                        facts = (process / "fdinfo" / entry.name).read_text()
                        if any(_kind_of(line) in kinds for line in facts.splitlines()):
                            yield int(process.name)


def _kind_of(line: str) -> str:
    words = line.split()
    return words[2] if words[:1] == ["lock:"] and len(words) > 2 else ""  # noqa: PLR2004 - its place


def _listed(fd: int, kinds: frozenset[LockKind]) -> Iterator[int]:
    """Look at the list of all locks, which is short of the owners of some."""
    info = os.fstat(fd)
    for line in (_PROC / "locks").read_text().splitlines():
        with suppress(ValueError):
            _, kind, _, _, pid, file, _, _ = line.split()  # one that waits has a word more
            major, minor, inode = file.split(":")
            device = os.makedev(int(major, 16), int(minor, 16))
            # A btrfs shows another device number here than stat does, which is anonymous.
            is_there = device == info.st_dev or not os.major(info.st_dev)
            if kind in kinds and int(inode) == info.st_ino and is_there and int(pid) > 0:
                yield int(pid)


def _uid(pid: int) -> int:
    """Return whose process it is; the caller's for one that has ended."""
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return os.geteuid()


def _words(pid: int) -> str:
    try:
        name = (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return f"process {pid}"
    user, uid = "", _uid(pid)
    if uid != os.geteuid():
        user = f" of user {uid}"
        with suppress(KeyError):
            user = f" of user {pwd.getpwuid(uid).pw_name}"
    return f"process {pid} ({name}){user}"

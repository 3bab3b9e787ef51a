# SPDX-License-Identifier: Apache-2.0
"""Holding a target for as long as it is used: locked, claimed, and what it stands on as well.

A file has an :class:`OpenLock`. A block device has one too, and is claimed with ``O_EXCL``, as the
kernel claims what it mounts: so ``mkfs``, ``mount`` and another node of the device are kept out.
The files and devices below loop devices are held with it, but only the part that the device shows.
"""

import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom.errors import AlreadyOpenError, MountedError
from strongroom.host.attach.usage import claim
from strongroom.host.target.beneath import Ground, grounds, open_ground, whole_disk_and_parts
from strongroom.host.target.contents import ensure_unused
from strongroom.host.target.locks import (
    END_IT,
    OPEN_LOCK_OFFSET,
    LockedPart,
    OpenLock,
    locked_part,
    refusal,
)

_HINT: Final = "see `strongroom list`"


class Hold:
    """The right to use an open image or header; a context manager.

    It goes with the process, and with the block. Holds that are ``shared`` do not exclude each
    other: readers of one image, and volumes with one detached header.
    """

    def __init__(self, fd: int, *, path: Path, shared: bool) -> None:
        """Hold a target.

        Args:
            fd: The target; open for writing unless ``shared``.
            path: What a message calls it.
            shared: Allow others that share it too. A block device is then claimed by the first of
                them only.

        Raises:
            MountedError: It is in use by the system: mounted, below a device, swap.
            AlreadyOpenError: Another process of Strongroom has it open, or what it stands on.
            PlatformError: It cannot be locked.
        """
        with ExitStack() as stack:
            ensure_unused(fd, path)
            stack.enter_context(OpenLock(fd, path=path, read_only=shared))
            info = os.fstat(fd)
            if stat.S_ISBLK(info.st_mode):
                _claim_device(fd, path, stack, shared=shared)
                for ground in grounds(info.st_rdev):
                    _hold_ground(ground, path, stack, shared=shared)
            self._held = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()


def ensure_header_may_change(fd: int, path: Path) -> None:
    """Refuse a header that is in use by another way than this one.

    A header may change while its volume is open, through the very file or device that is open. Two
    ways to the same bytes, such as a file and a loop device over it, have caches of their own: a
    change through one of them can undo a change through the other.

    Raises:
        AlreadyOpenError: What it stands on is open, or it is open through a device on it.
    """
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode):
        part = locked_part(fd)
        if part is not None and part.is_foreign:
            raise refusal(fd, part, path)
        if part is not None and not part.is_whole:
            raise AlreadyOpenError(
                f"{path} is open through a device that stands on it",
                hint="name the device instead; see `strongroom list`",
            )
        return
    try:
        os.close(claim(_by_descriptor(fd), called=path))
    except MountedError:
        # The volume is open on this very device, which is therefore held with what it stands on.
        return
    for ground in grounds(info.st_rdev):
        part = _open_part(ground)
        if part is not None:
            raise _stands_on(path, ground, part)


def _claim_device(fd: int, path: Path, stack: ExitStack, *, shared: bool) -> None:
    try:
        claimed = claim(_by_descriptor(fd), called=path)
    except MountedError as err:
        if shared and locked_part(fd) is not None:
            return
        if _strongroom_has(os.fstat(fd).st_rdev):
            raise AlreadyOpenError(f"{path} is open already", hint=_HINT) from err
        raise
    stack.callback(os.close, claimed)


def _hold_ground(ground: Ground, path: Path, stack: ExitStack, *, shared: bool) -> None:
    """Hold what a device stands on, or at least make sure that it is free."""
    reading = shared or ground.span.shared
    try:
        fd = open_ground(ground, os.O_RDONLY if reading else os.O_RDWR)
    except OSError:
        # Another mount namespace has it, it was deleted, or it may not be written.
        part = _open_part(ground)
        if _is_barred(part, shared=reading):
            raise _stands_on(path, ground, part) from None
        return
    stack.callback(os.close, fd)
    span = ground.span
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        _claim_ground(fd, ground, path, stack, shared=reading)
    try:
        lock = OpenLock(
            fd, path=ground.path, read_only=reading, start=span.start, length=span.length
        )
    except AlreadyOpenError as err:
        part = locked_part(fd, start=span.start, length=span.length, unless_shared=reading)
        if part is not None and part.is_foreign:
            raise AlreadyOpenError(
                f"{path} stands on {ground.path}, and {err.message}", hint=err.hint
            ) from err
        raise _stands_on(path, ground) from err
    stack.enter_context(lock)


def _claim_ground(fd: int, ground: Ground, path: Path, stack: ExitStack, *, shared: bool) -> None:
    try:
        claimed = claim(_by_descriptor(fd), called=ground.path)
    except MountedError as err:
        # Readers, and devices among which the kernel divides it, cannot all claim it.
        if _strongroom_has(os.fstat(fd).st_rdev, only_writers=shared):
            raise _stands_on(path, ground) from err
        if not shared:
            raise
        return
    stack.callback(os.close, claimed)


def _open_part(ground: Ground) -> LockedPart | None:
    """Return who has a ground open, asked of the file or, without it, of the kernel's list."""
    span = ground.span
    try:
        fd = open_ground(ground, os.O_RDONLY)
    except OSError:
        return _listed_part(ground)
    try:
        info = os.fstat(fd)
        if stat.S_ISBLK(info.st_mode) and _strongroom_has(info.st_rdev):
            return LockedPart(exclusive=True, length=span.length)
        return locked_part(fd, start=span.start, length=span.length)
    finally:
        os.close(fd)


def _listed_part(ground: Ground) -> LockedPart | None:
    """Look a file up in ``/proc/locks``, where its path leads nowhere.

    Spec: proc_locks(5).
    """
    device, inode = ground.file
    first = OPEN_LOCK_OFFSET + ground.span.start
    lines = Path("/proc/locks").read_text().splitlines()
    for line in lines:
        with suppress(ValueError, IndexError):
            _, kind, _, mode, _, file, start, end = line.split()[-8:]
            major, minor, number = file.split(":")
            # A btrfs shows another device number here than stat does, which is anonymous.
            same_device = os.makedev(int(major, 16), int(minor, 16)) == device
            if (
                kind != "OFDLCK"
                or int(number) != inode
                or not (same_device or not os.major(device))
            ):
                continue
            if int(start) < first + ground.span.length and int(end) >= first:
                return LockedPart(mode == "WRITE", int(end) - int(start) + 1)
    return None


def _is_barred(part: LockedPart | None, *, shared: bool) -> bool:
    return part is not None and (part.exclusive or not shared)


def _strongroom_has(device_number: int, *, only_writers: bool = False) -> bool:
    """Tell whether a process that we may look at has a device open under an open lock."""
    numbers = whole_disk_and_parts(device_number)
    others = (entry for entry in Path("/proc").glob("[0-9]*") if entry.name != str(os.getpid()))
    for directory in others:
        with suppress(OSError):
            for entry in (directory / "fd").iterdir():
                with suppress(OSError):
                    info = entry.stat()
                    if stat.S_ISBLK(info.st_mode) and info.st_rdev in numbers:
                        facts = (directory / "fdinfo" / entry.name).read_text()
                        if _has_open_lock(facts, only_writers=only_writers):
                            return True
    return False


def _has_open_lock(facts: str, *, only_writers: bool) -> bool:
    """Look for an open lock in the text of ``/proc/PID/fdinfo/FD``."""
    for line in facts.splitlines():
        words = line.split()
        if words and words[0] == "lock:" and "OFDLCK" in words and words[-2].isdigit():
            writes = "WRITE" in words
            if int(words[-2]) >= OPEN_LOCK_OFFSET and (writes or not only_writers):
                return True
    return False


def _stands_on(path: Path, ground: Ground, part: LockedPart | None = None) -> AlreadyOpenError:
    if part is not None and part.is_foreign:
        words = f"{path} stands on {ground.path}, which another program has locked"
        return AlreadyOpenError(words, hint=END_IT)
    return AlreadyOpenError(f"{path} stands on {ground.path}, which is open", hint=_HINT)


def _by_descriptor(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")

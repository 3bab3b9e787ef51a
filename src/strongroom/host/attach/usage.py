# SPDX-License-Identifier: Apache-2.0
"""Who uses a block device or a file: mounts, swap, devices stacked on it, open programs.

Read-only views of /proc and /sys. They see this mount namespace only; that a device is claimed
from elsewhere shows when it is opened with ``O_EXCL``, which :func:`claim` does.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from strongroom.errors import MountedError, NoPermissionError, NotFoundError
from strongroom.values import dataclass

_SYS_BLOCK: Final = Path("/sys/block")
_DEPTH_LIMIT: Final = 16
"""Deeper stacks of devices than any real one; ends a loop in a tree that changes under us."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    device_number: str
    mount_point: Path
    file_system: str
    source: str


@dataclass(frozen=True, slots=True)
class Use:
    """One user of a device. ``where`` is a mount point, a device, or a program and its pid."""

    kind: Literal["mount", "swap", "device", "process"]
    where: str

    @property
    def words(self) -> str:
        """Say it in the words of an error message."""
        words = {
            "mount": "mounted at",
            "swap": "swap on",
            "device": "used by",
            "process": "open in",
        }
        return f"{words[self.kind]} {self.where}"


def mounts() -> tuple[Mount, ...]:
    """Return the mounts of this mount namespace, oldest first.

    Spec: proc_pid_mountinfo(5).
    """
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    parsed = (_parse_mount(line) for line in lines)
    return tuple(mount for mount in parsed if mount is not None)


def device_uses(device: Path) -> tuple[Use, ...]:
    """Return mounts, swap and stacked devices of a block device, its partitions and holders.

    A device that is gone has no uses.
    """
    try:
        number = device.stat().st_rdev
    except OSError:
        return ()
    return tuple(dict.fromkeys(_uses_of_number(number, _DEPTH_LIMIT)))


def file_uses(path: Path) -> tuple[Use, ...]:
    """Return the loop devices over a file with all their uses, and swap on it."""
    info = path.stat()
    found: list[Use] = []
    for loop, backing in loops():
        with suppress(OSError):
            if os.path.samestat(Path(backing).stat(), info):
                found += [Use("device", str(loop)), *device_uses(loop)]
    for area in _swap_areas():
        with suppress(OSError):
            if os.path.samestat(area.stat(), info):
                found.append(Use("swap", str(area)))
    return tuple(dict.fromkeys(found))


def processes_with(device: Path) -> tuple[Use, ...]:
    """Return the other programs that have a block device open, as far as we may see."""
    number = device.stat().st_rdev
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        if directory.name != str(os.getpid()) and _has_open(directory, number):
            with suppress(OSError):
                name = (directory / "comm").read_text().strip()
                found.append(Use("process", f"{name} (pid {directory.name})"))
    return tuple(found)


def claim(device: Path, *, called: Path | None = None) -> int:
    """Open a block device exclusively, so that nothing can mount or claim it until it is closed.

    Args:
        device: The device.
        called: What a message calls it, by default its path.

    Returns:
        A read-only descriptor; the caller closes it.

    Raises:
        MountedError: It is mounted or claimed, perhaps in another mount namespace.
        NotFoundError: The device is gone.
        NoPermissionError: The caller may not open it.
    """
    name = called or device
    try:
        return os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as err:
        if err.errno == errno.EBUSY:
            raise in_use(name, device_uses(device)) from err
        if err.errno in {errno.EACCES, errno.EPERM}:
            raise NoPermissionError(f"no permission to open {name}") from err
        raise NotFoundError(f"{name} cannot be opened: {err.strerror}") from err


def in_use(target: Path, uses: tuple[Use, ...]) -> MountedError:
    """Build the error that names who uses ``target``."""
    named = ", ".join(use.words for use in uses)
    return MountedError(
        f"{target} is in use: {named or 'claimed by the kernel or in another mount namespace'}",
        hint="unmount it and stop what uses it first",
    )


def loops() -> Iterator[tuple[Path, str]]:
    """Yield each bound loop device with the path of its backing file as the kernel shows it."""
    for entry in sorted(_SYS_BLOCK.glob("loop*")):
        with suppress(OSError):
            backing = (entry / "loop/backing_file").read_text().rstrip("\n")
            yield Path("/dev") / entry.name, backing


def _parse_mount(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    left, right = before.split(" "), after.split(" ")
    if not separator or len(left) < 6 or len(right) < 2:  # noqa: PLR2004 - the format's columns
        return None
    return Mount(left[2], Path(_unescape(left[4])), right[0], _unescape(right[1]))


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of white space and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _uses_of_number(number: int, depth: int) -> Iterator[Use]:
    if depth == 0:
        return
    yield from _direct_uses(number)
    entry = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for partition in sorted(entry.glob("*/partition")):
        yield from _uses_of_entry(partition.parent, depth)
    above = [Path("/dev") / holder.name for holder in sorted(entry.glob("holders/*"))]
    above += [loop for loop, backing in loops() if _is_node_of(Path(backing), number)]
    for device in above:
        yield Use("device", str(device))
        yield from _uses_of_entry(_SYS_BLOCK / device.name, depth)


def _direct_uses(number: int) -> Iterator[Use]:
    name = f"{os.major(number)}:{os.minor(number)}"
    for mount in mounts():
        # A btrfs has a device number of its own, so its source has to be looked at.
        if mount.device_number == name or _is_node_of(Path(mount.source), number):
            yield Use("mount", str(mount.mount_point))
    for area in _swap_areas():
        if _is_node_of(area, number):
            yield Use("swap", str(area))


def _uses_of_entry(entry: Path, depth: int) -> Iterator[Use]:
    with suppress(OSError, ValueError):
        major, minor = (entry / "dev").read_text().split(":")
        yield from _uses_of_number(os.makedev(int(major), int(minor)), depth - 1)


def _is_node_of(path: Path, number: int) -> bool:
    if not path.is_absolute():
        return False
    try:
        info = path.stat()
    except OSError:
        return False
    return stat.S_ISBLK(info.st_mode) and info.st_rdev == number


def _swap_areas() -> tuple[Path, ...]:
    try:
        lines = Path("/proc/swaps").read_text().splitlines()[1:]
    except OSError:
        return ()
    return tuple(Path(_unescape(line.split()[0])) for line in lines if line)


def _has_open(process: Path, number: int) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                info = entry.stat()
                if stat.S_ISBLK(info.st_mode) and info.st_rdev == number:
                    return True
    return False

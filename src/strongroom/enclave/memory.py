# SPDX-License-Identifier: Apache-2.0
"""How much memory the enclave can have: what the machine has, and what its control group allows.

Read when the module is imported, which is before the namespaces and before confinement: afterwards
the group is hidden, and there is no file system to ask. What cannot be read limits nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from strongroom.units import KIB, KibiBytes
from strongroom.values import dataclass

_PROCESS: Final = Path("/proc/self")
_MOUNT_FIELDS_BEFORE_TYPE: Final = " - "


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process can have.

    Attributes:
        ram_kib: Without swap.
        total_kib: With swap: a process that needs more is ended by the kernel.
        grouped: A control group says so, and not the machine.
    """

    ram_kib: KibiBytes
    total_kib: KibiBytes
    grouped: bool


def memory_of(process: Path, *, machine_kib: int, swap_kib: int) -> Memory:
    """Return what a process can have.

    Args:
        process: Its directory below ``/proc``.
        machine_kib: The machine's memory.
        swap_kib: The machine's swap.
    """
    ram, total, grouped = machine_kib, machine_kib + swap_kib, False
    for directory, old in _groups(process):
        limit = _kib(directory / ("memory.limit_in_bytes" if old else "memory.max"))
        if limit is None:
            continue
        if old:
            both = _kib(directory / "memory.memsw.limit_in_bytes")
            swap = None if both is None else max(0, both - limit)
        else:
            swap = _kib(directory / "memory.swap.max")
        most = limit + (swap_kib if swap is None else min(swap, swap_kib))
        grouped = grouped or most < total
        ram, total = min(ram, limit), min(total, most)
    return Memory(KibiBytes(ram), KibiBytes(total), grouped)


def _groups(process: Path) -> Iterator[tuple[Path, bool]]:
    """Name the directories of the process's memory group and of those above; whether it is v1."""
    mounts = list(_mounts(process))
    for line in _lines(process / "cgroup"):
        _, controllers, path = [*line.split(":", 2), "", "", ""][:3]
        old = "memory" in controllers.split(",")
        if not old and controllers:
            continue
        for is_old, root, place in mounts:
            if is_old == old:
                yield from ((directory, old) for directory in _below(place, root, path))


def _below(place: Path, root: str, path: str) -> Iterator[Path]:
    """Name the group's directory, as far as the mount shows it, and those above up to the mount."""
    inside = PurePosixPath(path)
    # A group outside of what is mounted, as without a namespace of its own: its top is what we see.
    relative = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
    if ".." in relative.parts:
        relative = PurePosixPath()
    yield place
    for depth in range(len(relative.parts)):
        yield place.joinpath(*relative.parts[: depth + 1])


def _mounts(process: Path) -> Iterator[tuple[bool, str, Path]]:
    """Name the mounts of control groups: whether v1, what of the tree is mounted, and where."""
    for line in _lines(process / "mountinfo"):
        before, _, after = line.partition(_MOUNT_FIELDS_BEFORE_TYPE)
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:  # noqa: PLR2004 - proc_pid_mountinfo(5)
            continue
        old = kinds[0] == "cgroup" and "memory" in kinds[2].split(",")
        if old or kinds[0] == "cgroup2":
            yield old, fields[3], Path(fields[4])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _kib(path: Path) -> int | None:
    """Return a limit; ``None`` for none, and for one that is no number."""
    text = "".join(_lines(path)).strip()
    return int(text) // KIB if text.isascii() and text.isdigit() else None


def _swap_kib() -> int:
    for line in _lines(Path("/proc/meminfo")):
        words = line.split()
        if words[:1] == ["SwapTotal:"] and words[1].isdigit():
            return int(words[1])
    return 0


OWN: Final = memory_of(
    _PROCESS,
    machine_kib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // KIB,
    swap_kib=_swap_kib(),
)
"""What this process could have when it started."""

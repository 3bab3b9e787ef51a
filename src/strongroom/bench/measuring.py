# SPDX-License-Identifier: Apache-2.0
"""The groups of measurements, and how they are gone through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from strongroom.bench import files, key_derivation, nbd, scaling, volumes
from strongroom.bench.machine import Ticks, load, machine
from strongroom.bench.place import interrupted_once, place_in
from strongroom.bench.results import Result
from strongroom.bench.run import Reporter, Run
from strongroom.bench.servers import CONTESTANTS, HEADER_BYTES
from strongroom.errors import NoSpaceError, PlatformError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.bench.comparison import Comparison

FEW_ROUNDS: Final = 3
CURVE_SHARE: Final = 0.3
"""A point of a curve needs no more turns than that, and this share of the time."""


@dataclass(frozen=True, slots=True)
class Group:
    """What is measured in one go.

    Attributes:
        measure: Does it.
        about: What it is, in a few words.
        is_curve: It has many points, and is measured when it is asked for only.
        is_extra: It is measured when it is asked for only.
        most_rounds: Of what takes long by itself.
    """

    measure: Callable[[Run], Iterator[Comparison]]
    about: str
    is_curve: bool = False
    is_extra: bool = False
    most_rounds: int | None = None


Groups: TypeAlias = Mapping[str, Group]

GROUPS: Final[Groups] = {
    "nbd": Group(nbd.nbd, "reading and writing over one NBD connection; memory"),
    "latency": Group(nbd.latency, "one request at a time"),
    "cost": Group(nbd.cost, "processor time for each GiB served"),
    "file-system": Group(files.file_system, "files on a mounted file system; needs root"),
    "opening": Group(volumes.opening, "from the command to a server that answers"),
    "key-derivation": Group(key_derivation.key_derivation, "Argon2id"),
    "same-sectors": Group(nbd.same_sectors, "with 512-byte sectors on both sides", is_extra=True),
    "copying": Group(nbd.copying, "nbdcopy over two connections", is_extra=True),
    "device": Group(
        files.device, "dd and hdparm; needs root", is_extra=True, most_rounds=FEW_ROUNDS
    ),
    "request-size": Group(scaling.request_size, "512 bytes to 4 MiB", is_curve=True),
    "queue-depth": Group(scaling.queue_depth, "1 to 64 requests at once", is_curve=True),
    "connections": Group(scaling.connections, "1 to 8 clients", is_curve=True),
    "volume-size": Group(volumes.volume_size, "64 MiB to 1 TiB, sparse", is_curve=True),
    "volume-count": Group(volumes.volume_count, "1 to 32 open volumes", is_curve=True),
}


def usual(groups: Groups) -> tuple[str, ...]:
    """Return the names of the groups that are measured when none is named."""
    return tuple(name for name, group in groups.items() if not (group.is_curve or group.is_extra))


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes:
        rounds: Turns of each contestant.
        seconds: Of a turn under load.
        size_bytes: Of each export.
        directory: Where images go; ``None`` is memory.
    """

    rounds: int
    seconds: float
    size_bytes: int
    directory: Path | None = None


def measure(
    names: Sequence[str], settings: Settings, report: Reporter, groups: Groups = GROUPS
) -> Iterator[Result]:
    """Measure groups, one after the other, each in directories that go with it.

    A group that cannot be measured here gives a result that says why, and the next one follows.
    Whatever happens, nothing is left: servers end, devices and files go.

    Raises:
        NoSpaceError: The images have no room.
        NotFoundError: There is no such directory.
        NoPermissionError: The directory cannot be written to.
    """
    with interrupted_once():
        for name in names:
            yield _measured(name, groups[name], settings, report)


def _measured(name: str, group: Group, settings: Settings, report: Reporter) -> Result:
    curve = group.is_curve
    most = FEW_ROUNDS if curve else group.most_rounds
    rounds = settings.rounds if most is None else min(settings.rounds, most)
    seconds = settings.seconds * (CURVE_SHARE if curve else 1)
    with place_in(settings.directory) as place:
        check_space(place.images, settings.size_bytes)
        about, before = machine(place.images.parent), Ticks.now()
        run = Run(name, place, rounds, seconds, settings.size_bytes, report)
        comparisons: list[Comparison] = []
        try:
            for comparison in group.measure(run):
                comparisons.append(comparison)  # noqa: PERF402 - what there was before an error stays
        except PlatformError as err:
            run.leave_out(name, err.message, err.hint)
        about["load at the end"] = load()
        about["stolen by the hypervisor"] = f"{Ticks.now().stolen_since(before):.1%}"
    return Result(name, about, rounds, seconds, comparisons, run.left_out)


def check_space(directory: Path, size_bytes: int) -> None:
    """Make sure that all images have room.

    Raises:
        NoSpaceError: They do not.
    """
    needed = (len(CONTESTANTS) + 1) * (size_bytes + HEADER_BYTES)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise NoSpaceError(
            f"{directory.parent} has {free >> 20} MiB free, and {needed >> 20} MiB are needed",
            hint="name another place with --directory, or smaller exports with --size",
        )

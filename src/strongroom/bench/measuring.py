# SPDX-License-Identifier: Apache-2.0
"""How the groups of measurements are gone through."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strongroom.bench.groups import CURVE_SHARE, FEW_ROUNDS, GROUPS
from strongroom.bench.machine import Ticks, load, machine
from strongroom.bench.place import interrupted_once, place_in
from strongroom.bench.results import Result
from strongroom.bench.run import Reporter, Run
from strongroom.bench.servers import CONTESTANTS, HEADER_BYTES
from strongroom.errors import NoSpaceError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from strongroom.bench.comparison import Comparison
    from strongroom.bench.groups import Group, Groups


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

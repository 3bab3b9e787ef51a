# SPDX-License-Identifier: Apache-2.0
"""Two things measured in turn, so that what disturbs one disturbs the other too."""

import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

FIO_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Workload:
    """What fio asks an export for."""

    name: str
    pattern: str
    block: str
    depth: int


SEQUENTIAL: Final = (
    Workload("1 MiB sequential read, QD 8", "read", "1M", 8),
    Workload("1 MiB sequential write, QD 8", "write", "1M", 8),
)
RANDOM: Final = (
    Workload("4 KiB random read, QD 16", "randread", "4k", 16),
    Workload("4 KiB random write, QD 16", "randwrite", "4k", 16),
)


def fio(workload: Workload, uri: str, *, size_mib: int, seconds: float) -> float:
    """Run a workload over one connection and return bytes per second."""
    return run_fio(
        *("--ioengine=nbd", f"--uri={uri}", f"--rw={workload.pattern}", f"--bs={workload.block}"),
        *(f"--size={size_mib}M", f"--iodepth={workload.depth}", "--norandommap"),
        *("--time_based", f"--runtime={round(seconds * 1000)}ms"),
    )


def warm(uri: str, *, size_mib: int) -> None:
    """Write everything once, so that no block is unwritten and all are in the page cache."""
    run_fio(
        *("--ioengine=nbd", f"--uri={uri}", "--rw=write", "--bs=1M", f"--size={size_mib}M"),
        "--iodepth=8",
    )


def run_fio(*options: str) -> float:
    """Run one job and return the bytes per second that it read and wrote."""
    done = subprocess.run(
        ["fio", "--name=bench", "--output-format=json", "--thread", *options],
        check=True,
        capture_output=True,
        text=True,
        timeout=FIO_SECONDS,
    )
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job["read"]["bw_bytes"] + job["write"]["bw_bytes"])


@dataclass(frozen=True, slots=True)
class Pair:
    """Values of two contenders, in the order in which they were measured."""

    measure: str
    unit: str
    ours: str
    theirs: str
    values: tuple[tuple[float, float], ...]
    larger_is_better: bool = True

    def ratios(self) -> list[float]:
        """How many times better ours is, for each round."""
        pairs = self.values if self.larger_is_better else tuple((b, a) for a, b in self.values)
        return [ours / theirs for ours, theirs in pairs]

    def facts(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        ours, theirs = zip(*self.values, strict=True)
        return {
            "measure": self.measure,
            "unit": self.unit,
            "ours": {"name": self.ours, "values": ours, **spread(list(ours))},
            "theirs": {"name": self.theirs, "values": theirs, **spread(list(theirs))},
            "times_better": {"values": self.ratios(), **spread(self.ratios())},
        }

    def row(self) -> str:
        """Return a row of the table."""
        ours, theirs = zip(*self.values, strict=True)
        cells = (
            self.measure,
            self.ours,
            f"{shown(list(ours))} {self.unit}",
            self.theirs,
            f"{shown(list(theirs))} {self.unit}",
            f"{shown(self.ratios())}",
        )
        return f"| {' | '.join(cells)} |"


HEADER: Final = (
    "| measure | ours | median (min to max) | other | median (min to max) | times better |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def spread(values: list[float]) -> dict[str, float]:
    """Return the extremes and the middle."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def shown(values: list[float]) -> str:
    """Return values as people read them."""
    low, middle, high = spread(values).values()
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[tuple[float, float], ...]:
    """Measure both, ``rounds`` times, never one of them twice in a row without the other."""
    return tuple((ours(), theirs()) for _ in range(rounds))

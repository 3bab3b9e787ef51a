# SPDX-License-Identifier: Apache-2.0
"""How speed changes with the size of requests, with their number, and with connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from strongroom.bench.clients import Workload, warm
from strongroom.bench.comparison import Comparison
from strongroom.bench.nbd import under_load, uris
from strongroom.bench.place import require
from strongroom.bench.servers import UNDER_PLAIN
from strongroom.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strongroom.bench.run import Run

REQUEST_BYTES: Final = tuple(512 << power for power in range(14))
DEPTHS: Final = (1, 2, 4, 8, 16, 32, 64)
CONNECTIONS: Final = (1, 2, 4, 8)
SEQUENTIAL_DEPTH: Final = 8
RANDOM_DEPTH: Final = 16
FOUR_KIB: Final = 4 * KIB

Point: TypeAlias = tuple[float, Workload]
"""Where on a curve, and the load there."""


def request_size(run: Run) -> Iterator[Comparison]:
    """Requests of 512 bytes to 4 MiB, one after the other from the start of the export."""
    for pattern in ("read", "write"):
        yield from curve(
            run,
            f"sequential {pattern}, QD {SEQUENTIAL_DEPTH}",
            [(size, Workload(pattern, size, SEQUENTIAL_DEPTH)) for size in REQUEST_BYTES],
        )


def queue_depth(run: Run) -> Iterator[Comparison]:
    """From one request at a time to 64, of 4 KiB, anywhere."""
    for pattern in ("randread", "randwrite"):
        yield from curve(
            run,
            f"4 KiB random {pattern.removeprefix('rand')}",
            [(depth, Workload(pattern, FOUR_KIB, depth)) for depth in DEPTHS],
        )


def connections(run: Run) -> Iterator[Comparison]:
    """One to eight clients at once, each with a connection of its own."""
    for pattern, size, depth in (
        ("read", MIB, SEQUENTIAL_DEPTH),
        ("write", MIB, SEQUENTIAL_DEPTH),
        ("randread", FOUR_KIB, RANDOM_DEPTH),
        ("randwrite", FOUR_KIB, RANDOM_DEPTH),
    ):
        loads = [(count, Workload(pattern, size, depth, count)) for count in CONNECTIONS]
        yield from curve(run, f"{loads[0][1].name} each", loads)


def curve(run: Run, measure: str, points: Iterable[Point]) -> Iterator[Comparison]:
    """Measure ours and the plain server at every point of a curve."""
    require("fio", "nbdinfo")
    points = list(points)
    with run.serving(UNDER_PLAIN) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        run.expect(len(points) * len(servers) * run.rounds)
        for at, workload in points:
            found = under_load(run, servers, workload)
            speeds = {name: [one.gigabytes_per_second for one in found[name]] for name in found}
            yield Comparison(run.group, measure, "GB/s", speeds, at=at)

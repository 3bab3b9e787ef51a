# SPDX-License-Identifier: Apache-2.0
"""What volumes cost: the time until one is ready, and how that grows with their size and number."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from strongroom.bench.clients import Workload, fio_nbd, size_name
from strongroom.bench.comparison import Comparison
from strongroom.bench.nbd import MEMORY
from strongroom.bench.place import require
from strongroom.bench.servers import (
    HEADER_BYTES,
    OURS,
    QEMU_ON_LUKS,
    STRONGROOM_NBD,
    UNDER_PLAIN,
    Contestant,
    Server,
)
from strongroom.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from strongroom.bench.run import Run

SIZES_BYTES: Final = (64 * MIB, GIB, 16 * GIB, 256 * GIB, 1024 * GIB)
COUNTS: Final = (1, 2, 4, 8, 16, 32)
OF_MANY_BYTES: Final = 64 * MIB
ANYWHERE: Final = Workload("randread", 4 * KIB, 16)
LEAST_OPENINGS: Final = 5
MEMORY_OVER_SIZE: Final = "memory over size"
OPENING: Final = "time to open"


def opening(run: Run) -> Iterator[Comparison]:
    """From the command to a server that answers, without the passphrase's cost."""
    require("nbdinfo")
    rounds = max(run.rounds, LEAST_OPENINGS)
    actions = {}
    for number, contestant in enumerate(run.present((STRONGROOM_NBD, QEMU_ON_LUKS))):
        image = run.place.images / f"opening{number}.img"
        contestant.prepare(run.place, image, HEADER_BYTES)
        actions[contestant.name] = partial(seconds_to_open, run, contestant, image)
    run.expect(rounds * len(actions))
    values = run.in_turn(actions, rounds)
    measure = "open to ready, cheapest KDF"
    yield Comparison(run.group, measure, "s", values, larger_is_better=False)


def seconds_to_open(run: Run, contestant: Contestant, image: Path) -> float:
    """Return how long it takes until a server is ready."""
    start = time.perf_counter()
    with contestant.serve(run.place, image, HEADER_BYTES):
        return time.perf_counter() - start


def volume_size(run: Run) -> Iterator[Comparison]:
    """Volumes of 64 MiB to 1 TiB, sparse: time to open, speed anywhere in them, memory."""
    require("fio", "nbdinfo")
    contestants = run.present(UNDER_PLAIN)
    run.expect(len(SIZES_BYTES) * len(contestants) * run.rounds)
    ours: dict[int, list[float]] = {}
    for size in SIZES_BYTES:
        with ExitStack() as stack:
            fleets = {one.name: Fleet(run, one, stack, size) for one in contestants}
            yield from of_fleets(run, fleets, count=1, at=size)
            ours[size] = [fleets[OURS].memory_mib()]
    ends = {f"{OURS}, {size_name(size)}": ours[size] for size in (SIZES_BYTES[-1], SIZES_BYTES[0])}
    yield Comparison(run.group, MEMORY_OVER_SIZE, "MiB", ends, larger_is_better=False)


def volume_count(run: Run) -> Iterator[Comparison]:
    """One to 32 open volumes: time to open one more, speed of all together, memory of all."""
    require("fio", "nbdinfo")
    contestants = run.present(UNDER_PLAIN)
    run.expect(len(COUNTS) * len(contestants) * run.rounds)
    with ExitStack() as stack:
        fleets = {one.name: Fleet(run, one, stack, OF_MANY_BYTES) for one in contestants}
        for count in COUNTS:
            yield from of_fleets(run, fleets, count=count, at=count)


def of_fleets(run: Run, fleets: dict[str, Fleet], *, count: int, at: float) -> Iterator[Comparison]:
    """Bring all to so many volumes, load each fleet in turn, and look at its memory."""
    seconds = {name: fleet.grow(count) for name, fleet in fleets.items()}
    speeds = run.in_turn({name: fleet.load for name, fleet in fleets.items()})
    memory = {name: [fleet.memory_mib()] for name, fleet in fleets.items()}
    yield Comparison(run.group, f"{ANYWHERE.name}, all at once", "GB/s", speeds, at=at)
    for measure, unit, values in ((OPENING, "s", seconds), (MEMORY, "MiB", memory)):
        yield Comparison(run.group, measure, unit, values, larger_is_better=False, at=at)


@dataclass(slots=True)
class Fleet:
    """Servers of one kind, each with a sparse volume of its own.

    Attributes:
        run: Where, and how long under load.
        contestant: What kind.
        stack: Holds the servers, and ends them.
        size_bytes: Of each volume.
    """

    run: Run
    contestant: Contestant
    stack: ExitStack
    size_bytes: int
    servers: list[Server] = field(default_factory=list)

    def grow(self, count: int) -> list[float]:
        """Open volumes until there are so many; return the seconds that each took."""
        found = []
        while len(self.servers) < count:
            kind = self.contestant.name.split()[0]
            image = self.run.place.images / f"{kind}{len(self.servers)}.img"
            self.contestant.prepare(self.run.place, image, self.size_bytes, sparse=True)
            self.stack.callback(image.unlink)
            serving = self.contestant.serve(self.run.place, image, self.size_bytes)
            start = time.perf_counter()
            self.servers.append(self.stack.enter_context(serving))
            found.append(time.perf_counter() - start)
        return found

    def load(self) -> float:
        """Read from all at once and return GB/s."""
        uris = [server.uri for server in self.servers]
        seconds = self.run.seconds
        return fio_nbd(
            self.run.place, ANYWHERE, uris, size_bytes=self.size_bytes, seconds=seconds
        ).gigabytes_per_second

    def memory_mib(self) -> float:
        """Return the memory of all."""
        return sum(server.memory_mib() for server in self.servers)

# SPDX-License-Identifier: Apache-2.0
"""What is measured over NBD: speed, latency, processor time, memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from strongroom.bench.clients import FioResult, Workload, fio_amount, fio_nbd, nbdcopy, warm
from strongroom.bench.comparison import Comparison
from strongroom.bench.place import require
from strongroom.bench.servers import (
    CONTESTANTS,
    NBDKIT_ON_LUKS,
    SMALL_SECTORS,
    UNDER_PLAIN,
    Server,
)
from strongroom.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from strongroom.bench.run import Run

SEQUENTIAL: Final = (Workload("read", MIB, 8), Workload("write", MIB, 8))
RANDOM: Final = (Workload("randread", 4 * KIB, 16), Workload("randwrite", 4 * KIB, 16))
ONE_BY_ONE: Final = (Workload("randread", 4 * KIB, 1), Workload("randwrite", 4 * KIB, 1))
COPY_CONNECTIONS: Final = 2
PATTERN_BYTES: Final = MIB
MEMORY: Final = "memory of all serving processes (PSS)"
MEMORY_OVER_TIME: Final = "memory over time"
COST_AMOUNTS: Final = ((SEQUENTIAL, 4), (RANDOM, 1))
"""Of the export's size, how much is read or written to count the processor's time."""


def nbd(run: Run) -> Iterator[Comparison]:
    """Speed over one connection, through a UNIX socket, against all others; memory afterwards."""
    require("fio", "nbdinfo")
    with run.serving(CONTESTANTS) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        early = memories(servers)
        yield from speeds(run, servers, (*SEQUENTIAL, *RANDOM))
        yield from memory(run, early, memories(servers))


def copying(run: Run) -> Iterator[Comparison]:
    """The whole export by nbdcopy, which opens several connections where it may."""
    require("fio", "nbdinfo", "nbdcopy")
    with run.serving(CONTESTANTS) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        source = patterned_file(run)
        run.expect(2 * len(servers) * run.rounds)
        for verb in ("read", "write"):
            actions = {
                name: partial(copy_speed, run, verb, server, source)
                for name, server in servers.items()
            }
            measure = f"nbdcopy, {verb} all, {COPY_CONNECTIONS} connections"
            yield Comparison(run.group, measure, "GB/s", run.in_turn(actions))


def copy_speed(run: Run, verb: str, server: Server, source: Path) -> float:
    """Copy an export once and return GB/s."""
    ends = (server.uri, "null:") if verb == "read" else (source, server.uri)
    return run.size_bytes / nbdcopy(run.place, *ends, connections=COPY_CONNECTIONS) / 1e9


def patterned_file(run: Run) -> Path:
    """Make a file of the exports' size without a block of zeroes."""
    path = run.place.images / "source"
    piece = bytes(range(1, 256)) * (PATTERN_BYTES // 255 + 1)
    with path.open("wb") as file:
        for _ in range(run.size_bytes // PATTERN_BYTES):
            file.write(piece[:PATTERN_BYTES])
    return path


def same_sectors(run: Run) -> Iterator[Comparison]:
    """The sequential part again, with the 512-byte sectors that LUKS1 has."""
    require("fio", "nbdinfo")
    with run.serving((SMALL_SECTORS, NBDKIT_ON_LUKS)) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        yield from speeds(run, servers, SEQUENTIAL, "{}, 512-byte sectors")


def latency(run: Run) -> Iterator[Comparison]:
    """How long one request takes when there is no other."""
    require("fio", "nbdinfo")
    with run.serving(UNDER_PLAIN) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        run.expect(len(ONE_BY_ONE) * len(servers) * run.rounds)
        for workload in ONE_BY_ONE:
            found = under_load(run, servers, workload)
            medians = {name: [one.median_us for one in found[name]] for name in found}
            p99s = {name: [one.p99_us for one in found[name]] for name in found}
            for what, values in (("median", medians), ("99th percentile", p99s)):
                measure = f"{workload.name}, {what}"
                yield Comparison(run.group, measure, "us", values, larger_is_better=False)


def cost(run: Run) -> Iterator[Comparison]:
    """Processor time of the serving processes for each GiB that they serve."""
    require("fio", "nbdinfo")
    with run.serving(UNDER_PLAIN) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        run.expect(4 * len(servers) * run.rounds)
        for workloads, times in COST_AMOUNTS:
            for workload in workloads:
                actions = {
                    name: partial(cpu_seconds_per_gib, run, workload, server, times)
                    for name, server in servers.items()
                }
                values = run.in_turn(actions)
                yield Comparison(
                    run.group, workload.name, "CPU s/GiB", values, larger_is_better=False
                )


def cpu_seconds_per_gib(run: Run, workload: Workload, server: Server, times: int) -> float:
    """Return what a server takes for ``times`` as many bytes as its export has."""
    amount = times * run.size_bytes
    before = server.cpu_seconds()
    fio_amount(run.place, workload, server.uri, size_bytes=run.size_bytes, amount=amount)
    return (server.cpu_seconds() - before) / (amount / GIB)


def memory(
    run: Run, early: dict[str, list[float]], late: dict[str, list[float]]
) -> Iterator[Comparison]:
    """Memory of the serving processes, and how much of it came with the load."""
    yield Comparison(run.group, MEMORY, "MiB", late, larger_is_better=False)
    ours = next(iter(late))
    own = {f"{ours} after all loads": late[ours], f"{ours} at first": early[ours]}
    yield Comparison(run.group, MEMORY_OVER_TIME, "MiB", own, larger_is_better=False)


def memories(servers: dict[str, Server]) -> dict[str, list[float]]:
    """Return the memory of each."""
    return {name: [server.memory_mib()] for name, server in servers.items()}


def speeds(
    run: Run, servers: dict[str, Server], workloads: Sequence[Workload], measure: str = "{}"
) -> Iterator[Comparison]:
    """Measure GB/s; ``measure`` has a place for the workload's name."""
    run.expect(len(workloads) * len(servers) * run.rounds)
    for workload in workloads:
        found = under_load(run, servers, workload)
        values = {name: [one.gigabytes_per_second for one in found[name]] for name in found}
        yield Comparison(run.group, measure.format(workload.name), "GB/s", values)


def under_load(
    run: Run, servers: dict[str, Server], workload: Workload
) -> dict[str, list[FioResult]]:
    """Let servers take turns under the same load."""
    return run.in_turn(
        {name: partial(fio_once, run, server, workload) for name, server in servers.items()}
    )


def fio_once(run: Run, server: Server, workload: Workload) -> FioResult:
    """Load a server for the seconds of a turn."""
    return fio_nbd(
        run.place, workload, [server.uri], size_bytes=server.size_bytes, seconds=run.seconds
    )


def uris(servers: dict[str, Server]) -> list[str]:
    """Return where all servers are."""
    return [server.uri for server in servers.values()]

# SPDX-License-Identifier: Apache-2.0
"""Programs that put load on a server, a device or a file system, and what they print."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strongroom.bench.place import CommandError
from strongroom.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from strongroom.bench.place import Place

GIGABYTE: Final = 1e9
PERCENTILES: Final = ("50.000000", "99.000000")
SEED: Final = 20  # of fio's random offsets: the same for all
SHORTEST_SECONDS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Workload:
    """What a client asks for.

    Attributes:
        pattern: As fio calls it: ``read``, ``write``, ``randread`` or ``randwrite``.
        block_bytes: Size of each request.
        depth: Requests on their way at once, on each connection.
        connections: Connections, each with a thread of its own.
    """

    pattern: str
    block_bytes: int
    depth: int
    connections: int = 1

    @property
    def name(self) -> str:
        """What it is called in a table."""
        order = "random" if self.pattern.startswith("rand") else "sequential"
        verb = self.pattern.removeprefix("rand")
        return f"{size_name(self.block_bytes)} {order} {verb}, QD {self.depth}"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of fio that say so."""
        return (
            f"--rw={self.pattern}",
            f"--bs={self.block_bytes}",
            f"--iodepth={self.depth}",
            f"--numjobs={self.connections}",
            "--norandommap",
            f"--randseed={SEED}",
        )


def size_name(size_bytes: float) -> str:
    """Return a power of two as it is spoken: ``512 B``, ``4 KiB``, ``1 TiB``."""
    amount, units = size_bytes, ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= KIB and len(units) > 1:
        amount /= KIB
        units.pop(0)
    return f"{amount:g} {units[0]}"


@dataclass(frozen=True, slots=True)
class FioResult:
    """What fio measured.

    Attributes:
        bytes_per_second: Of all its threads together.
        median_us: Half of the requests were answered in this time; microseconds.
        p99_us: And 99 of 100 in this.
    """

    bytes_per_second: float
    median_us: float
    p99_us: float

    @property
    def gigabytes_per_second(self) -> float:
        """Return the speed in 10^9 bytes per second."""
        return self.bytes_per_second / GIGABYTE


def fio_nbd(
    place: Place, workload: Workload, uris: Sequence[str], *, size_bytes: int, seconds: float
) -> FioResult:
    """Load NBD servers, all at once, for some seconds."""
    return fio(
        place,
        *("--ioengine=nbd", f"--size={size_bytes}", *timed(seconds), *workload.options),
        *(word for number, uri in enumerate(uris) for word in (f"--name=job{number}", nbd(uri))),
    )


def fio_amount(place: Place, workload: Workload, uri: str, *, size_bytes: int, amount: int) -> None:
    """Load an NBD server with a fixed amount of bytes."""
    fio(
        place,
        *("--ioengine=nbd", f"--size={size_bytes}", f"--io_size={amount}", *workload.options),
        *("--name=job", nbd(uri)),
    )


def warm(place: Place, uris: Iterable[str], size_bytes: int) -> None:
    """Write everything once, so that no block is unwritten and all are in the page cache."""
    workload = Workload("write", MIB, 8)
    for uri in uris:
        fio_amount(place, workload, uri, size_bytes=size_bytes, amount=size_bytes)


def nbd(uri: str) -> str:
    """Return fio's option for a server."""
    return f"--uri={uri}"


def timed(seconds: float) -> tuple[str, str]:
    """Return fio's options for a run of some seconds, whatever there is to do."""
    return ("--time_based", f"--runtime={round(seconds * 1000)}ms")


def fio(place: Place, *options: str) -> FioResult:
    """Run fio and return what all its jobs measured together.

    Raises:
        CommandError: It failed.
    """
    latency = ("--lat_percentiles=1", "--clat_percentiles=0", "--percentile_list=50:99")
    # What stands behind "global" goes for all jobs.
    general = (
        "--output-format=json",
        "--eta=never",
        "--name=global",
        "--thread",
        "--group_reporting",
    )
    return parse_fio(place.run("fio", *general, *latency, *options).stdout)


def parse_fio(printed: str) -> FioResult:
    """Return what fio's JSON says; libnbd and fio itself may have written lines before it.

    Raises:
        CommandError: It is not what fio prints.
    """
    try:
        jobs = json.loads(printed[printed.index("{") :])["jobs"]
        sides = [job[side] for job in jobs for side in ("read", "write")]
        speed = sum(float(side["bw_bytes"]) for side in sides)
        median, p99 = (max(_percentile(side, name) for side in sides) for name in PERCENTILES)
    except (ValueError, KeyError, TypeError) as err:
        raise CommandError(f"fio printed something else: {printed[:80]!r}") from err
    return FioResult(speed, median, p99)


def _percentile(side: dict[str, Any], name: str) -> float:
    """Return a percentile of the latency in microseconds; 0 where nothing was done."""
    found = side["lat_ns"].get("percentile", {}).get(name, 0)
    return float(found) / 1000


def nbdcopy(place: Place, source: str | Path, target: str | Path, *, connections: int) -> float:
    """Copy all of a source and return the seconds; holes are copied as well."""
    start = time.perf_counter()
    place.run(
        *("nbdcopy", "--no-extents", f"--connections={connections}", "--flush"),
        *(source, target),
    )
    return time.perf_counter() - start


def dd(place: Place, path: Path, *, mib: int) -> float:
    """Write a new file as ``dd`` does by itself, make it durable, and return GB/s."""
    path.unlink(missing_ok=True)
    count = ("bs=1M", f"count={mib}", "conv=fdatasync")
    return parse_dd(place.run("dd", "if=/dev/zero", f"of={path}", *count).stderr)


def parse_dd(printed: str) -> float:
    """Return GB/s from dd's last line.

    Raises:
        CommandError: There is none.
    """
    found = re.search(r"^(\d+) bytes .*copied, ([0-9.e+-]+) s,", printed, re.MULTILINE)
    if found is None:
        raise CommandError(f"dd printed something else: {printed[:80]!r}")
    return int(found[1]) / max(float(found[2]), SHORTEST_SECONDS) / GIGABYTE


def hdparm(place: Place, option: str, device: Path) -> float:
    """Run ``hdparm -t`` (from the device) or ``-T`` (from the cache) and return GB/s."""
    return parse_hdparm(place.run("hdparm", option, device).stdout)


def parse_hdparm(printed: str) -> float:
    """Return GB/s from what hdparm prints; its MB and kB are powers of 1024.

    Raises:
        CommandError: There is no speed in it.
    """
    found = re.search(r"Timing .* reads: .*= *([0-9.]+) ([kM])B/sec", printed)
    if found is None:
        raise CommandError(f"hdparm printed something else: {printed[:80]!r}")
    return float(found[1]) * (MIB if found[2] == "M" else KIB) / GIGABYTE

# SPDX-License-Identifier: Apache-2.0
"""What is measured over NBD, and the memory that it takes."""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.pairs import RANDOM, SEQUENTIAL, Pair, Workload, fio, in_turn, warm
from bench.servers import Place, Server, nbdkit_file, nbdkit_luks, qemu_nbd_luks, strongroom

GIGABYTE: Final = 1e9


def nbd(place: Place, *, rounds: int, seconds: float, size_mib: int) -> Iterator[Pair]:
    """Read and write over one connection, through a UNIX socket, against three other servers."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(strongroom(place, size_mib))
        plain = stack.enter_context(nbdkit_file(place, size_mib))
        nbdkit = stack.enter_context(nbdkit_luks(place, size_mib))
        qemu = stack.enter_context(qemu_nbd_luks(place, size_mib))
        for server in (ours, plain, nbdkit, qemu):
            warm(server.uri, size_mib=size_mib)
        for workload in (*SEQUENTIAL, *RANDOM):
            speed = partial(gigabytes_per_second, workload, size_mib=size_mib, seconds=seconds)
            for other in (nbdkit, qemu, plain):
                values = in_turn(partial(speed, ours), partial(speed, other), rounds)
                yield Pair(workload.name, "GB/s", ours.name, other.name, values)
        for other in (nbdkit, qemu, plain):
            yield memory(ours, other)


def same_sectors(place: Place, *, rounds: int, seconds: float, size_mib: int) -> Iterator[Pair]:
    """The sequential part again, with the 512-byte sectors that LUKS1 has."""
    with strongroom(place, size_mib, 512) as ours, nbdkit_luks(place, size_mib) as nbdkit:
        for server in (ours, nbdkit):
            warm(server.uri, size_mib=size_mib)
        for workload in SEQUENTIAL:
            speed = partial(gigabytes_per_second, workload, size_mib=size_mib, seconds=seconds)
            values = in_turn(partial(speed, ours), partial(speed, nbdkit), rounds)
            yield Pair(workload.name, "GB/s", ours.name, nbdkit.name, values)


def gigabytes_per_second(
    workload: Workload, server: Server, *, size_mib: int, seconds: float
) -> float:
    """Run a workload once."""
    return fio(workload, server.uri, size_mib=size_mib, seconds=seconds) / GIGABYTE


def memory(ours: Server, theirs: Server) -> Pair:
    """Compare memory after the same load."""
    return Pair(
        "memory of all processes (PSS)",
        "MiB",
        ours.name,
        theirs.name,
        ((proportional_mib(ours), proportional_mib(theirs)),),
        larger_is_better=False,
    )


def proportional_mib(server: Server) -> float:
    """Return a server's memory: each process's own, and its share of what is shared."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in server.pids]
    found = [re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE) for rollup in rollups]
    return sum(int(match[1]) for match in found if match) / 1024

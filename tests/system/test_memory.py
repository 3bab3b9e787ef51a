# SPDX-License-Identifier: Apache-2.0
"""A serving pair's memory does not grow: not with the volume, with requests, or with clients.

The volume has one tebibyte, of which next to nothing is there.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.host.attach.nbd_handshake import connect
from tests.conftest import require, require_tools
from tests.harness import Operator

pytestmark = [pytest.mark.system, pytest.mark.slow]

IN_MEMORY: Final = Path("/dev/shm")
SIZE_BYTES: Final = 1 << 40
MOST_MIB: Final = 96.0
SLACK_MIB: Final = 1.5
"""Less than a byte for each request, and a hundredth of a bit for each sector of the volume."""
REQUESTS: Final = 50_000
CLIENTS: Final = 100
FIO_SECONDS: Final = 300


def run_fio(*options: str) -> None:
    """Run one job."""
    subprocess.run(
        ["fio", "--name=work", "--thread", *options],
        check=True,
        capture_output=True,
        timeout=FIO_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A volume that is open."""

    operator: Operator
    uri: str
    socket: Path
    pids: tuple[int, int]

    def memory_mib(self) -> float:
        """Return what both processes have in memory; what they share counts twice."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids]
        found = [re.search(r"^Rss: +(\d+) kB", rollup, re.MULTILINE) for rollup in rollups]
        return sum(int(match[1]) for match in found if match) / 1024

    def work(self, *, seed: int) -> None:
        """Read and write small pieces everywhere, many at a time; two connections."""
        run_fio(
            *("--ioengine=nbd", f"--uri={self.uri}", "--rw=randrw", "--rwmixread=90"),
            "--bsrange=512-8k",
            *("--blockalign=512", "--iodepth=32", "--norandommap", "--numjobs=2"),
            *("--group_reporting", "--random_generator=tausworthe64", f"--randseed={seed}"),
            *(f"--size={SIZE_BYTES - (64 << 20)}", f"--number_ios={REQUESTS // 2}"),
        )

    def visit(self) -> None:
        """Come and go, one client after the other."""
        for _ in range(CLIENTS):
            connection = connect(self.socket)
            connection.socket.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A volume of one tebibyte, in memory: what is scattered takes a disk long to store."""
    require_tools("fio")
    require(condition=IN_MEMORY.is_dir(), reason=f"no {IN_MEMORY}")
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        operator = Operator(Path(place))
        image = operator.place / "image"
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        operator.format(image, size=None)
        with operator.opened(image, "v") as facts:
            pids = (facts["host_pid"], facts["enclave_pid"])
            yield Served(operator, facts["uri"], Path(facts["socket"]), pids)


def test_memory_is_flat_over_a_tebibyte(served: Served) -> None:
    measured = [served.memory_mib()]
    for seed in (1, 2):
        served.work(seed=seed)
        served.visit()
        measured.append(served.memory_mib())
    counted = served.operator.facts("status", "v")["counters"]
    assert counted["reads"] + counted["writes"] >= 2 * REQUESTS
    print("resident: " + ", ".join(f"{mib:.1f} MiB" for mib in measured))
    assert max(measured) < MOST_MIB
    assert measured[2] - measured[1] < SLACK_MIB

# SPDX-License-Identifier: Apache-2.0
"""What a request may cost at most: a change that makes one dearer has to say so here."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.units import MIB
from tests.conftest import require, require_tools
from tests.examples import build_example
from tests.system.costs import counting
from tests.system.costs.counting import Load

pytestmark = [pytest.mark.system, pytest.mark.slow]

IN_MEMORY: Final = Path("/dev/shm")
"""A disk's cache would be warm or not."""
HEADERS_BYTES: Final = 46
"""A request and its reply; what remains is the end of the connection, shared by all."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a burst may cost."""

    load: Load
    calls: dict[str, float]
    """System calls by name. A wait for the client that was not needed may come in between."""
    allocations: float
    instructions: int
    """For 4 KiB of data, with the AES-NI backend, which takes 6680 of them. One more copy of the
    data would be 256, and the slack is less."""


SMALL: Final = {"recvfrom": 1.2, "sendmsg": 1.1, "ppoll": 0.2, "futex": 0.2}
IN_PARTS: Final = {"recvfrom": 2, "sendmsg": 2}
"""The kernel passes 64 KiB on before all of it is there."""
CHECKED: Final = {"fstat": 1}
"""Before a batch is written: a file that was cut short must not become longer again."""
ENDS: Final = dict.fromkeys(("munmap", "madvise", "mmap", "mprotect", "rt_sigprocmask"), 0.3)
"""How the second hand's thread ends is a matter of chance."""
LARGE: Final = ENDS | {"futex": 6, "ppoll": 3, "sendmsg": 1.2}

BUDGETS: Final = (
    Budget(Load("read", 4096, burst=1), SMALL | {"pread64": 1}, 0, 10_140),
    Budget(Load("write", 4096, burst=1), SMALL | CHECKED | {"pwrite64": 1}, 0, 10_070),
    Budget(Load("read", 4096, burst=16), SMALL | {"pread64": 16}, 0, 7_950),
    Budget(Load("write", 4096, burst=16), SMALL | IN_PARTS | CHECKED | {"pwrite64": 16}, 0, 7_950),
    Budget(Load("read", MIB, 1, few=4, more=12), LARGE | {"recvfrom": 1.5, "pread64": 4}, 0, 6_850),
    # How much of a payload has arrived when it is looked for is a matter of chance.
    Budget(
        Load("write", MIB, 1, few=4, more=12),
        LARGE | {"recvfrom": 9, "pwrite64": 8, "fstat": 8},
        1,
        7_750,
    ),
)


@pytest.fixture(scope="module")
def program() -> Path:
    require_tools("strace", "valgrind")
    return build_example("strongroom-data", "counted_load", "--release")


@pytest.fixture
def directory() -> Iterator[Path]:
    require(condition=IN_MEMORY.is_dir(), reason=f"no {IN_MEMORY}")
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


def name(budget: Budget) -> str:
    load = budget.load
    return f"{load.burst} {load.operation}s of {load.size_bytes}"


@pytest.mark.parametrize("budget", BUDGETS, ids=name)
def test_system_calls_and_bytes_moved(program: Path, directory: Path, budget: Budget) -> None:
    load = budget.load
    calls = counting.system_calls(program, load, directory)
    per_burst = {name: number / load.bursts for name, number in calls.count.items() if number}
    assert per_burst.keys() <= budget.calls.keys(), per_burst
    assert all(number <= budget.calls[name] for name, number in per_burst.items()), per_burst
    # Once between the client and memory, once between memory and the disk.
    moved_bytes = calls.moved_bytes / load.bursts / load.burst
    assert 2 * load.size_bytes < moved_bytes <= 2 * load.size_bytes + HEADERS_BYTES


@pytest.mark.parametrize("budget", BUDGETS, ids=name)
def test_allocations(program: Path, directory: Path, budget: Budget) -> None:
    made = counting.allocations(program, budget.load, directory)
    assert made / budget.load.bursts <= budget.allocations


@pytest.mark.parametrize("budget", BUDGETS, ids=name)
def test_instructions(program: Path, directory: Path, budget: Budget) -> None:
    load = budget.load
    executed = counting.instructions(program, load, directory)
    for_4_kib = executed / load.bursts / load.burst / (load.size_bytes / 4096)
    assert budget.instructions / 2 < for_4_kib <= budget.instructions

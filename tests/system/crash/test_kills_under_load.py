# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of enclave and host while the volume is written to."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require_fuse, require_tools
from tests.harness import Operator
from tests.system.crash.io import (
    ROADS,
    Road,
    Target,
    check_after,
    check_nothing_left,
    make_io_base,
    prepared,
    writing,
)
from tests.system.crash.remains import (
    await_true,
    descendants,
    end_all,
    processes_of,
    unmount_dead,
)
from tests.system.crash.victims import started

pytestmark = pytest.mark.system

POINTS = 24
MANY_POINTS = 100
OPENINGS = 6
AT_A_TIME = 3
TARGETS: tuple[Target, ...] = ("host", "enclave+host", "enclave")

Bases = dict[Road, Path]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    require_fuse()
    require_tools("cryptsetup", "mkfs.ext4", "e2fsck")
    operator = Operator(tmp_path_factory.mktemp("io"))
    return {road: make_io_base(operator, road) for road in ROADS}


def kill_under_load(bases: Bases, place: Path, seed: str, point: int) -> str:
    """Kill once; return what was killed, and how many rounds were flushed by then."""
    number = f"{seed}-{point:04}"
    rng = random.Random(number)
    operator, road = Operator(place), ROADS[point % len(ROADS)]
    target = TARGETS[point // len(ROADS) % len(TARGETS)]
    name = f"c{number}"
    with writing(operator, prepared(operator, bases[road]), name, road) as this:
        time.sleep(rng.uniform(0, 0.4))
        this.kill(target)
        flushed = this.rounds()
    again = name if point % 2 else f"{name}b"
    if point % 4 < 2:
        assert operator.strongroom("list", "--json").stdout.strip() == "[]"
    if road == "ext4":
        unmount_dead(this.mount_point)
    if point % 4 < 2:
        check_nothing_left(operator, name)
    check_after(this, flushed, name=again)
    return f"{number} {road}: {target} killed after {flushed} rounds"


def run_points(bases: Bases, place: Path, seed: str, points: range) -> list[str]:
    def one(point: int) -> str:
        here = place / f"i{point}"
        here.mkdir()
        try:
            line = kill_under_load(bases, here, seed, point)
        except AssertionError as err:
            raise AssertionError(f"point {point} of seed {seed}: {err}") from err
        else:
            print(line, flush=True)
            return line
        finally:
            end_all(here)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(one, points))


def test_a_kill_under_load_loses_nothing_that_was_flushed(
    bases: Bases, tmp_path: Path, seed: str
) -> None:
    lines = run_points(bases, tmp_path, seed, range(POINTS - OPENINGS))
    assert len(lines) == POINTS - OPENINGS


def ended(place: Path) -> bool:
    return processes_of(place) == []


def test_a_kill_while_opening_leaves_nothing(bases: Bases, tmp_path: Path, seed: str) -> None:
    for point in range(OPENINGS):
        rng = random.Random(f"{seed}-opening-{point}")
        place = tmp_path / f"o{point}"
        place.mkdir()
        operator, name = Operator(place), f"o{seed}-{point}"
        image = prepared(operator, bases["device"])
        key = ("--passphrase-file", operator.passphrase_file)
        command = ("open", image, name, "--attach", "fuse", *key)
        with started(operator, *command) as process:
            time.sleep(rng.uniform(0.25, 0.9))
            below = descendants(process.pid)
            for item in below if point % 2 else [item for item in below if item.is_host]:
                item.kill()
            with suppress(ProcessLookupError):
                process.kill()
        operator.strongroom("list")  # the next command
        # What was open before the kill came is no leftover. What was not ends with its command.
        if operator.strongroom("list", "--json").stdout.strip() != "[]":
            operator.close(name, check=False)
        # No record tells of an enclave that was just starting: it ends by itself when it finds
        # that its host is gone.
        await_true(partial(ended, place), "the end of an enclave without a host")
        check_nothing_left(operator, name)
        operator.open(image, name)
        operator.close(name)
        assert processes_of(place) == []


@pytest.mark.slow
def test_many_kills_under_load(bases: Bases, tmp_path: Path, seed: str) -> None:
    lines = run_points(bases, tmp_path, seed, range(1000, 1000 + MANY_POINTS))
    assert len(lines) == MANY_POINTS

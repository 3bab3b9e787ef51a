# SPDX-License-Identifier: Apache-2.0
"""Kill -9 at random moments of making volumes and changing keyslots."""

import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import Operator
from tests.system.crash.checks import SLOT_WORKS, Base, Outcome, SlotWork
from tests.system.crash.remains import end_all
from tests.system.crash.victims import VICTIMS, kill_after, kill_when_written
from tests.system.crash.volumes import SIZE

pytestmark = pytest.mark.system

POINTS = 18
MANY_POINTS = 100
AT_A_TIME = 2


def whole_time(operator: Operator, command: tuple[str | Path, ...]) -> float:
    """Return how long a command takes when nobody kills it."""
    began = time.monotonic()
    operator.strongroom(*command)
    return time.monotonic() - began


def kill_slot_work(base: Base, place: Path, number: str, work: SlotWork) -> str:
    """Kill one slot command; return what was hit and what came of it."""
    rng = random.Random(number)
    operator, image = Operator(place), base.copy(place / f"v{number[-6:]}")
    command = base.slot_command(work, image)
    victim = rng.choice(VICTIMS)
    if rng.random() < 0.5:
        hit = kill_when_written(operator, image, command, victim, rng)
    else:
        whole = whole_time(operator, base.slot_command(work, base.copy(place / "trial")))
        hit = kill_after(operator, command, victim, rng.uniform(0.3, 1.05) * whole)
    return f"slot {work}: {hit} killed, {base.check_slots(operator, image, work)}"


def kill_format(base: Base, place: Path, number: str, *, over: bool) -> str:
    """Kill one format, of a new file or over a volume; return the same."""
    rng = random.Random(number)
    operator = Operator(place)
    victim = rng.choice(VICTIMS)
    outcome: Outcome
    if over:
        image = base.copy(place / f"v{number[-6:]}")
        command = base.format_command(image, "--force")
        if rng.random() < 0.5:
            hit = kill_when_written(operator, image, command, victim, rng)
        else:
            whole = whole_time(operator, base.format_command(base.copy(place / "t"), "--force"))
            hit = kill_after(operator, command, victim, rng.uniform(0.3, 1.05) * whole)
        outcome = base.check_formatted_over(operator, image)
    else:
        image = place / "new" / "image"
        image.parent.mkdir()
        whole = whole_time(operator, base.format_command(place / "trial", "--size", SIZE))
        command = base.format_command(image, "--size", SIZE)
        hit = kill_after(operator, command, victim, rng.uniform(0.3, 1.05) * whole)
        outcome = base.check_made(operator, image)
    return f"format {'over' if over else 'new'}: {hit} killed, {outcome}"


def run_points(base: Base, place: Path, seed: str, points: Iterable[int]) -> list[str]:
    """Run kill points, some at a time; each follows from the seed and its own number alone."""

    def one(point: int) -> str:
        number = f"{seed}-{point:04}"
        here = place / str(point)
        here.mkdir()
        try:
            if point % 2:
                work = SLOT_WORKS[point // 2 % len(SLOT_WORKS)]
                return f"{number} {kill_slot_work(base, here, number, work)}"
            return f"{number} {kill_format(base, here, number, over=point % 4 == 0)}"
        except AssertionError as err:
            raise AssertionError(f"point {point} of seed {seed}: {err}") from err
        finally:
            end_all(here)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(one, points))


def test_a_kill_of_format_or_slot_work_leaves_one_of_two_states(
    base: Base, tmp_path: Path, seed: str
) -> None:
    lines = run_points(base, tmp_path, seed, range(2 * POINTS))
    print("\n".join(lines))
    assert len(lines) == 2 * POINTS


@pytest.mark.slow
def test_many_kills_of_format_and_slot_work(base: Base, tmp_path: Path, seed: str) -> None:
    lines = run_points(base, tmp_path, seed, range(1000, 1000 + MANY_POINTS))
    print("\n".join(lines))
    assert len(lines) == MANY_POINTS

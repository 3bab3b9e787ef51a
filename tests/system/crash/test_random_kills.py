# SPDX-License-Identifier: Apache-2.0
"""Kill -9 at random moments of making volumes and changing keyslots."""

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import Operator
from tests.system.crash.checks import SLOT_WORKS, Base, SlotWork
from tests.system.crash.remains import end_all
from tests.system.crash.victims import VICTIMS, kill_after, kill_when_written
from tests.system.crash.volumes import SIZE, copy_of

pytestmark = pytest.mark.system

POINTS = 18
MANY_POINTS = 100
AT_A_TIME = 2
EARLIER = 0.8
"""How much earlier the next try is when the work was quicker than its kill."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kill: everything about it follows from its number."""

    base: Base
    place: Path
    number: str

    def kill_slot_work(self, work: SlotWork) -> str:
        image = self.place / f"v{self.number[-6:]}"
        hit = self._kill(lambda image: self.base.slot_command(work, image), image)
        outcome = self.base.check_slots(Operator(self.place), image, work)
        return f"slot {work}: {hit} killed, {outcome}"

    def kill_format_over(self) -> str:
        image = self.place / f"v{self.number[-6:]}"
        hit = self._kill(lambda image: self.base.format_command(image, "--force"), image)
        outcome = self.base.check_formatted_over(Operator(self.place), image)
        return f"format over: {hit} killed, {outcome}"

    def kill_format_new(self) -> str:
        operator, rng = Operator(self.place), random.Random(self.number)
        image = self.place / "new" / "image"
        image.parent.mkdir()
        trial = self.base.format_command(self.place / "trial", "--size", SIZE)
        seconds = rng.uniform(0.3, 1) * whole_time(operator, trial)
        command, hit = self.base.format_command(image, "--size", SIZE), "nothing"
        while hit == "nothing":
            image.unlink(missing_ok=True)
            hit = kill_after(operator, command, rng.choice(VICTIMS), seconds)
            seconds *= EARLIER
        return f"format new: {hit} killed, {self.base.check_made(operator, image)}"

    def _kill(self, command: Callable[[Path], tuple[str | Path, ...]], image: Path) -> str:
        """Kill work on a copy, half of the times near its writes, until a kill came in time."""
        operator, rng = Operator(self.place), random.Random(self.number)
        near_writes = rng.random() < 0.5
        if near_writes:
            seconds = rng.expovariate(1 / 0.005)
        else:
            trial = command(copy_of(self.base.image, self.place / "trial"))
            seconds = rng.uniform(0.3, 1) * whole_time(operator, trial)
        hit = "nothing"
        while hit == "nothing":
            copy_of(self.base.image, image)
            victim, work = rng.choice(VICTIMS), command(image)
            if near_writes:
                hit = kill_when_written(operator, work, victim, image=image, seconds=seconds)
            else:
                hit = kill_after(operator, work, victim, seconds)
            seconds *= EARLIER
        return hit


def whole_time(operator: Operator, command: tuple[str | Path, ...]) -> float:
    """Return how long a command takes when nobody kills it."""
    began = time.monotonic()
    operator.strongroom(*command)
    return time.monotonic() - began


def run_points(base: Base, place: Path, seed: str, points: Iterable[int]) -> list[str]:
    """Run kill points, some at a time; each follows from the seed and its own number alone."""

    def one(point: int) -> str:
        number = f"{seed}-{point:04}"
        here = place / str(point)
        here.mkdir()
        this = Point(base, here, number)
        try:
            if point % 2:
                return f"{number} {this.kill_slot_work(SLOT_WORKS[point // 2 % 3])}"
            return f"{number} {this.kill_format_over() if point % 4 else this.kill_format_new()}"
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

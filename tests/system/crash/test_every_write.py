# SPDX-License-Identifier: Apache-2.0
"""Kill -9 right before every single write and sync of a header, one after the other."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import require_tools
from tests.harness import Operator
from tests.system.crash.checks import SLOT_WORKS, Base, Outcome, SlotWork
from tests.system.crash.remains import end_all
from tests.system.crash.tracer import Event, kill_at, record
from tests.system.crash.volumes import DATA_OFFSET_BYTES, SIZE, copy_of, opens

pytestmark = pytest.mark.system

AT_A_TIME = 3
WRITES_OF = {"change": 8, "add": 6, "remove": 6}
"""Calls of each work at least: material, both copies, wiping, each with its sync."""


@pytest.fixture(autouse=True)
def _strace() -> None:
    require_tools("strace")


def sweep(place: Path, kill: Callable[[Path, int], Outcome], points: int) -> list[Outcome]:
    """Kill at all points, some at a time, and return what came of each."""

    def one(point: int) -> Outcome:
        here = place / f"p{point}"
        here.mkdir()
        try:
            return kill(here, point)
        except AssertionError as err:
            raise AssertionError(f"call {point} of {points}: {err}") from err
        finally:
            end_all(here)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(one, range(points)))


def victim_at(point: int) -> Literal["enclave", "command"]:
    return "command" if point % 2 else "enclave"


def is_step_from(outcomes: Sequence[Outcome], *order: Outcome) -> bool:
    """Say whether all outcomes come, in this order and each once."""
    changes = [outcomes[0]]
    changes += [b for a, b in itertools.pairwise(outcomes) if a != b]
    return changes == list(order)


@pytest.mark.parametrize("work", SLOT_WORKS)
def test_slot_work_killed_at_any_call_leaves_one_of_two_states(
    base: Base, tmp_path: Path, work: SlotWork
) -> None:
    whole = base.copy(tmp_path)
    events = record(Operator(tmp_path), base.slot_command(work, whole), whole)
    assert len(events) >= WRITES_OF[work]

    def kill(here: Path, point: int) -> Outcome:
        image = here / f"w{point}"
        copy_of(base.image, image)
        operator, command = Operator(here), base.slot_command(work, image)
        if point < len(events):
            kill_at(operator, command, events[point], image, victim=victim_at(point))
        else:
            last, victim = events[-1], victim_at(point)
            kill_at(operator, command, last, image, victim=victim, moment="exit")
        # Stock tools open what the kill left, before anything of ours has repaired it.
        assert opens(operator, copy_of(image, here / "copy"), base.ways.stays)
        return base.check_slots(operator, image, work)

    outcomes = sweep(tmp_path, kill, len(events) + 1)
    print(work, outcomes)
    assert is_step_from(outcomes, "before", "after"), outcomes


def test_format_over_a_volume_killed_at_any_call(base: Base, tmp_path: Path) -> None:
    whole = base.copy(tmp_path)
    events = record(Operator(tmp_path), base.format_command(whole, "--force"), whole)

    def kill(here: Path, point: int) -> Outcome:
        image = here / f"w{point}"
        copy_of(base.image, image)
        operator, command = Operator(here), base.format_command(image, "--force")
        if point < len(events):
            kill_at(operator, command, events[point], image, victim=victim_at(point))
        else:
            last, victim = events[-1], victim_at(point)
            kill_at(operator, command, last, image, victim=victim, moment="exit")
        return base.check_formatted_over(operator, image)

    outcomes = sweep(tmp_path, kill, len(events) + 1)
    print(outcomes)
    assert is_step_from(outcomes, "before", "nothing", "after"), outcomes


@pytest.mark.parametrize("moment", ["enter", "exit"])
def test_a_new_volume_appears_in_one_step(
    base: Base, tmp_path: Path, moment: Literal["enter", "exit"]
) -> None:
    image = tmp_path / "new" / "image"
    image.parent.mkdir()
    operator = Operator(tmp_path)
    link = Event("linkat", 1, 0, "")
    command = base.format_command(image, "--size", SIZE)
    kill_at(operator, command, link, victim="command", moment=moment)
    assert base.check_made(operator, image) == ("nothing" if moment == "enter" else "after")


def test_material_that_a_kill_left_behind_is_wiped_by_the_next_change(
    base: Base, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    image = base.copy(tmp_path)
    area = base.before["keyslots"]["2"]
    start, size = area["area_offset_bytes"], area["area_size_bytes"]
    whole = base.copy(tmp_path / "whole")
    events = record(operator, base.slot_command("remove", whole), whole)
    wipe = [event for event in events if event.call == "pwrite64"][2]
    kill_at(operator, base.slot_command("remove", image), wipe, image, victim="enclave")
    with image.open("rb") as file:
        file.seek(start)
        material = file.read(size).strip(b"\0")
    assert material, "the point is that it is still there"
    operator.strongroom(*base.slot_command("change", image))
    header_area = image.read_bytes()[:DATA_OFFSET_BYTES]
    pieces = [material[at : at + 512] for at in range(0, len(material) - 512, 512)]
    assert not [piece for piece in pieces if piece in header_area]

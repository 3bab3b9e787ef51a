# SPDX-License-Identifier: Apache-2.0
"""Kill -9 while the header of an enrolled volume changes: it stays authenticated, and opens."""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.harness import CHEAP_KDF, Operator
from tests.system.crash.remains import end_all, remains
from tests.system.crash.victims import VICTIMS, kill_when_written
from tests.system.crash.volumes import SIZE, Ways, add, change, copy_of, remove

pytestmark = pytest.mark.system

Work = Literal["change", "add", "remove"]
POINTS: Final = 6
WORKS: Final[tuple[Work, ...]] = ("change", "add", "remove")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A volume at epoch 3, with ``old``, ``stays`` and ``spare``, and its machine's state."""

    image: Path
    state: Path
    ways: Ways

    def operator(self, place: Path) -> Operator:
        """Return an operator on a machine that has seen no newer header than this one."""
        place.mkdir()
        state = shutil.copytree(self.state, place / "state")
        return Operator(place, environment={"STRONGROOM_STATE_DIR": str(state)})

    def command(self, work: Work, image: Path) -> tuple[str | Path, ...]:
        """Return what is killed."""
        match work:
            case "change":
                return change(image, self.ways)
            case "add":
                return add(image, self.ways.old, self.ways.new)
            case "remove":
                return remove(image, self.ways)


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Enrolled:
    """The volume that the kills copy."""
    place = tmp_path_factory.mktemp("enrolled")
    state, ways = place / "state", Ways.at(place / "ways")
    operator = Operator(place, environment={"STRONGROOM_STATE_DIR": str(state)})
    image = place / "image"
    operator.format(image, "--passphrase-file", ways.old, *CHEAP_KDF, size=SIZE)
    for word in (ways.stays, ways.spare):
        operator.strongroom(*add(image, ways.old, word))
    return Enrolled(image, state, ways)


@pytest.mark.parametrize("number", range(POINTS))
def test_a_killed_change_leaves_one_of_two_authenticated_headers(
    enrolled: Enrolled, tmp_path: Path, seed: str, number: int
) -> None:
    rng, work = random.Random(f"{seed}-{number}"), WORKS[number % len(WORKS)]
    operator = enrolled.operator(tmp_path / "machine")
    image = tmp_path / "image"
    hit = "nothing"
    while hit == "nothing":
        copy_of(enrolled.image, image)
        shutil.copytree(enrolled.state, operator.place / "state", dirs_exist_ok=True)
        hit = kill_when_written(
            operator,
            enrolled.command(work, image),
            rng.choice(VICTIMS),
            image=image,
            seconds=rng.expovariate(1 / 0.004),
        )
    try:
        done = expect_one_of_two(enrolled, operator, image, work)
    finally:
        end_all(operator.place)
    print(f"{seed}-{number} {work}: {hit} killed, {'after' if done else 'before'}")
    assert not remains(operator.place)


def expect_one_of_two(enrolled: Enrolled, operator: Operator, image: Path, work: Work) -> bool:
    """Check a volume whose change was killed; return whether the change is in it."""
    ways = enrolled.ways
    with operator.opened(image, "v", "--passphrase-file", ways.stays) as opened:
        assert opened["authenticated"]
        epoch: int = opened["epoch"]
    assert epoch in {3, 4}
    assert operator.facts("dump", image)["authentication"]["state"] == "verified"
    ends = {
        "change": {ways.old: epoch == 3, ways.new: epoch == 4},
        "add": {ways.old: True, ways.new: epoch == 4},
        "remove": {ways.old: True, ways.spare: epoch == 3},
    }[work]
    for passphrase, works in ends.items():
        assert tried(operator, image, passphrase) == works, (work, epoch, os.fspath(passphrase))
    return epoch == 4


def tried(operator: Operator, image: Path, passphrase: Path) -> bool:
    key = ("--passphrase-file", passphrase, "--attach", "none")
    done = operator.strongroom("open", image, "w", *key, check=False)
    assert done.returncode in {0, 31}, done.stderr
    if done.returncode == 0:
        operator.close("w")
    return done.returncode == 0

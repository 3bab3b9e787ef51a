# SPDX-License-Identifier: Apache-2.0
"""Power cuts at every moment of a change of a header: no volume is lost, no passphrase locked out.

A few states of each work here, and many of each as ``long``.
"""

import os
import random
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse
from tests.harness import Operator
from tests.system.crash.power.cuts import Cutter, Disk
from tests.system.crash.power.journal import Event, Sync, SyncNames, Write
from tests.system.crash.power.judge import IMAGE, STATE, Machine
from tests.system.crash.power.recording import Recorded, laid_out, recorded
from tests.system.crash.power.scene import Cuts, Scene, put
from tests.system.crash.power.works import DONE, READ_ONLY, RECOVERY, WORKS, Work
from tests.system.crash.volumes import Ways, broken_copies

pytestmark = pytest.mark.system

FEW: Final = 1
SOME: Final = 10
MANY: Final = 150
MANY_OF_FORMAT: Final = 8
"""It writes a hundred times as often."""
AT_MOST: Final = 60
NEXT_COMMANDS: Final = 2
SECONDARY_OFFSET_BYTES: Final = 16384


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The volume that every work begins from."""
    require_fuse()
    return Scene.at(tmp_path_factory.mktemp("enrolled"))


@pytest.mark.parametrize("name", WORKS)
def test_a_power_cut_in_a_change_of_a_header(
    tmp_path: Path, enrolled: Scene, name: str, seed: str
) -> None:
    work, cuts = WORKS[name], enrolled.copy(tmp_path).record(WORKS[name])
    rng = random.Random(f"{seed}-{name}")
    states = list(cuts.states(rng, FEW))
    chosen = rng.sample(states, min(AT_MOST, len(states)))
    judged = cuts.judge(tmp_path, work, chosen)
    for disk in rng.sample(chosen, min(NEXT_COMMANDS, len(chosen))):
        run_next_command(tmp_path, cuts, work, disk)
    print(name, f"{judged.total()} of {len(states)} states", judged)


@pytest.mark.long
@pytest.mark.parametrize("name", WORKS)
def test_every_power_cut_in_a_change_of_a_header(
    tmp_path: Path, enrolled: Scene, name: str, seed: str
) -> None:
    cuts = enrolled.copy(tmp_path).record(WORKS[name])
    states = cuts.states(random.Random(f"{seed}-{name}"), MANY)
    judged = cuts.judge(tmp_path, WORKS[name], states)
    print(name, judged.total(), "states", judged)


def run_next_command(place: Path, cuts: Cuts, work: Work, disk: Disk) -> None:
    """Open what a cut left with the program itself, and judge what that leaves."""
    with put(disk, place / "cut") as here:
        key = place / "stays"
        key.write_bytes(cuts.passphrases["stays"])
        operator = Operator(place, environment={"STRONGROOM_STATE_DIR": f"{here}{STATE}"})
        image = Path(f"{here}{IMAGE}")
        options = ("--passphrase-file", key, "--accept-header-change")
        with operator.opened(image, "next", *options) as facts:
            assert facts["authenticated"]
        assert broken_copies(image) == ()
        assert cuts.machine.verdict(here, cuts.passphrases).ways in work.allowed(disk)


@pytest.mark.parametrize(
    "subsets", [FEW, pytest.param(MANY_OF_FORMAT, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_a_power_cut_in_format(tmp_path: Path, seed: str, subsets: int) -> None:
    """The volume is not there, or it opens with the passphrase and with the recovery key."""
    require_fuse()
    scene = Scene(laid_out(tmp_path), Ways.at(tmp_path / "ways"))
    cutter = Cutter(scene.disk.below)
    with recorded(tmp_path):
        scene.format()
        scene.disk.acknowledge(DONE)
    machine = Machine.at(scene.disk.below / "state")
    cuts = Cuts(cutter, scene.disk.events(), machine, scene.passphrases())
    found: Counter[str] = Counter()
    for state in cuts.states(random.Random(seed), subsets):
        if IMAGE not in state.files:
            assert DONE not in state.acknowledged
            found["nothing"] += 1
            continue
        with put(state, tmp_path / "cut") as here:
            assert machine.is_whole(here / "state"), state.moment
            recovery = (here / "keys" / "recovery").read_bytes().strip()
            words = {"old": cuts.passphrases["old"], RECOVERY: recovery}
            verdict = machine.verdict(here, words)
        assert verdict.ways == {"old", RECOVERY}, (state.moment, state.is_prefix, verdict)
        found["volume"] += 1
    print(found.total(), "states", found)
    assert found["volume"]


@pytest.mark.parametrize("subsets", [SOME, pytest.param(MANY, marks=pytest.mark.long)])
def test_only_durable_epochs_are_remembered(
    tmp_path: Path, enrolled: Scene, seed: str, subsets: int
) -> None:
    """A change is killed before its sync, the volume is opened read-only, and the power goes."""
    changed = enrolled.copy(tmp_path / "changed").record(WORKS["change"])
    scene = enrolled.copy(tmp_path / "seen")

    def act(disk: Recorded, ways: Ways) -> None:
        with disk.image.open("r+b", buffering=0) as image:
            for event in until_the_secondary(changed.events):
                if isinstance(event, Write):
                    os.pwrite(image.fileno(), event.data, event.offset)
                else:
                    os.fsync(image)
        READ_ONLY.act(disk, ways)

    work = Work(act, READ_ONLY.before, READ_ONLY.after)
    cuts = scene.record(work)
    # A header that was seen is no header that was promised: both states are right to the end.
    states = (without_marks(disk) for disk in cuts.states(random.Random(seed), subsets))
    judged = cuts.judge(tmp_path, work, states)
    print(judged.total(), "states", judged)


def until_the_secondary(events: list[Event]) -> list[Write | Sync]:
    """Return what a change does to the image, up to its secondary header and without its sync."""
    written = [event for event in events if isinstance(event, Write)]
    secondary = next(event for event in written if event.offset == SECONDARY_OFFSET_BYTES)
    own = [
        event
        for event in events[: events.index(secondary) + 1]
        if isinstance(event, Write | Sync) and event.file == secondary.file
    ]
    assert own[-1] == secondary
    return own


def without_marks(disk: Disk) -> Disk:
    return Disk(disk.moment, disk.files, disk.directories, (), disk.is_prefix)


@pytest.mark.parametrize("name", ["change", "remove"])
def test_the_judge_finds_what_a_missing_sync_loses(
    tmp_path: Path, enrolled: Scene, name: str
) -> None:
    cuts = enrolled.copy(tmp_path).record(WORKS[name])
    careless: list[Event] = [
        event for event in cuts.events if not isinstance(event, Sync | SyncNames)
    ]
    unsynced = Cuts(cuts.cutter, careless, cuts.machine, cuts.passphrases)
    with pytest.raises(AssertionError, match="moment"):
        unsynced.judge(tmp_path, WORKS[name], unsynced.states(random.Random(1), SOME))

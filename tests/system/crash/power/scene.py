# SPDX-License-Identifier: Apache-2.0
"""A volume on a recorded disk, work on it, and every state that a power cut may leave of it."""

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness import CHEAP_KDF
from tests.system.crash.power.cuts import Cutter, Disk
from tests.system.crash.power.journal import Event
from tests.system.crash.power.judge import Machine
from tests.system.crash.power.recording import Recorded, laid_out, recorded
from tests.system.crash.power.works import DONE, RECOVERY, Work
from tests.system.crash.volumes import PASSPHRASES, Ways, add

SIZE: Final = "17M"


@dataclass(frozen=True, slots=True)
class Scene:
    """A disk with a volume of four ways in, and its machine's state; nothing is mounted."""

    disk: Recorded
    ways: Ways

    @classmethod
    def at(cls, place: Path) -> "Scene":
        """Make the volume: ``old`` in keyslot 0, the recovery key in 1, ``spare``, ``stays``."""
        scene = cls(laid_out(place), Ways.at(place / "ways"))
        with recorded(place):
            scene.format()
            for word in (scene.ways.spare, scene.ways.stays):
                scene.disk.operator.strongroom(*add(scene.disk.image, scene.ways.old, word))
        return scene

    def format(self) -> None:
        """Make a volume with a passphrase and a recovery key."""
        keys = ("--passphrase-file", self.ways.old, "--recovery-key-file", self.disk.recovery)
        self.disk.operator.strongroom("format", self.disk.image, "--size", SIZE, *CHEAP_KDF, *keys)

    def copy(self, place: Path) -> "Scene":
        """Return a copy whose record is empty."""
        shutil.copytree(self.disk.below, place / "below")
        return Scene(Recorded(place), self.ways)

    def passphrases(self) -> dict[str, bytes]:
        """Return every passphrase of the works."""
        words = {word: Path(getattr(self.ways, word)).read_bytes() for word in PASSPHRASES}
        return {**words, RECOVERY: (self.disk.below / "keys" / "recovery").read_bytes().strip()}

    def record(self, work: Work) -> "Cuts":
        """Do a work on the recorded disk."""
        work.prepare(self.disk)
        cutter, machine = Cutter(self.disk.below), Machine.at(self.disk.below / "state")
        with recorded(self.disk.place):
            work.act(self.disk, self.ways)
            self.disk.acknowledge(DONE)
        return Cuts(cutter, self.disk.events(), machine, self.passphrases())


@dataclass(frozen=True, slots=True)
class Cuts:
    """The record of one work, and what it began from. It gives its states once."""

    cutter: Cutter
    events: list[Event]
    machine: Machine
    passphrases: dict[str, bytes]

    def states(self, rng: random.Random, subsets: int) -> Iterator[Disk]:
        """Return each state once: every prefix, and ``subsets`` more for each moment."""
        seen: set[bytes] = set()
        for disk in self.cutter.states(self.events, rng, subsets):
            if (digest := disk.digest()) not in seen:
                seen.add(digest)
                yield disk

    def judge(self, place: Path, work: Work, states: Iterable[Disk]) -> Counter[str]:
        """Judge states, and say how many were before and after the change.

        Raises:
            AssertionError: A passphrase that must open one of them does not, or one opens it that
                must not.
        """
        found: Counter[str] = Counter()
        for disk in states:
            with put(disk, place / "cut") as here:
                verdict = self.machine.verdict(here, self.passphrases)
            said = f"moment {disk.moment}, prefix {disk.is_prefix}, {disk.acknowledged}: {verdict}"
            assert verdict.ways in work.allowed(disk), said
            found["after" if verdict.ways == work.after else "before"] += 1
        return found


@contextmanager
def put(disk: Disk, place: Path) -> Iterator[Path]:
    """Lay a state out in a directory for the length of a block."""
    place.mkdir()
    disk.put(place)
    try:
        yield place
    finally:
        shutil.rmtree(place)

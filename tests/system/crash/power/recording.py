# SPDX-License-Identifier: Apache-2.0
"""A disk whose every write is recorded, and an operator whose image and state lie on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Operator
from tests.system.crash.power.journal import MARKS, Event, read
from tests.system.crash.remains import await_true

_DIRECTORIES = ("disk", "state", "keys")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A mounted file system that records, with an operator at work on it."""

    place: Path

    @property
    def root(self) -> Path:
        """Where it is mounted."""
        return self.place / "mounted"

    @property
    def below(self) -> Path:
        """The directory that holds the files."""
        return self.place / "below"

    @property
    def image(self) -> Path:
        return self.root / "disk" / "image"

    @property
    def recovery(self) -> Path:
        return self.root / "keys" / "recovery"

    @property
    def operator(self) -> Operator:
        state = {"STRONGROOM_STATE_DIR": str(self.root / "state")}
        return Operator(self.place, environment=state)

    def acknowledge(self, text: str) -> None:
        """Note in the record that something has been reported as done."""
        with (self.root / MARKS.lstrip("/")).open("a") as file:
            file.write(f"{text}\n")

    def events(self) -> list[Event]:
        """Return what has been recorded."""
        return read(self.place / "record")


def laid_out(place: Path) -> Recorded:
    """Make the directories of an empty disk that is not mounted yet."""
    this = Recorded(place)
    for name in _DIRECTORIES:
        (this.below / name).mkdir(parents=True, mode=0o700)
    return this


@contextmanager
def recorded(place: Path) -> Iterator[Recorded]:
    """Mount the file system that records, over what lies below ``place`` by now."""
    this = Recorded(place)
    this.root.mkdir()
    command = (this.root, this.below, place / "record")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.system.crash.power.filesystem", *map(str, command)],
        # Debian has two of them, and fuse3 brings the newer one.
        env={**os.environ, "FUSE_LIBRARY_NAME": "fuse3"},
    )
    try:
        await_true(this.root.is_mount, "the file system that records")
        yield this
    finally:
        subprocess.run(["umount", str(this.root)], check=False, timeout=60)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            subprocess.run(["umount", "--lazy", str(this.root)], check=False, timeout=60)
            server.kill()
            server.wait()

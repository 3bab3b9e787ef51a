# SPDX-License-Identifier: Apache-2.0
"""What changes a header, and which passphrases must open the volume before and after it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system.crash.power.cuts import Disk
from tests.system.crash.power.judge import IMAGE
from tests.system.crash.power.recording import Recorded
from tests.system.crash.volumes import Ways, add, change, remove

DONE: Final = "done"
"""The mark after a command that has reported its success."""
RECOVERY: Final = "recovery"
ALL: Final = frozenset({"old", "stays", "spare", RECOVERY})


@dataclass(frozen=True, slots=True)
class Work:
    """Something that changes a header.

    Attributes:
        act: Does it, on a recorded disk.
        before: The passphrases that open the volume until it is done.
        after: Those that open it from then on.
        prepare: Changes the volume before the record begins.
    """

    act: Callable[[Recorded, Ways], None]
    before: frozenset[str] = ALL
    after: frozenset[str] = ALL
    prepare: Callable[[Recorded], None] = lambda _disk: None

    def allowed(self, disk: Disk) -> tuple[frozenset[str], ...]:
        """Return the sets of passphrases one of which must open a volume in this state."""
        return (self.after,) if DONE in disk.acknowledged else (self.before, self.after)


def _slot(command: Callable[[Path, Ways], tuple[str | Path, ...]]) -> Callable[..., None]:
    def act(disk: Recorded, ways: Ways) -> None:
        disk.operator.strongroom(*command(disk.image, ways))

    return act


def _open(*options: str) -> Callable[..., None]:
    def act(disk: Recorded, ways: Ways) -> None:
        key = ("--passphrase-file", ways.stays)
        with disk.operator.opened(disk.image, "cut", *key, *options):
            pass

    return act


def _reseal(disk: Recorded, ways: Ways) -> None:
    key = ("--passphrase-file", ways.old)
    disk.operator.strongroom("reseal", disk.image, "--seal-policy", "signer", *key)


def _relabel(disk: Recorded) -> None:
    image = disk.below / IMAGE.lstrip("/")
    disk.operator.run("cryptsetup", "config", image, "--label", "another")


def _damage_primary(disk: Recorded) -> None:
    with (disk.below / IMAGE.lstrip("/")).open("r+b") as file:
        file.seek(200)
        file.write(b"damage")


WORKS: Final = {
    "change": Work(_slot(change), after=ALL - {"old"} | {"new"}),
    "add": Work(_slot(lambda image, ways: add(image, ways.old, ways.new)), after=ALL | {"new"}),
    "remove": Work(_slot(remove), after=ALL - {"spare"}),
    "reseal": Work(_reseal),
    "open": Work(_open()),
    "repair": Work(_open(), prepare=_damage_primary),
    "accept": Work(_open("--accept-header-change"), prepare=_relabel),
}
READ_ONLY: Final = Work(_open("--read-only"), after=WORKS["change"].after)
"""Of a volume whose change was killed: it may be seen before or after, and must stay open."""

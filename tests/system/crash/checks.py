# SPDX-License-Identifier: Apache-2.0
"""What must hold after a kill, for each kind of work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tests.harness import CHEAP_KDF, STOCK, Operator
from tests.system.crash.remains import remains
from tests.system.crash.volumes import (
    NOT_LUKS,
    SIZE,
    Ways,
    add,
    broken_copies,
    change,
    copy_of,
    data_digest,
    dump,
    make_base,
    opens,
    remove,
    state,
)

SlotWork: TypeAlias = Literal["change", "add", "remove"]
SLOT_WORKS: tuple[SlotWork, ...] = ("change", "add", "remove")
Outcome: TypeAlias = Literal["before", "after", "nothing"]


@dataclass(frozen=True, slots=True)
class Base:
    """A volume to copy from, and what it is before the work that is killed."""

    operator: Operator
    ways: Ways
    image: Path
    before: dict[str, Any]
    data: str

    @classmethod
    def at(cls, place: Path) -> "Base":
        operator, ways = Operator(place), Ways.at(place / "ways")
        image = make_base(operator, ways)
        return cls(operator, ways, image, dump(operator, image), data_digest(image))

    def copy(self, place: Path) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        return copy_of(self.image, place / "image")

    def slot_command(self, work: SlotWork, image: Path) -> tuple[str | Path, ...]:
        match work:
            case "change":
                return change(image, self.ways)
            case "add":
                return add(image, self.ways.stays, self.ways.new)
            case "remove":
                return remove(image, self.ways)

    def format_command(self, image: Path, *options: str) -> tuple[str | Path, ...]:
        key = ("--passphrase-file", self.ways.new)
        return ("format", image, "--no-recovery", *STOCK, *options, *CHEAP_KDF, *key)

    def check_slots(self, operator: Operator, image: Path, work: SlotWork) -> Outcome:
        """Check an image whose slot work was killed: it is in one of the two states."""
        now = state(image)
        outcome: Outcome = "before" if now == self.before else "after"
        if outcome == "after":
            self._check_changed(now, work)
        # The next command: it opens for writing, and so repairs.
        operator.open(image, image.parent.name, "--passphrase-file", self.ways.stays)
        operator.close(image.parent.name)
        assert remains(operator.place) == []
        assert broken_copies(image) == ()
        assert state(image) == now
        ways = {word: opens(operator, image, getattr(self.ways, word)) for word in EXPECTED}
        assert ways == {word: outcome in sides[work] for word, sides in EXPECTED.items()}
        operator.run("cryptsetup", "luksDump", image)
        assert data_digest(image) == self.data
        return outcome

    def check_formatted_over(self, operator: Operator, image: Path) -> Outcome:
        """Check an image whose formatting over this volume was killed: old, new, or no volume."""
        done = operator.strongroom("dump", image, check=False)
        assert remains(operator.place) == []
        assert data_digest(image) == self.data
        if done.returncode:
            assert done.returncode == NOT_LUKS, done.stderr
            return "nothing"
        is_old = state(image)["uuid"] == self.before["uuid"]
        key = self.ways.old if is_old else self.ways.new
        operator.open(image, image.parent.name, "--passphrase-file", key)
        operator.close(image.parent.name)
        assert broken_copies(image) == ()
        assert opens(operator, image, key)
        return "before" if is_old else "after"

    def check_made(self, operator: Operator, image: Path) -> Outcome:
        """Check a killed making of a new file: it is not there, or it is whole."""
        operator.strongroom("list")
        assert remains(operator.place) == []
        assert sorted(path.name for path in image.parent.iterdir()) in ([], [image.name])
        if not image.exists():
            return "nothing"
        dump(operator, image)
        assert broken_copies(image) == ()
        assert opens(operator, image, self.ways.new)
        assert image.stat().st_size == int(SIZE.removesuffix("M")) << 20
        return "after"

    def _check_changed(self, now: dict[str, Any], work: SlotWork) -> None:
        assert now["seqid"] == self.before["seqid"] + 1
        slots, before = dict(now["keyslots"]), dict(self.before["keyslots"])
        match work:
            case "change":
                assert slots.pop("0") != before.pop("0")
            case "add":
                assert "3" not in before
                del slots["3"]
            case "remove":
                del before["2"]
        assert slots == before
        same = now.keys() - {"seqid", "keyslots", "digests", "json_used_bytes"}
        assert {key: now[key] for key in same} == {key: self.before[key] for key in same}
        bound = now["digests"]["0"]["keyslots"]
        assert sorted(bound) == sorted(int(number) for number in now["keyslots"])


EXPECTED: dict[str, dict[SlotWork, tuple[Outcome, ...]]] = {
    "old": {
        "change": ("before",),
        "add": ("before", "after"),
        "remove": ("before", "after"),
    },
    "new": {"change": ("after",), "add": ("after",), "remove": ()},
    "stays": dict.fromkeys(SLOT_WORKS, ("before", "after")),
    "spare": {
        "change": ("before", "after"),
        "add": ("before", "after"),
        "remove": ("before",),
    },
}
"""In which state of which work each passphrase opens the volume."""

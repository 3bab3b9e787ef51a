# SPDX-License-Identifier: Apache-2.0
"""Volumes of cryptsetup with something in them that is not supported.

What luksDump shows, ``dump`` and ``slot list`` show; what luksHeaderBackup copies,
``header backup`` copies; and one odd keyslot keeps no other one from opening.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.interop.cryptsetup.foreign import (
    DEFAULT_OFFSET_BYTES,
    PBKDF2,
    Cryptsetup,
    Volume,
    secret,
    we_open,
)

pytestmark = pytest.mark.interop

CIPHER, REQUIREMENT, KEYSLOT_STATE = 15, 16, 5


@dataclass(frozen=True, slots=True)
class Theirs:
    """A volume that cryptsetup made, for cryptsetup to make odd."""

    operator: Operator
    cryptsetup: Cryptsetup
    volume: Volume
    key: Path
    other: Path

    @property
    def image(self) -> Path:
        return self.volume.image

    def add_key(self, *options: str) -> None:
        self.cryptsetup.run("luksAddKey", "--key-file", self.key, *options, self.image, self.other)

    def import_token(self, token: dict[str, object]) -> None:
        file = self.operator.place / "token"
        file.write_text(json.dumps(token))
        self.cryptsetup.run("token", "import", "--json-file", file, self.image)

    def listed(self) -> list[dict[str, Any]]:
        done = self.operator.strongroom("slot", "list", self.image, "--json")
        slots: list[dict[str, Any]] = json.loads(done.stdout)
        return slots

    def open_code(self, key: Path) -> tuple[int, str]:
        done = self.operator.strongroom(
            *("open", self.image, "odd", "--attach", "none", "--passphrase-file", key),
            check=False,
        )
        self.operator.close("odd", "--force", check=False)
        return done.returncode, done.stderr


@pytest.fixture
def theirs(operator: Operator, tmp_path: Path) -> Theirs:
    require_tools("cryptsetup")
    volume = Volume(tmp_path / "image")
    key, other = secret(operator, "key", "of theirs"), secret(operator, "other", "another one")
    cryptsetup = Cryptsetup(operator)
    cryptsetup.format(volume, key)
    return Theirs(operator, cryptsetup, volume, key, other)


ODD_KEYSLOT: Final[dict[str, tuple[str, ...]]] = {
    "hash sha3-256": (*PBKDF2, "--hash", "sha3-256"),
    "hash blake2s-256": (*PBKDF2, "--hash", "blake2s-256"),
    "cipher aes-cbc-plain64": (
        *(*PBKDF2, "--keyslot-cipher", "aes-cbc-plain64"),
        *("--keyslot-key-size", "256"),
    ),
}
FORGED_KEYSLOT: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "cipher serpent": lambda slot: slot["area"].update(encryption="serpent-xts-plain64"),
    "cost": lambda slot: slot["kdf"].update(iterations=4294967295),
}
"""What this machine's cryptsetup cannot make: for lack of a kernel module, or of hours."""


def change_metadata(theirs: Theirs, change: Callable[[dict[str, Any]], None]) -> None:
    """Put other metadata into both copies, where cryptsetup's command line cannot do it."""
    from tests.hostile.enrolled.scene import rewritten, tree_of  # noqa: PLC0415

    image = theirs.image.read_bytes()
    tree = tree_of(image)
    change(tree)
    theirs.image.write_bytes(rewritten(image, tree))


def make_odd(theirs: Theirs, name: str) -> None:
    """Add keyslot 1, which is not supported."""
    theirs.add_key(*ODD_KEYSLOT.get(name, PBKDF2))
    if name in FORGED_KEYSLOT:
        change_metadata(theirs, lambda tree: FORGED_KEYSLOT[name](tree["keyslots"]["1"]))


@pytest.mark.parametrize("name", [*ODD_KEYSLOT, *FORGED_KEYSLOT])
def test_one_odd_keyslot_keeps_no_other_one_from_opening(theirs: Theirs, name: str) -> None:
    make_odd(theirs, name)
    before = theirs.cryptsetup.metadata(theirs.volume)["keyslots"]["1"]
    facts = we_open(theirs.operator, theirs.volume, theirs.key)
    assert facts["keyslot"] == 0
    assert not facts["read_only"]
    assert [words for words in facts["notices"] if words.startswith("keyslot 1 is not used: ")]
    listed = theirs.listed()
    assert [(slot["keyslot"], slot["kind"], bool(slot["problem"])) for slot in listed] == [
        (0, "passphrase", False),
        (1, "unsupported", True),
    ]
    # Edits keep it, to the byte of its area.
    start, size = int(before["area"]["offset"]), int(before["area"]["size"])
    area = theirs.image.read_bytes()[start : start + size]
    new = secret(theirs.operator, "new", "the third")
    keys = ("--passphrase-file", theirs.key, "--new-passphrase-file", new)
    added = theirs.operator.facts("slot", "add", theirs.image, *keys, *CHEAP_KDF)
    assert added["keyslot"] == 2
    removal = ("slot", "remove", theirs.image, "--keyslot", "0", "--passphrase-file", new)
    theirs.operator.strongroom(*removal)
    assert theirs.cryptsetup.metadata(theirs.volume)["keyslots"]["1"] == before
    assert theirs.image.read_bytes()[start : start + size] == area
    if name in ODD_KEYSLOT:
        assert theirs.cryptsetup.opens(theirs.volume, theirs.other)


def test_the_odd_keyslot_itself_is_refused_by_name(theirs: Theirs) -> None:
    make_odd(theirs, "hash sha3-256")
    image, key = theirs.image, ("--passphrase-file", theirs.key)
    done = theirs.operator.strongroom(
        *("open", image, "odd", "--attach", "none", "--keyslot", "1", *key), check=False
    )
    assert done.returncode == CIPHER
    assert "sha3-256" in done.stderr
    removal = ("slot", "remove", image, "--keyslot", "1", *key)
    done = theirs.operator.strongroom(*removal, check=False)
    assert done.returncode == REQUIREMENT
    assert "sha3-256" in done.stderr


def test_nothing_but_an_odd_keyslot_says_why(theirs: Theirs) -> None:
    make_odd(theirs, "hash sha3-256")
    theirs.cryptsetup.run("luksKillSlot", "--key-file", theirs.other, theirs.image, "0")
    code, said = theirs.open_code(theirs.other)
    assert code == CIPHER
    assert "sha3-256" in said
    assert theirs.operator.facts("dump", theirs.image)["unsupported"]


def reencrypting(theirs: Theirs) -> None:
    theirs.cryptsetup.run(
        "reencrypt", "--init-only", *PBKDF2, "--key-file", theirs.key, theirs.image
    )


def erased(theirs: Theirs) -> None:
    theirs.cryptsetup.run("luksErase", theirs.image)


def with_requirement(theirs: Theirs) -> None:
    change_metadata(
        theirs,
        lambda tree: tree["config"].update(requirements={"mandatory": ["inline-hw-tags"]}),
    )


def with_integrity(theirs: Theirs) -> None:
    change_metadata(
        theirs,
        lambda tree: tree["segments"]["0"].update(
            integrity={
                "type": "hmac(sha256)",
                "journal_encryption": "none",
                "journal_integrity": "none",
            }
        ),
    )


def with_serpent(theirs: Theirs) -> None:
    change_metadata(
        theirs, lambda tree: tree["segments"]["0"].update(encryption="serpent-xts-plain64")
    )


def with_unknown_keyslot(theirs: Theirs) -> None:
    theirs.add_key(*PBKDF2)
    change_metadata(theirs, lambda tree: tree["keyslots"]["1"].update(type="fancy"))


def with_unknown_digest(theirs: Theirs) -> None:
    change_metadata(
        theirs,
        lambda tree: tree["digests"].update({"3": {"type": "x", "keyslots": [], "segments": []}}),
    )


def cut(theirs: Theirs) -> None:
    with theirs.image.open("r+b") as file:
        file.truncate(DEFAULT_OFFSET_BYTES)


ODD: Final[dict[str, tuple[Callable[[Theirs], None], int]]] = {
    "reencryption": (reencrypting, REQUIREMENT),
    "requirement": (with_requirement, REQUIREMENT),
    "integrity": (with_integrity, REQUIREMENT),
    "cipher": (with_serpent, CIPHER),
    "unbound key": (
        lambda it: it.add_key("--unbound", "--key-size", "384", *PBKDF2),
        0,
    ),
    "unknown keyslot": (with_unknown_keyslot, 0),
    "unknown digest": (with_unknown_digest, 0),
    "unknown token": (lambda it: it.import_token({"type": "x", "keyslots": ["0"], "n": [1]}), 0),
    "only an odd keyslot": (
        lambda it: it.cryptsetup.format(it.volume, it.key, "--hash", "sha3-256"),
        CIPHER,
    ),
    "no keyslot": (erased, KEYSLOT_STATE),
    "cut off": (cut, 13),
}
"""What is odd about a volume, and how its use ends."""


@pytest.mark.parametrize("name", ODD)
def test_what_luksdump_shows_is_shown_and_saved(theirs: Theirs, name: str) -> None:
    make, code = ODD[name]
    make(theirs)
    assert theirs.cryptsetup.dump(theirs.volume)
    expected = theirs.cryptsetup.metadata(theirs.volume)
    facts = theirs.operator.facts("dump", theirs.image)
    for section in ("keyslots", "segments", "digests", "tokens"):
        shown = {number: part["type"] for number, part in facts[section].items()}
        assert shown == {number: part["type"] for number, part in expected[section].items()}
    assert facts["config"]["requirements"] == expected["config"].get("requirements", {}).get(
        "mandatory", []
    )
    assert bool(facts["unsupported"]) == (code not in {0, KEYSLOT_STATE})
    assert [str(slot["keyslot"]) for slot in theirs.listed()] == sorted(expected["keyslots"])
    opened, said = theirs.open_code(theirs.key)
    assert opened == code, said
    ours, stock = theirs.operator.place / "ours", theirs.operator.place / "stock"
    theirs.operator.strongroom("header", "backup", theirs.image, ours)
    theirs.cryptsetup.run("luksHeaderBackup", theirs.image, "--header-backup-file", stock)
    assert ours.read_bytes() == stock.read_bytes()


def test_a_reencryption_is_resumed_by_the_command_in_the_hint(theirs: Theirs) -> None:
    reencrypting(theirs)
    code, said = theirs.open_code(theirs.key)
    assert code == REQUIREMENT
    command = said.partition("`cryptsetup ")[2].partition("`")[0].split()
    assert str(theirs.image) in command or "IMAGE" in command
    option = "--force-offline-reencrypt"
    assert option in said
    words = [str(theirs.image) if word == "IMAGE" else word for word in command]
    theirs.cryptsetup.run(*words, option, "--key-file", theirs.key)
    assert we_open(theirs.operator, theirs.volume, theirs.key)["keyslot"] >= 0


def test_a_keyslot_of_priority_ignore_opens_when_it_is_named(theirs: Theirs) -> None:
    theirs.add_key(*PBKDF2)
    for keyslot in ("0", "1"):
        priority = ("--priority", "ignore", "--key-slot", keyslot)
        theirs.cryptsetup.run("config", theirs.image, *priority)
    code, said = theirs.open_code(theirs.key)
    assert code == KEYSLOT_STATE
    assert "priority ignore" in said
    assert "--keyslot 0" in said
    facts = we_open(theirs.operator, theirs.volume, theirs.key, "--keyslot", "0")
    assert facts["keyslot"] == 0
    priority = ("--priority", "normal", "--key-slot", "1")
    theirs.cryptsetup.run("config", theirs.image, *priority)
    assert we_open(theirs.operator, theirs.volume, theirs.other)["keyslot"] == 1
    code, said = theirs.open_code(theirs.key)
    assert code == 31
    assert "--keyslot 0" in said
    refused = ("open", theirs.image, "odd", "--attach", "none", "--keyslot", "1")
    done = theirs.operator.strongroom(*refused, "--passphrase-file", theirs.key, check=False)
    assert done.returncode == 31


def test_no_keyslot_left_is_said_before_a_passphrase_is_asked_for(theirs: Theirs) -> None:
    theirs.cryptsetup.run("luksErase", theirs.image)
    done = theirs.operator.strongroom("open", theirs.image, "odd", "--attach", "none", check=False)
    assert done.returncode == KEYSLOT_STATE
    assert "no keyslot is left" in done.stderr
    assert "header restore" in done.stderr

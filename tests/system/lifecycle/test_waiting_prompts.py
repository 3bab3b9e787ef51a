# SPDX-License-Identifier: Apache-2.0
"""A prompt that waits for a person keeps no other command from the header."""

import contextlib
import json
import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import KeyslotStateError
from tests.harness import CHEAP_KDF, RUN_SECONDS, STRONGROOM, Operator

pytestmark = pytest.mark.system

NEW: Final = "a new passphrase"
SOON_SECONDS: Final = 20.0
"""Shorter than the 30 seconds for which a command waits for the header's lock."""
COMMANDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "add": (("slot", "add"), CHEAP_KDF),
    "change": (("slot", "change"), CHEAP_KDF),
    "remove": (("slot", "remove"), ("--keyslot", "1")),
    "reseal": (("reseal",), ()),
}
"""What goes before the image, and after it."""


class Typed:
    """A command on a terminal."""

    def __init__(self, operator: Operator, *command: str | Path) -> None:
        environment = {**os.environ, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(STRONGROOM, [str(STRONGROOM), *map(str, command)], environment)  # noqa: S606 - on the terminal
        self.shown = ""

    def wait_for_prompt(self) -> None:
        """Wait until the command asks for something."""
        self.shown, end = "", time.monotonic() + RUN_SECONDS
        while not self.shown.endswith(": "):
            assert time.monotonic() < end, self.shown
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.shown += os.read(self._terminal, 4096).decode()

    def answer(self, line: str) -> None:
        os.write(self._terminal, line.encode() + b"\n")

    def ended(self) -> int:
        """Return the exit code; what was shown until then is in ``shown``."""
        self.shown = ""
        with contextlib.suppress(OSError):  # the program closed its end
            while select.select([self._terminal], [], [], RUN_SECONDS)[0]:
                self.shown += os.read(self._terminal, 4096).decode()
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def image(operator: Operator, tmp_path: Path) -> Path:
    """Make a volume of two keyslots."""
    image = tmp_path / "vault.img"
    operator.format(image, size="20M")
    add_keyslot(operator, image, "the second passphrase")
    return image


def add_keyslot(operator: Operator, image: Path, passphrase: str) -> None:
    new = operator.place / "new"
    new.write_text(passphrase)
    existing = ("--passphrase-file", operator.passphrase_file)
    operator.strongroom("slot", "add", image, *existing, "--new-passphrase-file", new, *CHEAP_KDF)


def keyslots(operator: Operator, image: Path) -> list[int]:
    listed = json.loads(operator.strongroom("slot", "list", image, "--json").stdout)
    return [slot["keyslot"] for slot in listed]


@contextlib.contextmanager
def waiting(operator: Operator, image: Path, command: str) -> Iterator[Typed]:
    """Start a command and wait until it asks for a passphrase."""
    before, after = COMMANDS[command]
    typed = Typed(operator, *before, image, *after)
    try:
        typed.wait_for_prompt()
        yield typed
    except BaseException:
        os.kill(typed.pid, signal.SIGTERM)
        raise


def answered(operator: Operator, typed: Typed, command: str) -> int:
    typed.answer(operator.passphrase)
    if command in {"add", "change"}:
        for _ in ("once", "again"):
            typed.wait_for_prompt()
            typed.answer(NEW)
    return typed.ended()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_prompt_that_waits_keeps_no_other_command_waiting(
    operator: Operator, image: Path, command: str
) -> None:
    with waiting(operator, image, command) as typed:
        operator.run("cryptsetup", "luksDump", image, timeout=SOON_SECONDS)
        if command != "reseal":  # which is for volumes that are not open, and holds the volume
            with operator.opened(image, "waitingprompt"):
                pass
        add_keyslot(operator, image, "the third passphrase")
        before = image.read_bytes()
        assert answered(operator, typed, command) == KeyslotStateError.exit_code, typed.shown
    assert "nothing was changed" in typed.shown
    assert "run the command again" in typed.shown
    assert image.read_bytes() == before
    assert keyslots(operator, image) == [0, 1, 2]
    (operator.place / "third").write_text("the third passphrase")
    with operator.opened(image, "waitingprompt", "--passphrase-file", operator.place / "third"):
        pass


@pytest.mark.parametrize("command", COMMANDS)
def test_a_prompt_of_a_header_that_stays_is_answered_as_ever(
    operator: Operator, image: Path, command: str
) -> None:
    with waiting(operator, image, command) as typed:
        operator.run("cryptsetup", "luksDump", image, timeout=SOON_SECONDS)
        assert answered(operator, typed, command) == 0, typed.shown
    expected = {"add": [0, 1, 2], "remove": [0]}.get(command, [0, 1])
    assert keyslots(operator, image) == expected


def test_data_that_change_meanwhile_are_no_change_of_the_header(
    operator: Operator, tmp_path: Path
) -> None:
    """A small header lies close before the data, which an open volume writes."""
    image = tmp_path / "small.img"
    image.touch()
    os.truncate(image, 20 << 20)
    small = ("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k", "--offset", "2048")
    kdf = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    key = ("--key-file", operator.key_file)
    operator.run("cryptsetup", "luksFormat", "-q", "--type", "luks2", *small, *kdf, *key, image)
    with waiting(operator, image, "add") as typed:
        with image.open("r+b") as file:
            file.seek(1 << 20)
            file.write(os.urandom(1 << 20))
        assert answered(operator, typed, "add") == 0, typed.shown
    assert keyslots(operator, image) == [0, 1]

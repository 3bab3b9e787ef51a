# SPDX-License-Identifier: Apache-2.0
"""Passphrases as people have them: typed, from a password store, from paper."""

import os
import pty
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import PassphraseInputError, WrongPassphraseError
from tests.harness import CHEAP_KDF, STRONGROOM, Operator

pytestmark = pytest.mark.system

WRITTEN: Final[dict[str, Callable[[str], str]]] = {
    "capitals": str.upper,
    "no dashes": lambda key: key.replace("-", ""),
    "blanks": lambda key: key.replace("-", " "),
    "capitals without dashes": lambda key: key.replace("-", "").upper(),
    "a blank before and after": lambda key: f" {key} ",
    "CR LF": lambda key: f"{key}\r\n",
    "two lines": lambda key: key.replace("-", "\r\n", 4),
}


@pytest.fixture
def recovery(operator: Operator, tmp_path: Path) -> str:
    """Make ``vault.img`` and return its recovery key."""
    file = tmp_path / "recovery"
    operator.format(tmp_path / "vault.img", "--recovery-key-file", file, size="20M")
    return file.read_text().strip()


@pytest.mark.parametrize("form", WRITTEN)
def test_a_recovery_key_opens_as_it_is_written(
    operator: Operator, tmp_path: Path, recovery: str, form: str
) -> None:
    (tmp_path / "typed").write_bytes(WRITTEN[form](recovery).encode())
    typed = ("--passphrase-file", tmp_path / "typed")
    with operator.opened(tmp_path / "vault.img", "typedkey", *typed) as facts:
        assert facts["keyslot"] == 1
    changed = operator.facts(
        "slot",
        "add",
        tmp_path / "vault.img",
        "--recovery",
        *typed,
        "--recovery-key-file",
        tmp_path / "another",
    )
    assert changed["kind"] == "recovery"


def test_a_recovery_key_with_a_letter_too_few_is_told_which_group(
    operator: Operator, tmp_path: Path, recovery: str
) -> None:
    groups = recovery.split("-")
    (tmp_path / "typed").write_text("-".join([*groups[:2], groups[2][1:], *groups[3:]]))
    refused = operator.strongroom(
        *("open", tmp_path / "vault.img", "typedkey", "--attach", "none"),
        *("--passphrase-file", tmp_path / "typed"),
        check=False,
    )
    assert refused.returncode == WrongPassphraseError.exit_code
    assert "hint: not a recovery key: group 3 has 7 letters, not 8" in refused.stderr


def test_another_recovery_key_opens_nothing_in_any_form(
    operator: Operator, tmp_path: Path, recovery: str
) -> None:
    other = "".join(sorted(recovery.replace("-", ""))).upper()
    (tmp_path / "typed").write_text(other)
    refused = operator.strongroom(
        *("open", tmp_path / "vault.img", "typedkey", "--attach", "none"),
        *("--passphrase-file", tmp_path / "typed"),
        check=False,
    )
    assert refused.returncode == WrongPassphraseError.exit_code


def typed_at_a_terminal(operator: Operator, lines: list[bytes], *command: str | Path) -> int:
    """Answer each prompt with a line, as fast as a paste, and return the exit code."""
    environment = {**os.environ, "STRONGROOM_RUNTIME_DIR": str(operator.runtime), "TERM": "dumb"}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(STRONGROOM, [str(STRONGROOM), *map(str, command)], environment)  # noqa: S606 - on the terminal
    seen, deadline = b"", time.monotonic() + 60
    try:
        while True:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096)
            if lines and seen.endswith(b": "):
                seen = b""
                _write_all(terminal, lines.pop(0))
    except OSError:  # the program closed its end
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _write_all(terminal: int, line: bytes) -> None:
    while line:
        line = line[os.write(terminal, line[:256]) :]
        time.sleep(0.005)


def test_two_long_passphrases_that_a_terminal_cuts_alike_are_not_the_same(
    operator: Operator, tmp_path: Path
) -> None:
    image = tmp_path / "long.img"
    lines = [b"x" * 4500 + end + b"\n" for end in (b"AAA", b"BBB")]
    command = ("format", image, "--size", "20M", "--no-recovery", *CHEAP_KDF)
    assert typed_at_a_terminal(operator, lines, *command) == PassphraseInputError.exit_code
    assert not image.exists()


def test_the_longest_line_of_a_terminal_opens_from_a_file_too(
    operator: Operator, tmp_path: Path
) -> None:
    image, typed = tmp_path / "long.img", b"x" * 4094
    command = ("format", image, "--size", "20M", "--no-recovery", *CHEAP_KDF)
    assert typed_at_a_terminal(operator, [typed + b"\n"] * 2, *command) == 0
    (tmp_path / "typed").write_bytes(typed)
    with operator.opened(image, "longest", "--passphrase-file", tmp_path / "typed"):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("pw\nuser: me\nurl: here\n", "several lines"),
        ("pw\r\n", "a carriage return"),
        ("\r\n", "a carriage return"),
        ("p\x03w", "control characters"),
        ("x" * 5000, "more bytes than a terminal passes on"),
    ],
)
def test_what_cannot_be_typed_is_noted_wherever_a_passphrase_is_new(
    operator: Operator, tmp_path: Path, content: str, said: str
) -> None:
    image, note = tmp_path / "vault.img", f"the passphrase has {said}"
    made = ("format", image, "--size", "20M", "--no-recovery", *CHEAP_KDF, "--passphrase-file", "-")
    assert note in operator.run(STRONGROOM, *made, stdin=content).stderr
    (tmp_path / "new").write_text(content, newline="")
    new = (*CHEAP_KDF, "--new-passphrase-file", tmp_path / "new", "--passphrase-file", "-")
    for change in ("add", "change"):
        done = operator.run(STRONGROOM, "slot", change, image, *new, stdin=content)
        assert note in done.stderr, change
    opened = ("open", image, "untypable", "--attach", "none", "--passphrase-file", "-")
    done = operator.run(STRONGROOM, *opened, stdin=content)
    operator.close("untypable")
    assert note not in done.stderr

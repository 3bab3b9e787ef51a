# SPDX-License-Identifier: Apache-2.0
"""Passphrases come from files, pipes and terminals, and the terminal gets its echo back."""

import functools
import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom._core import MAX_TYPED_BYTES, Secret
from strongroom.cli import terminal
from strongroom.cli.passphrase import FilePassphrase, KeyFile, TerminalPassphrase
from strongroom.errors import (
    EmptyPassphraseError,
    NotFoundError,
    PassphraseInputError,
    WrongPassphraseError,
)
from tests.fakes.host_volumes import FakeVolumes, secret_of
from tests.unit.cli.conftest import Run

pytestmark = pytest.mark.unit


class Person:
    """Somebody at a terminal who reads prompts and answers them."""

    def __init__(self) -> None:
        self.side, self.line = os.openpty()
        self.seen = b""
        self.echoed_while_asked: list[bool] = []

    @property
    def echo(self) -> bool:
        return bool(termios.tcgetattr(self.line)[3] & termios.ECHO)

    def answers(self, *lines: bytes, to: bytes = b": ") -> threading.Thread:
        def talk() -> None:
            for number, line in enumerate(lines, start=1):
                self.reads_until(functools.partial(self._was_asked, to, number))
                self.echoed_while_asked.append(self.echo)
                os.write(self.side, line)

        thread = threading.Thread(target=talk)
        thread.start()
        return thread

    def _was_asked(self, prompt: bytes, times: int) -> bool:
        return self.seen.count(prompt) >= times

    def reads_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline, self.seen
            if select.select([self.side], [], [], 0.1)[0]:
                self.seen += os.read(self.side, 4096)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    somebody = Person()
    monkeypatch.setattr(terminal, "TERMINAL", os.ttyname(somebody.line))
    yield somebody
    os.close(somebody.side)
    os.close(somebody.line)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(terminal, "TERMINAL", str(tmp_path / "no-terminal"))


def ask(*, confirm: bool = False) -> bool:
    secret = TerminalPassphrase(lambda: None).read("Passphrase for \x1b[2J", confirm=confirm)
    return secret.equals(secret_of(b"correct horse"))


def from_file(name: Path | str, *, confirm: bool = False) -> Secret:
    return FilePassphrase(str(name), lambda _: None).read("", confirm=confirm)


@pytest.mark.parametrize("text", [b"correct horse", b"correct horse\n"])
def test_one_trailing_newline_is_dropped(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pass").write_bytes(text)
    secret = from_file(tmp_path / "pass", confirm=True)
    assert secret.equals(secret_of(b"correct horse"))


def test_only_one_newline_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "pass").write_bytes(b"correct horse\n\n")
    secret = from_file(tmp_path / "pass")
    assert secret.equals(secret_of(b"correct horse\n\n"))
    assert secret.length_bytes == len(b"correct horse\n")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        from_file(tmp_path / "missing")
    with pytest.raises(PassphraseInputError):
        from_file(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyPassphraseError):
        from_file(tmp_path / "empty")


def test_standard_input(pipe_stdin: Callable[[bytes], None]) -> None:
    pipe_stdin(b"correct horse\n")
    assert from_file("-", confirm=True).equals(secret_of(b"correct horse"))


def test_an_empty_line_and_a_writer_that_left_differ(pipe_stdin: Callable[[bytes], None]) -> None:
    pipe_stdin(b"\n")
    with pytest.raises(EmptyPassphraseError):
        from_file("-")
    pipe_stdin(b"")
    with pytest.raises(PassphraseInputError, match="closed before the passphrase came"):
        from_file("-")


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PassphraseInputError, match="standard input is closed"):
        from_file("-")


def test_a_typed_passphrase_is_not_echoed(person: Person) -> None:
    talk = person.answers(b"correct horse\n")
    assert ask()
    talk.join()
    assert person.echoed_while_asked == [False]
    assert person.echo
    assert person.seen == b"Passphrase for \\x1b[2J: "


def test_confirmation_asks_twice(person: Person) -> None:
    talk = person.answers(b"correct horse\n", b"correct horse\n")
    assert ask(confirm=True)
    talk.join()
    assert b"The same again: " in person.seen


def test_a_confirmation_that_differs_is_refused(person: Person) -> None:
    talk = person.answers(b"correct horse\n", b"correct house\n")
    with pytest.raises(PassphraseInputError, match="differ"):
        ask(confirm=True)
    talk.join()
    assert person.echo


@pytest.mark.parametrize(
    ("typed", "error"), [(b"\n", EmptyPassphraseError), (b"\x04", PassphraseInputError)]
)
def test_nothing_typed(person: Person, typed: bytes, error: type[Exception]) -> None:
    talk = person.answers(typed)
    with pytest.raises(error):
        ask()
    talk.join()
    assert person.echo


def test_raw_mode_of_a_dead_program_is_mended_while_asking(person: Person) -> None:
    raw = termios.tcgetattr(person.line)
    raw[0] &= ~termios.ICRNL
    raw[3] &= ~(termios.ICANON | termios.ISIG)
    termios.tcsetattr(person.line, termios.TCSANOW, raw)
    talk = person.answers(b"correct horse\r")
    assert ask()
    talk.join()
    assert termios.tcgetattr(person.line)[3] == raw[3]


def test_an_interrupt_restores_the_echo(person: Person) -> None:
    def interrupt() -> None:
        person.reads_until(lambda: b": " in person.seen)
        # To this thread, as the process has no other in real life: only so is the wait woken.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ask()
    thread.join()
    assert person.echo
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_restores_the_echo(
    person: Person, number: signal.Signals
) -> None:
    child = os.fork()
    if child == 0:
        try:
            ask()
        finally:
            os._exit(99)
    person.reads_until(lambda: b": " in person.seen)
    assert not person.echo
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == number
    assert person.echo


@pytest.mark.usefixtures("nobody")
def test_no_terminal_says_what_to_do(run: Run) -> None:
    outcome = run("open", "vault.img", "v")
    assert outcome.code == PassphraseInputError.exit_code
    assert "hint: give --passphrase-file FILE, or - for standard input" in outcome.err


def test_a_person_may_try_three_times(run: Run, person: Person, volumes: FakeVolumes) -> None:
    talk = person.answers(b"one\n", b"two\n", b"correct horse\n")
    assert run("open", "vault.img", "v").code == 0
    talk.join()
    assert volumes.attempts == 3


def test_but_not_four_times(run: Run, person: Person, volumes: FakeVolumes) -> None:
    talk = person.answers(b"one\n", b"two\n", b"three\n")
    outcome = run("open", "vault.img", "v")
    talk.join()
    assert outcome.code == WrongPassphraseError.exit_code
    assert volumes.attempts == 3


def typed_slowly(length: int) -> bytes:
    return b"x" * length + b"\n"


def test_the_longest_line_that_a_terminal_passes_on_is_taken(person: Person) -> None:
    talk = person.answers(typed_slowly(MAX_TYPED_BYTES))
    secret = TerminalPassphrase(lambda: None).read("Passphrase", confirm=False)
    talk.join()
    assert secret.length_bytes == MAX_TYPED_BYTES


@pytest.mark.parametrize("longer", [1, 2, 500])
def test_a_line_that_a_terminal_cuts_is_refused(person: Person, longer: int) -> None:
    talk = person.answers(typed_slowly(MAX_TYPED_BYTES + longer))
    source = TerminalPassphrase(lambda: None, option="--new-passphrase-file")
    with pytest.raises(PassphraseInputError, match="drops the rest") as caught:
        source.read("Passphrase", confirm=True)
    talk.join()
    assert "--new-passphrase-file FILE" in caught.value.hint
    assert person.echo


def test_a_confirmation_that_the_terminal_cuts_is_refused(person: Person) -> None:
    talk = person.answers(b"correct horse\n", typed_slowly(MAX_TYPED_BYTES + 1))
    with pytest.raises(PassphraseInputError, match="drops the rest"):
        ask(confirm=True)
    talk.join()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"pw\nuser: me\n", "several lines"),
        (b"pw\r\n", "a carriage return"),
        (b"\r\n", "a carriage return"),
        (b"p\x03w", "control characters"),
        (b"\xff\xfe", "bytes that are no text"),
        (b"x" * (MAX_TYPED_BYTES + 1), "more bytes than a terminal passes on"),
    ],
)
def test_a_new_passphrase_that_cannot_be_typed_is_noted(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "pass").write_bytes(content)
    notices: list[str] = []
    source = FilePassphrase(str(tmp_path / "pass"), notices.append)
    source.read("", confirm=False)
    assert not notices
    source.read("", confirm=True)
    assert notices == [f"the passphrase has {said}: it cannot be typed at a terminal"]


@pytest.mark.parametrize("content", [b"pw\n", b"pw", b" a\tb ", "schl\u00fcssel".encode()])
def test_one_that_can_be_typed_is_not(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pass").write_bytes(content)
    notices: list[str] = []
    FilePassphrase(str(tmp_path / "pass"), notices.append).read("", confirm=True)
    assert not notices


def test_every_byte_of_a_key_file_counts(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"correct horse\n")
    key = KeyFile(str(tmp_path / "key"), option="--key-file").read("", confirm=True)
    assert key.length_bytes == len(b"correct horse\n")
    assert key.equals(secret_of(b"correct horse\n\n"))


@pytest.mark.parametrize("option", ["--passphrase-file", "--key-file"])
def test_a_wrong_passphrase_from_a_file_has_nothing_to_do_with_a_keyboard(
    run: Run, tmp_path: Path, option: str
) -> None:
    (tmp_path / "pass").write_bytes(b"wrong\n")
    outcome = run("open", "vault.img", "v", option, str(tmp_path / "pass"))
    assert outcome.code == WrongPassphraseError.exit_code
    assert "keyboard" not in outcome.err
    assert "newline" in outcome.err
    assert "recovery key" in outcome.err


def test_a_wrong_typed_passphrase_points_to_the_keyboard(run: Run, person: Person) -> None:
    talk = person.answers(b"one\n", b"two\n", b"three\n")
    outcome = run("open", "vault.img", "v")
    talk.join()
    assert "hint: check the keyboard layout; a recovery key opens the volume too" in outcome.err


def test_what_looks_like_a_recovery_key_is_told_what_it_lacks(run: Run, tmp_path: Path) -> None:
    groups = ["cbdefghi"] * 8
    groups[2] = "cbdefgh"
    (tmp_path / "pass").write_text("-".join(groups))
    outcome = run("open", "vault.img", "v", "--passphrase-file", str(tmp_path / "pass"))
    assert outcome.code == WrongPassphraseError.exit_code
    assert "hint: not a recovery key: group 3 has 7 letters, not 8" in outcome.err


@pytest.mark.parametrize("command", ["open", "setkey"])
def test_two_sources_of_one_passphrase_exclude_each_other(run: Run, command: str) -> None:
    image = () if command == "setkey" else ("vault.img",)
    outcome = run(command, *image, "v", "--passphrase-file", "a", "--key-file", "b")
    assert outcome.code == 2
    assert "--passphrase-file and --key-file exclude each other" in outcome.err

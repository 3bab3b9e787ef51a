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

from strongroom.cli import terminal
from strongroom.cli.passphrase import FilePassphrase, TerminalPassphrase
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


@pytest.mark.parametrize("text", [b"correct horse", b"correct horse\n"])
def test_one_trailing_newline_is_dropped(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pass").write_bytes(text)
    secret = FilePassphrase(str(tmp_path / "pass")).read("", confirm=True)
    assert secret.equals(secret_of(b"correct horse"))


def test_only_one_newline_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "pass").write_bytes(b"correct horse\n\n")
    secret = FilePassphrase(str(tmp_path / "pass")).read("", confirm=False)
    assert secret.equals(secret_of(b"correct horse\n\n"))
    assert secret.length_bytes == len(b"correct horse\n")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        FilePassphrase(str(tmp_path / "missing")).read("", confirm=False)
    with pytest.raises(PassphraseInputError):
        FilePassphrase(str(tmp_path)).read("", confirm=False)
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyPassphraseError):
        FilePassphrase(str(tmp_path / "empty")).read("", confirm=False)


def test_standard_input(pipe_stdin: Callable[[bytes], None]) -> None:
    pipe_stdin(b"correct horse\n")
    assert FilePassphrase("-").read("", confirm=True).equals(secret_of(b"correct horse"))


def test_an_empty_line_and_a_writer_that_left_differ(pipe_stdin: Callable[[bytes], None]) -> None:
    pipe_stdin(b"\n")
    with pytest.raises(EmptyPassphraseError):
        FilePassphrase("-").read("", confirm=False)
    pipe_stdin(b"")
    with pytest.raises(PassphraseInputError, match="closed before the passphrase came"):
        FilePassphrase("-").read("", confirm=False)


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PassphraseInputError, match="standard input is closed"):
        FilePassphrase("-").read("", confirm=False)


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

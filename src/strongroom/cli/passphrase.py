# SPDX-License-Identifier: Apache-2.0
"""Where passphrases come from. None is ever a Python string: they are read into secret memory.

Not from arguments and not from the environment, where other processes can see them.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TYPE_CHECKING, Final, Protocol

from strongroom._core import Secret, read_key_file, read_passphrase_file
from strongroom.cli.output import printable
from strongroom.cli.terminal import ask_secret, open_terminal
from strongroom.errors import (
    NoPermissionError,
    NotFoundError,
    PassphraseInputError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strongroom.cli.arguments import NewPassphraseOptions, PassphraseOptions
    from strongroom.cli.progress import CommandReporter
    from strongroom.cli.session import Session

STANDARD_INPUT: Final = "-"

TYPING_ATTEMPTS: Final = 3
"""How often a person may type a passphrase that is wrong."""


_ANOTHER_WAY: Final = "a recovery key opens the volume too"


class PassphraseInput(Protocol):
    """A :class:`strongroom.host.contracts.PassphraseSource` that can say what may be wrong."""

    @property
    def attempts(self) -> int:
        """How often it is worth asking."""

    @property
    def newline_dropped(self) -> bool:
        """Whether the last passphrase came from a file that has a newline after it."""

    @property
    def advice(self) -> str:
        """What to look at when the last passphrase opens nothing."""

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Return one passphrase; ``confirm`` for a new one."""


class FilePassphrase:
    """A passphrase in a file, or on standard input when the name is ``-``."""

    attempts: Final = 1

    def __init__(self, name: str, notice: Callable[[str], None]) -> None:
        """``notice`` says what the operator should know of a new passphrase."""
        self._name = name
        self._notice = notice
        self._obstacles: list[str] = []
        self._fault: str | None = None
        self._dropped = False

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Read to the end; one trailing newline is dropped. Nothing is asked.

        With ``confirm`` a notice says so if the passphrase cannot be typed.

        Raises:
            NotFoundError: There is no such file.
            NoPermissionError: The file may not be read.
            PassphraseInputError: Standard input is closed, or its writer left without a word, or
                the file cannot be read.
            EmptyPassphraseError: There is nothing in it.
        """
        del prompt
        with opened_input(self._name) as file:
            secret, self._dropped = read_passphrase_file(file)
        self._obstacles = secret.typing_obstacles()
        self._fault = secret.recovery_key_fault()
        if confirm and self._obstacles:
            has = " and ".join(self._obstacles)
            self._notice(f"the passphrase has {has}: it cannot be typed at a terminal")
        return secret

    @property
    def newline_dropped(self) -> bool:
        """Whether the passphrase came from a file that has a newline after it; not from a pipe."""
        return self._dropped and self._name != STANDARD_INPUT

    @property
    def advice(self) -> str:
        """What to look at when the passphrase opens nothing."""
        if self._fault is not None:
            return f"not a recovery key: {self._fault}"
        doubts = [f"check what is in {_place(self._name)}"]
        if self._obstacles:
            doubts = [f"it has {' and '.join(self._obstacles)}, which a typed passphrase has not"]
        if self._dropped:
            doubts.append("a trailing newline was dropped, which --key-file keeps")
        return "; ".join([*doubts, _ANOTHER_WAY])


class KeyFile:
    """A passphrase that is every byte of a file, or of standard input when the name is ``-``."""

    attempts: Final = 1
    newline_dropped: Final = False

    def __init__(self, name: str, *, option: str) -> None:
        self._name = name
        self._option = option

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Read to the end. Nothing is asked, confirmed or dropped.

        Raises:
            StrongroomError: As :meth:`FilePassphrase.read`.
        """
        del prompt, confirm
        with opened_input(self._name, called="key", option=self._option) as file:
            return read_key_file(file)

    @property
    def advice(self) -> str:
        """What to look at when the key opens nothing."""
        return (
            f"check what is in {_place(self._name)}; every byte of it counts, and "
            f"--passphrase-file drops a trailing newline; {_ANOTHER_WAY}"
        )


class TerminalPassphrase:
    """A passphrase that a person types."""

    attempts: Final = TYPING_ATTEMPTS
    newline_dropped: Final = False

    def __init__(self, pause: Callable[[], None], *, option: str = "--passphrase-file") -> None:
        """``pause`` takes progress bars off the terminal; ``option`` names a file instead."""
        self._pause = pause
        self._option = option
        self._fault: str | None = None

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Ask without echo, twice with ``confirm``.

        Raises:
            PassphraseInputError: There is no terminal, it was closed, the two differ, or a line is
                longer than a terminal passes on.
            EmptyPassphraseError: The line is empty.
        """
        self._pause()
        with open_terminal(option=self._option) as terminal:
            first = ask_secret(terminal, prompt.rstrip(": "), option=self._option)
            self._fault = first.recovery_key_fault()
            if confirm:
                _compare(first, ask_secret(terminal, "The same again", option=self._option))
            return first

    @property
    def advice(self) -> str:
        """What to look at when the passphrase opens nothing."""
        if self._fault is not None:
            return f"not a recovery key: {self._fault}"
        return f"check the keyboard layout; {_ANOTHER_WAY}"


def passphrase_source(
    session: Session, options: PassphraseOptions, report: CommandReporter
) -> PassphraseInput:
    """Return the source that the options name: a file, or else the terminal.

    The session remembers it, for what it can say when the passphrase is wrong.

    Raises:
        UsageError: The options name two.
    """
    source = _source(
        options["passphrase_file"],
        options["key_file"],
        report,
        called=("--passphrase-file", "--key-file"),
    )
    session.passphrase = source
    return source


def new_passphrase_source(
    options: NewPassphraseOptions, report: CommandReporter
) -> PassphraseInput:
    """Return the source of a new passphrase, beside the existing one.

    Raises:
        UsageError: As :func:`passphrase_source`.
    """
    return _source(
        options["new_passphrase_file"],
        options["new_key_file"],
        report,
        called=("--new-passphrase-file", "--new-key-file"),
    )


def note_dropped_newline(
    source: PassphraseInput, factors: tuple[str, ...], report: CommandReporter
) -> None:
    """Say so if stock cryptsetup would take a newline as a part of a new passphrase in a file."""
    if source.newline_dropped and factors == ("passphrase",):
        report.notice(
            "the passphrase is without the trailing newline of its file, which 'cryptsetup "
            "--key-file' does not drop"
        )


def _source(
    file: str | None, key_file: str | None, report: CommandReporter, *, called: tuple[str, str]
) -> PassphraseInput:
    if file is not None and key_file is not None:
        raise UsageError(f"{' and '.join(called)} exclude each other")
    if key_file is not None:
        return KeyFile(key_file, option=called[1])
    if file is not None:
        return FilePassphrase(file, report.notice)
    return TerminalPassphrase(report.pause, option=called[0])


def refuse_shared_input(
    first: str | None,
    second: str | None,
    *,
    called: str = "passphrase",
    remedy: str = "put the other one into a file, or type it",
) -> None:
    """Refuse to read two secrets from the one standard input.

    Raises:
        UsageError: Both names are ``-``.
    """
    if first == second == STANDARD_INPUT:
        raise UsageError(f"only one {called} can come from standard input", hint=remedy)


def _place(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else printable(name)


@contextlib.contextmanager
def opened_input(
    name: str, *, called: str = "passphrase", option: str = "--passphrase-file"
) -> Iterator[int]:
    """Lend the descriptor of a file, or of standard input, that has something to read.

    Args:
        name: The file; ``-`` is standard input.
        called: What is in it, to the operator.
        option: What names it.

    Raises:
        NotFoundError: There is no such file.
        NoPermissionError: The file may not be read.
        PassphraseInputError: Standard input is closed, or its writer left without a word, or the
            file cannot be opened.
    """
    if name != STANDARD_INPUT:
        with _opened(name, called) as file:
            _await_input(file, called)
            yield file
        return
    if sys.stdin is None:
        raise PassphraseInputError("standard input is closed", hint=f"give {option} FILE")
    _await_input(sys.stdin.fileno(), called)
    yield sys.stdin.fileno()


def _compare(first: Secret, second: Secret) -> None:
    same = first.equals(second)
    second.erase()
    if not same:
        first.erase()
        raise PassphraseInputError("the two passphrases differ", hint="nothing was changed")


def _await_input(file: int, called: str) -> None:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    # A pipe whose writer left without a byte only hangs up: the program before us failed.
    if all(not event & select.POLLIN for _, event in poll.poll()):
        raise PassphraseInputError(
            f"the pipe was closed before the {called} came",
            hint="look at the program that writes to it",
        )


@contextlib.contextmanager
def _opened(name: str, called: str) -> Iterator[int]:
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such {called} file: {name}") from error
    except PermissionError as error:
        raise NoPermissionError(f"the {called} file may not be read: {name}") from error
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise PassphraseInputError(f"cannot open {name}: {reason}") from error
    try:
        yield file
    finally:
        os.close(file)

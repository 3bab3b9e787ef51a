# SPDX-License-Identifier: Apache-2.0
"""Where passphrases come from. None is ever a Python string: they are read into secret memory.

Not from arguments and not from the environment, where other processes can see them.
"""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Final

from strongroom._core import Secret, read_secret_file
from strongroom.cli.terminal import ask_secret, open_terminal
from strongroom.errors import (
    NoPermissionError,
    NotFoundError,
    PassphraseInputError,
    UsageError,
)
from strongroom.host.contracts import PassphraseSource

STANDARD_INPUT: Final = "-"


TYPING_ATTEMPTS: Final = 3
"""How often a person may type a passphrase that is wrong."""


class FilePassphrase:
    """A passphrase in a file, or on standard input when the name is ``-``."""

    attempts: Final = 1

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Read to the end; one trailing newline is dropped. Nothing is asked or confirmed.

        Raises:
            NotFoundError: There is no such file.
            NoPermissionError: The file may not be read.
            PassphraseInputError: Standard input is closed, or its writer left without a word, or
                the file cannot be read.
            EmptyPassphraseError: There is nothing in it.
        """
        del prompt, confirm
        with opened_input(self._name) as file:
            return read_secret_file(file)


class TerminalPassphrase:
    """A passphrase that a person types."""

    attempts: Final = TYPING_ATTEMPTS

    def __init__(self, pause: Callable[[], None]) -> None:
        """``pause`` takes progress bars off the terminal."""
        self._pause = pause

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Ask without echo, twice with ``confirm``.

        Raises:
            PassphraseInputError: There is no terminal, it was closed, or the two differ.
            EmptyPassphraseError: The line is empty.
        """
        self._pause()
        with open_terminal() as terminal:
            first = ask_secret(terminal, prompt.rstrip(": "))
            if confirm:
                _compare(first, ask_secret(terminal, "The same again"))
            return first


def passphrase_source(file: str | None, pause: Callable[[], None]) -> PassphraseSource:
    """Return the source that the options name: a file, or else the terminal."""
    return TerminalPassphrase(pause) if file is None else FilePassphrase(file)


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

# SPDX-License-Identifier: Apache-2.0
"""The controlling terminal: asking for a line that is not echoed.

``/dev/tty`` is used, not standard input, so that a passphrase can be typed while input and output
are pipes. Whatever ends the wait, the echo comes back: the line, an error, Ctrl-C, Ctrl-Z, or a
signal that ends the process.
"""

import contextlib
import errno
import os
import select
import signal
import termios
from collections.abc import Iterator
from types import FrameType
from typing import Final

from strongroom._core import MAX_TYPED_BYTES, Secret, read_secret_line
from strongroom.cli.output import printable
from strongroom.errors import PassphraseInputError

TERMINAL: Final = "/dev/tty"

_INPUT_FLAGS, _LOCAL_FLAGS = 0, 3
"""Indices into what ``tcgetattr`` returns."""

SIGNAL_SECONDS: Final = 0.1
"""How long a signal may go unnoticed that comes just before the wait begins: Python runs handlers
between its own instructions only, and such a signal does not end the wait."""

_LEAVING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


@contextlib.contextmanager
def open_terminal(*, option: str) -> Iterator[int]:
    """Lend a descriptor of the controlling terminal; ``option`` names a file instead.

    Raises:
        PassphraseInputError: The process has no terminal.
    """
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise PassphraseInputError(
            "there is no terminal to ask for a passphrase",
            hint=f"give {option} FILE, or - for standard input",
        ) from error
    try:
        yield terminal
    finally:
        os.close(terminal)


def say(terminal: int, text: str) -> None:
    """Write a text to the terminal; the text must be ours or :func:`printable`."""
    with contextlib.suppress(OSError):
        os.write(terminal, text.encode())


def ask_secret(terminal: int, prompt: str, *, option: str) -> Secret:
    """Ask for one line without echo; the line goes from the kernel into secret memory.

    The wait is a ``select``, which Python leaves for signals; the line is read when it is complete,
    as the terminal is in line mode. The terminal cuts long lines, so those are refused; ``option``
    names a file instead.

    Raises:
        PassphraseInputError: The terminal was closed, or Ctrl-D came, or the line is longer than
            :data:`strongroom._core.MAX_TYPED_BYTES`.
        EmptyPassphraseError: The line is empty.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        before = termios.tcgetattr(terminal)
    except termios.error as error:
        raise PassphraseInputError("the terminal does not answer") from error
    shown = f"{printable(prompt)}: "
    with _leaving_cleanly(terminal, before, shown):
        try:
            _echo_off(terminal, before)
            say(terminal, shown)
            while not select.select([terminal], [], [], SIGNAL_SECONDS)[0]:
                pass
            return _uncut(read_secret_line(terminal), option)
        finally:
            _restore(terminal, before)
            say(terminal, "\n")


def _uncut(line: Secret, option: str) -> Secret:
    if line.length_bytes <= MAX_TYPED_BYTES:
        return line
    line.erase()
    raise PassphraseInputError(
        f"a terminal passes on {MAX_TYPED_BYTES} bytes at most and drops the rest",
        hint=f"put the passphrase into a file: {option} FILE",
    )


def _echo_off(terminal: int, before: list[int | list[bytes | int]]) -> None:
    silent = list(before)
    local, incoming = silent[_LOCAL_FLAGS], silent[_INPUT_FLAGS]
    if isinstance(local, int) and isinstance(incoming, int):
        # A program that died may have left raw mode behind, in which no line would ever end.
        silent[_LOCAL_FLAGS] = (local & ~termios.ECHO) | termios.ICANON | termios.ISIG
        silent[_INPUT_FLAGS] = incoming | termios.ICRNL
    termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)


def _restore(terminal: int, before: list[int | list[bytes | int]]) -> None:
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    except termios.error as error:
        if error.args[0] not in {errno.EIO, errno.ENXIO}:  # a terminal that is gone needs nothing
            raise


@contextlib.contextmanager
def _leaving_cleanly(
    terminal: int, before: list[int | list[bytes | int]], prompt: str
) -> Iterator[None]:
    """While a secret is typed, let signals that stop or end the process restore the echo first."""

    def leave(number: int, _frame: FrameType | None) -> None:
        _restore(terminal, before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Only a stopped process that was continued comes here.
        signal.signal(number, leave)
        _echo_off(terminal, before)
        say(terminal, prompt)

    old = {number: signal.getsignal(number) for number in _LEAVING}
    try:
        for number in _LEAVING:
            if old[number] is not signal.SIG_IGN:
                signal.signal(number, leave)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

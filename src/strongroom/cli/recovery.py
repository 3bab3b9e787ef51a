# SPDX-License-Identifier: Apache-2.0
"""Where the recovery key goes: a new file, or the terminal, once.

The key must not become a Python object, so this module only lends descriptors. For the terminal
that is a pipe, which the kernel splices to the terminal when the volume is complete: the key
appears below its instructions and not between progress bars, and only if the volume exists.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from strongroom.cli.new_file import new_file
from strongroom.cli.terminal import TERMINAL
from strongroom.errors import UnavailableError, UsageError

_FILE_HINT: Final = "give --recovery-key-file FILE, or --no-recovery to do without one"
_BEFORE: Final = b"The recovery key is shown here when the volume is ready: have pen and paper.\n"
_INSTRUCTIONS: Final = (
    "\nThis is the recovery key. It opens the volume without the passphrase, "
    "also with cryptsetup.\n"
    "Write it down now and keep it away from this machine: it is not shown again.\n\n    "
)
_AFTER: Final = "\n"
_PIPE_BYTES: Final = 65536


@contextlib.contextmanager
def recovery_destination(file: Path | None, pause: Callable[[], None]) -> Iterator[int]:
    """Lend the descriptor to which a recovery key is written.

    On an error inside the block a file is removed again, and a terminal shows nothing.

    Args:
        file: A file to create, mode 0600, which must not exist; ``None`` is the terminal.
        pause: Takes progress bars off the terminal.

    Raises:
        UsageError: The file exists or is ``-``, or there is neither file nor terminal. Nothing was
            changed.
        PlatformError: The file cannot be made, or the terminal does not take the key.
    """
    if file == Path("-"):
        raise UsageError(
            "the recovery key does not go to standard output",
            hint="leave out --recovery-key-file to see it on the terminal, or name a file: ./-",
        )
    there = None if file is None else new_file(file, called="recovery key file")
    with there or _terminal_pipe(pause) as descriptor:
        yield descriptor


@contextlib.contextmanager
def _terminal_pipe(pause: Callable[[], None]) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        terminal = _open_display()
        stack.callback(os.close, terminal)
        source, sink = os.pipe()
        stack.callback(os.close, source)
        closing = stack.enter_context(contextlib.ExitStack())
        closing.callback(os.close, sink)
        _prove_the_way(terminal, source, sink)
        yield sink
        closing.close()
        pause()
        os.write(terminal, _INSTRUCTIONS.encode())
        while os.splice(source, terminal, _PIPE_BYTES):
            pass
        os.write(terminal, _AFTER.encode())


def _open_display() -> int:
    try:
        return os.open(TERMINAL, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if sys.stdout is not None and sys.stdout.isatty():
            return os.dup(sys.stdout.fileno())
        raise UsageError(
            "there is no terminal to show the recovery key on", hint=_FILE_HINT
        ) from error


def _prove_the_way(terminal: int, source: int, sink: int) -> None:
    """Send the first instruction the way the key will go, before anything is changed."""
    os.write(sink, _BEFORE)
    left = len(_BEFORE)
    try:
        while left:
            left -= os.splice(source, terminal, left)
    except OSError as error:
        raise UnavailableError(
            "this kernel does not let a pipe be spliced to the terminal", hint=_FILE_HINT
        ) from error

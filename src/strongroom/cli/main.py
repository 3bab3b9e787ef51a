# SPDX-License-Identifier: Apache-2.0
"""The entry point: every error of the command line ends here, as text and an exit code.

No environment variable is looked at, except the one with which a shell asks for completions.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

from strongroom.cli import failure
from strongroom.cli.output import ReaderGoneError
from strongroom.cli.session import Session
from strongroom.cli.tree import COMPLETE, PROGRAM, root
from strongroom.errors import CancelledError, StrongroomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strongroom.cli.host import Volumes

STANDARD_STREAMS: Final = 3


def main(arguments: Sequence[str] | None = None, *, volumes: Volumes | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name; ``None`` takes them from ``sys.argv``.
        volumes: The host, when it is not the real one.
    """
    _fill_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:  # as people type it
        words = [*words[1:], "--help"]
    session = Session(volumes)
    sys.excepthook = failure.bug_hook(
        debug=lambda: session.debug, json=lambda: _wants_json(session, words)
    )
    if os.environ.get(COMPLETE):
        return _complete(session, os.environ[COMPLETE])
    try:
        return _run(session, words)
    except ReaderGoneError:
        return failure.EXIT_READER_GONE
    except click.ClickException as error:
        failed: StrongroomError = failure.usage_error(error)
    except KeyboardInterrupt:
        failed = CancelledError("interrupted")
    except StrongroomError as error:
        failed = session.advised(error)
    failed.hint = session.with_image(failed.hint)
    return failure.report(failed, json=_wants_json(session, words))


def _wants_json(session: Session, words: Sequence[str]) -> bool:
    """Tell whether errors are JSON too; the words count when they could not be parsed."""
    return not session.printed and (session.json or "--json" in words)


def _run(session: Session, words: list[str]) -> int:
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with root.make_context(PROGRAM, words, obj=session) as context:
            root.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _complete(session: Session, instruction: str) -> int:
    from click.shell_completion import shell_complete  # noqa: PLC0415 - not needed to run

    return shell_complete(root, {"obj": session}, PROGRAM, COMPLETE, instruction)


def _fill_standard_streams() -> None:
    """Open what is closed of descriptors 0 to 2, so that no image or key file gets such a number.

    Python has looked at them already: ``sys.stdin`` and ``sys.stdout`` stay ``None``.
    """
    while (number := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < STANDARD_STREAMS:
        os.set_inheritable(number, True)  # noqa: FBT003 - the library's signature
    os.close(number)

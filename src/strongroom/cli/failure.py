# SPDX-License-Identifier: Apache-2.0
"""How an error reaches its reader: two lines on standard error, an exit code, and JSON if asked.

With ``--json`` the error is also one object on standard output, so that a script reads one stream:
``{"error": ..., "hint": ..., "exit_code": ..., "class": ...}``. It is left out when the command
has already printed its facts there, because two documents are not JSON.
"""

import contextlib
import os
from collections.abc import Callable
from types import TracebackType

import click

from strongroom.cli.output import ReaderGoneError, complain, emit, json_line, printable
from strongroom.errors import InternalError, OutputError, StrongroomError, UsageError

EXIT_READER_GONE = 141
"""As if SIGPIPE had ended us, which is what every shell expects: 128 + 13."""


def report(error: StrongroomError, *, json: bool) -> int:
    """Say what went wrong and return the exit code."""
    message, hint = printable(error.message), printable(error.hint)
    complain(f"error: {message}")
    if hint:
        complain(f"hint: {hint}")
    if json:
        facts = {
            "error": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
            "class": type(error).__name__,
        }
        with contextlib.suppress(OutputError, ReaderGoneError):
            emit(json_line(facts))
    return error.exit_code


def usage_error(error: click.ClickException) -> UsageError:
    """Return click's complaint in our words and form."""
    # Choices come on lines of their own.
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "strongroom"
    return UsageError(message[:1].lower() + message[1:], hint=f"see: {path} --help")


def bug_hook(
    *, debug: Callable[[], bool], json: Callable[[], bool]
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """Return a ``sys.excepthook`` for what nobody expected: one line, and Python exits with 1.

    The traceback, which holds file names and source lines but no values, appears with ``--debug``.
    """

    def hook(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None, /
    ) -> None:
        import traceback  # noqa: PLC0415 - slow to import, and hopefully never needed

        if debug():
            traceback.print_exception(kind, error, trace)
        frames = traceback.extract_tb(trace)
        place = (
            f" ({frames[-1].filename.rpartition(os.sep)[2]}:{frames[-1].lineno})" if frames else ""
        )
        hint = "please report it, with the output of the same command with --debug"
        report(InternalError(f"bug: {kind.__name__}: {error}{place}", hint=hint), json=json())

    return hook

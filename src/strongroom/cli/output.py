# SPDX-License-Identifier: Apache-2.0
"""Standard output: text for people, one line of JSON for scripts.

Names, labels and paths come from disks and may hold anything. What people see passes
:func:`printable`, so that a label cannot move the cursor; JSON is ASCII only.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO, TypeAlias

from strongroom.errors import InternalError, OutputError

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)


class ReaderGoneError(Exception):
    """Whoever read standard output has left, as ``head`` does; nothing is to be said about it."""


def emit(text: str) -> None:
    """Write a line, or several, to standard output.

    Raises:
        ReaderGoneError: The reader closed the pipe.
        OutputError: Standard output is closed, full or broken.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()
    except BrokenPipeError as error:
        _abandon(sys.stdout)
        raise ReaderGoneError from error
    except OSError as error:
        _abandon(sys.stdout)
        reason = (error.strerror or "unknown reason").lower()
        raise OutputError(f"cannot write to standard output: {reason}") from error


def abandon_complaints() -> None:
    """Give up what standard error did not take: the exit code is that of the command."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: TextIO) -> None:
    """Let Python's last flush go nowhere, as it would fail too and change the exit code."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, stream.fileno())
    except OSError:  # a stream without a descriptor has no such flush
        return
    finally:
        os.close(null)


def complain(text: str) -> None:
    """Write lines to standard error, each marked as ours; failing to is not an error."""
    if sys.stderr is None:
        return
    try:
        for line in text.splitlines():
            sys.stderr.write(f"strongroom: {line}\n")
        sys.stderr.flush()
    except OSError:
        return


def json_line(facts: object) -> str:
    """Return facts as one line of ASCII JSON; values become objects, tuples arrays."""
    import json  # noqa: PLC0415 - what is not needed to start is imported when it is

    return json.dumps(facts, default=_plain, allow_nan=False)


def _plain(value: object) -> object:
    from pathlib import PurePath  # noqa: PLC0415 - as above

    from strongroom.values import field_names, is_value  # noqa: PLC0415

    if is_value(type(value)):
        return {name: getattr(value, name) for name in field_names(type(value))}
    if isinstance(value, PurePath):
        return str(value)
    raise InternalError(f"a {type(value).__name__} has no JSON form")


def printable(text: str) -> str:
    r"""Return text with everything that is not plainly visible as ``\x..`` escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns, two spaces apart, without trailing blanks."""
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def pairs(facts: Sequence[tuple[str, str]]) -> str:
    """Return ``name: value`` lines with the values aligned."""
    width = max(len(name) for name, _ in facts) + 1
    return "\n".join(f"{name + ':':<{width}} {printable(value)}" for name, value in facts)


def outline(value: Mapping[str, JsonValue], indent: int = 0) -> str:
    """Return nested facts as indented ``name: value`` lines."""
    lines: list[str] = []
    for name, inner in value.items():
        lead = f"{'  ' * indent}{printable(name)}:"
        if isinstance(inner, Mapping):
            lines += [lead, outline(inner, indent + 1)] if inner else [f"{lead} none"]
        elif isinstance(inner, Sequence) and not isinstance(inner, str):
            lines += _outline_items(lead, inner, indent)
        else:
            lines.append(f"{lead} {scalar(inner)}")
    return "\n".join(lines)


def _outline_items(lead: str, items: Sequence[JsonValue], indent: int) -> list[str]:
    if not any(isinstance(item, Mapping) for item in items):
        return [f"{lead} {', '.join(scalar(item) for item in items) or 'none'}"]
    numbered = {str(number): item for number, item in enumerate(items)}
    return [lead, outline(numbered, indent + 1)]


def scalar(value: JsonValue) -> str:
    """Return one value for people: ``none``, ``yes`` and ``no`` for what JSON spells otherwise."""
    match value:
        case None:
            return "none"
        case True:
            return "yes"
        case False:
            return "no"
        case str():
            return printable(value) or '""'
        case _:
            return printable(str(value))

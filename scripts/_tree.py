# SPDX-License-Identifier: Apache-2.0

"""What the generators share: a walk over the command tree, and writing or checking a file."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from strongroom.cli.tree import PROGRAM, Command, root

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its full name, its usage, and its parts in the order of help."""

    path: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    exits: tuple[tuple[int, str], ...]


def walk(command: click.Command = root, context: click.Context | None = None) -> Iterator[Entry]:
    """Yield the program and every command below it, in the order of help."""
    name = command.name or PROGRAM
    inner = click.Context(command, info_name=name, parent=context)
    yield _entry(command, inner)
    if isinstance(command, click.Group):
        for child in command.list_commands(inner):
            found = command.get_command(inner, child)
            if found is not None:
                yield from walk(found, inner)


def _entry(command: click.Command, context: click.Context) -> Entry:
    text = inspect.cleandoc(command.help or "")
    records = (parameter.get_help_record(context) for parameter in _options(command))
    usage = " ".join(command.collect_usage_pieces(context))
    return Entry(
        path=context.command_path,
        usage=f"{context.command_path} {usage}",
        paragraphs=tuple(" ".join(part.split()) for part in text.split("\n\n")),
        options=tuple(record for record in records if record is not None),
        examples=command.examples if isinstance(command, Command) else (),
        exits=tuple((kind.exit_code, kind.summary) for kind in command.exits)
        if isinstance(command, Command)
        else (),
    )


def _options(command: click.Command) -> list[click.Parameter]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def publish(place: str, text: str) -> int:
    """Write a generated file, or with ``--check`` only tell whether it is stale.

    Returns:
        The exit code: 1 when ``--check`` found another text.
    """
    file = REPOSITORY / place
    if "--check" not in sys.argv[1:]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return 0
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{place} is stale: run python {sys.argv[0]}\n")
    return 1

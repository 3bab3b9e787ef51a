# SPDX-License-Identifier: Apache-2.0

"""Write docs/man/strongroom.1 from the command tree; ``--check`` only compares."""

import sys
from collections.abc import Iterator

from _tree import Entry, publish, walk

from strongroom import __version__
from strongroom.cli.failure import EXIT_READER_GONE
from strongroom.errors import StrongroomError

PLACE = "docs/man/strongroom.1"

_STATE_DIR = (
    "What outlives a boot: the secrets of this account's enclaves, and known-enclaves, which tells "
    "for each volume which enclave it was enrolled with and the newest header seen. Whoever has a "
    "copy of it can be this account's enclave. By default /var/lib/strongroom for root; for others "
    "strongroom in XDG_STATE_HOME, or ~/.local/state/strongroom."
)
_RUNTIME_DIR = (
    "The sockets and records of open volumes. It must belong to the user, and no other user may "
    "write there. By default /run/strongroom for root; for others strongroom in XDG_RUNTIME_DIR."
)


def man_page() -> str:
    """Return the whole page as roff."""
    program, *commands = walk()
    return "\n".join([*_front(program), *_commands(commands), *_back(), ""])


def _front(program: Entry) -> Iterator[str]:
    yield '.\\" SPDX-License-Identifier: Apache-2.0'
    yield '.\\" Made by scripts/man_page.py from the command line itself; do not edit.'
    yield f'.TH STRONGROOM 1 "" "strongroom {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "strongroom \\- disk encryption whose key never leaves an enclave"
    yield ".SH SYNOPSIS"
    yield from (".B strongroom", ".RI [ OPTIONS ]", ".I COMMAND", ".RI [ ARGS ]...")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(program.paragraphs[1:])
    yield ".SH OPTIONS"
    yield from _options(program.options)


def _commands(commands: list[Entry]) -> Iterator[str]:
    yield ".SH COMMANDS"
    for entry in commands:
        yield f".SS {roff(entry.path)}"
        yield from (".nf", f".B {roff(entry.usage)}", ".fi")
        yield from _paragraphs(entry.paragraphs)
        yield from _options(entry.options)
        if entry.examples:
            yield from (".PP", "Examples:", ".PP", ".RS 4", ".nf")
            yield from map(roff, entry.examples)
            yield from (".fi", ".RE")
        if entry.exits:
            codes = ", ".join(f"{code} ({summary})" for code, summary in entry.exits)
            yield from (".PP", roff(f"Exit codes worth knowing: {codes}."))


def _back() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield from (".TP", ".B 0", "Success.")
    for kind in sorted(errors(), key=lambda kind: kind.exit_code):
        summary = kind.summary[:1].upper() + kind.summary[1:]
        yield from (".TP", f".B {kind.exit_code}", roff(f"{summary}."))
    yield from (".TP", f".B {EXIT_READER_GONE}", "The reader of standard output left.")
    yield ".SH ENVIRONMENT"
    yield from (".TP", ".B STRONGROOM_STATE_DIR", roff(_STATE_DIR))
    yield from (".TP", ".B STRONGROOM_RUNTIME_DIR", roff(_RUNTIME_DIR))
    yield from (".PP", "No variable holds a secret, and none weakens anything.")
    yield ".SH SEE ALSO"
    yield ".BR cryptsetup (8)"


def errors(kind: type[StrongroomError] = StrongroomError) -> list[type[StrongroomError]]:
    """Return all classes of the tree below its base, which itself is never raised."""
    found: list[type[StrongroomError]] = []
    for child in kind.__subclasses__():
        # Other modules have subclasses of their own, which share the exit code of their parent.
        if child.__module__ == StrongroomError.__module__:
            found += [child, *errors(child)]
    return found


def roff(text: str) -> str:
    """Return a text that roff shows as it is, hyphens and leading dots included."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _paragraphs(paragraphs: tuple[str, ...]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (".PP", roff(paragraph))


def _options(options: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for flags, about in options:
        yield from (".TP", f".B {roff(flags)}", roff(about))


if __name__ == "__main__":
    sys.exit(publish(PLACE, man_page()))

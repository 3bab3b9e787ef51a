# SPDX-License-Identifier: Apache-2.0

"""Write docs/reference/cli.md from the command tree; ``--check`` only compares."""

import sys
from collections.abc import Iterator

from _tree import Entry, publish, walk

PLACE = "docs/reference/cli.md"
INTRODUCTION = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by scripts/cli_reference.py from the command line itself; do not edit. -->

# The command line

Facts go to standard output, progress and notices to standard error. With `--json` standard output
is exactly one line: an object, or an array for lists. An error is two lines on standard error,

    strongroom: error: no keyslot opens with this passphrase
    strongroom: hint: ...

and with `--json` also an object on standard output,
`{"error": ..., "hint": ..., "exit_code": ..., "class": ...}`, unless the facts were printed already
(`selftest --json` prints its results and then fails). The codes are in
[exit-codes.md](exit-codes.md).

A secret is never taken from an argument or from the environment: `--passphrase-file` reads a file,
with `-` standard input, and without it the terminal asks.
"""


def reference() -> str:
    """Return the whole page as Markdown."""
    parts = [INTRODUCTION]
    parts += ["\n".join(_section(entry)) for entry in walk()]
    return "\n".join(parts)


def _section(entry: Entry) -> Iterator[str]:
    yield from (f"## {entry.path}", "", f"    {entry.usage}", "")
    for paragraph in entry.paragraphs:
        yield from (paragraph, "")
    yield from ("| option | meaning |", "|---|---|")
    for flags, about in entry.options:
        yield f"| `{_cell(flags)}` | {_cell(about)} |"
    yield ""
    if entry.examples:
        yield from ("Examples:", "", *(f"    {line}" for line in entry.examples), "")
    if entry.exits:
        codes = ", ".join(f"{code} ({summary})" for code, summary in entry.exits)
        yield from (f"Exit codes worth knowing: {codes}.", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(publish(PLACE, reference()))

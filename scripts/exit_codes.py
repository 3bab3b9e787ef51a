# SPDX-License-Identifier: Apache-2.0

"""Write docs/reference/exit-codes.md from strongroom/errors.py; ``--check`` only compares."""

import sys

from _tree import publish
from man_page import errors

from strongroom.cli.failure import EXIT_READER_GONE

PLACE = "docs/reference/exit-codes.md"
INTRODUCTION = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by scripts/exit_codes.py from src/strongroom/errors.py; do not edit. -->

# Exit codes

A number is never reused for another meaning, and a class keeps its number for ever. The class is
what `--json` calls `class`.

| code | class | meaning |
|---|---|---|
| 0 | | success |
"""


def exit_codes() -> str:
    """Return the whole page as Markdown."""
    kinds = sorted(errors(), key=lambda kind: kind.exit_code)
    rows = [f"| {kind.exit_code} | `{kind.__name__}` | {kind.summary} |" for kind in kinds]
    rows.append(f"| {EXIT_READER_GONE} | | the reader of standard output left, as after SIGPIPE |")
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(publish(PLACE, exit_codes()))

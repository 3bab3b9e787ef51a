# SPDX-License-Identifier: Apache-2.0
"""Sentences of a document in Markdown: of its paragraphs, its points and the rows of its tables."""

import re
from collections.abc import Iterator
from typing import Final

_END: Final = re.compile(r"(?<=[.?!])\**[)\"]?\**\s+(?=[A-Z`*\"(])")
_FENCE: Final = "```"


def sentences(text: str) -> list[str]:
    """Return the sentences in order. A row of a table is one; headings and code are none."""
    found = []
    for block in _blocks(text):
        parts = [block] if block.startswith("|") else _END.split(block)
        found += [part.strip() for part in parts if part.strip()]
    return found


def cells(row: str) -> list[str]:
    """Return the cells of a row."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _blocks(text: str) -> Iterator[str]:
    """Yield paragraphs and points as one line each, and rows without their heads."""
    block: list[str] = []
    rows = 0
    is_code = False
    for line in [*text.splitlines(), ""]:
        is_row, is_fence = line.startswith("|"), line.startswith(_FENCE)
        rows = rows + 1 if is_row else 0
        if block and (is_code or is_row or is_fence or not line or line.startswith(("* ", "#"))):
            yield " ".join(block)
            block = []
        is_code ^= is_fence
        if is_row and not is_code and rows > len(("the head", "the line below it")):
            yield line
        elif line and not (is_row or is_code or is_fence or line.startswith("#")):
            block.append(line.removeprefix("* ").strip())

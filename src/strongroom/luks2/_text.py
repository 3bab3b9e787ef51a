# SPDX-License-Identifier: Apache-2.0
"""Foreign text on its way to an operator's terminal."""

from typing import Final

_SHOWN_CHARACTERS: Final = 64


def shown(text: str) -> str:
    """Return ``text`` in quotes, cut to 64 characters, without anything a terminal would obey."""
    # Cut first: the text may be megabytes long.
    clean = printable(text[:_SHOWN_CHARACTERS])
    return f'"{clean}"' if len(text) <= _SHOWN_CHARACTERS else f'"{clean}..."'


def printable(text: str) -> str:
    """Return ``text`` with every character that cannot be printed replaced by U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)

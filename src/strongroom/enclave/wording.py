# SPDX-License-Identifier: Apache-2.0
"""Words that cross the boundary, cut to its limits; cut alike, so that both sides name the same."""

from typing import Final

from strongroom.boundary.calls import MAX_TEXT_BYTES

_MAX_TEXTS: Final = 64


def clipped(text: str) -> str:
    """Return as much of a text as a field holds."""
    return text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")


def clipped_all(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return as many texts as a field holds, each clipped."""
    return tuple(clipped(text) for text in texts[:_MAX_TEXTS])

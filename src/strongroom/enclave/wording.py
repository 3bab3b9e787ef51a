# SPDX-License-Identifier: Apache-2.0
"""Words that cross the boundary, within its limits.

What an operator decides on crosses whole, or not at all. All else is cut where it must be, and
says so.
"""

from typing import Final

from strongroom.boundary.calls import MAX_CHANGES, MAX_NOTICES, MAX_TEXT_BYTES, HeaderChange
from strongroom.errors import LimitError
from strongroom.luks2 import ForeignChange

_CUT: Final = "..."


def clipped(text: str) -> str:
    """Return a text, or as much of it as a field holds and a mark that it was cut."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    return data[: MAX_TEXT_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def clipped_all(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts, each clipped; the last one says how many did not fit, if any."""
    if len(texts) <= MAX_NOTICES:
        return tuple(clipped(text) for text in texts)
    kept = tuple(clipped(text) for text in texts[: MAX_NOTICES - 1])
    return (*kept, f"and {len(texts) - len(kept)} more")


def as_shown(changes: tuple[ForeignChange, ...]) -> tuple[HeaderChange, ...]:
    """Return what another program changed as an operator is shown it.

    Raises:
        LimitError: It cannot be shown whole. There are fewer parts of a header than that.
    """
    longest = max((len(change.words.encode(errors="replace")) for change in changes), default=0)
    if len(changes) > MAX_CHANGES or longest > MAX_TEXT_BYTES:
        raise LimitError(
            f"{len(changes)} changes of the header are more than can be shown",
            hint="restore a backup of the header",
        )
    return tuple(HeaderChange(change.words, change.content) for change in changes)

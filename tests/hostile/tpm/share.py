# SPDX-License-Identifier: Apache-2.0
"""How much is tried of what can be done to a message: all of it, or another part in each run.

``make test`` takes a part, which begins at a random place, so that many runs come to all of it;
``make test-long`` takes all.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self, TypeVar

T = TypeVar("T")

PART: Final = 11
"""One of so many. Odd, so that all bits of a byte have their turn."""


@dataclass(frozen=True, slots=True)
class Share:
    """One of every ``step``, from the one with the number ``first`` on."""

    step: int
    first: int

    @classmethod
    def beginning_anywhere(cls, step: int) -> Self:
        """Return a share, and print which: with it a failure is found again."""
        share = cls(step, random.SystemRandom().randrange(step))
        print(share)
        return share

    def of(self, things: Iterable[T]) -> Iterator[T]:
        return itertools.islice(things, self.first, None, self.step)

    def count(self, *, part: int, everything: int) -> int:
        """Return how many of something are drawn of which nobody could try all."""
        return everything if self.step == 1 else part

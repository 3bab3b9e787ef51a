# SPDX-License-Identifier: Apache-2.0
"""One thing that was measured, of several contestants that took turns."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Value = TypeVar("Value")


WHOLE_FROM: Final = 1000


def digits(value: float) -> str:
    """Return a number with the three digits that mean something, and never an exponent of ten."""
    return f"{value:.0f}" if abs(value) >= WHOLE_FROM else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values and their extremes."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def words(self) -> str:
        """Return it as people read it."""
        return f"{digits(self.median)} ({digits(self.low)} to {digits(self.high)})"

    def facts(self) -> dict[str, float]:
        """Return what goes into JSON."""
        return {"min": self.low, "median": self.median, "max": self.high}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values of every contestant by rounds; the first one is ours.

    Attributes:
        group: What it was measured in one go with.
        measure: What was done, in words.
        unit: Of the values.
        values: For each contestant one value a round. Those of a round were measured one after the
            other, so what disturbed one may have disturbed all.
        larger_is_better: A speed, not a time or a size.
        at: Where on a curve this is: a request size, a queue depth; ``None`` for a single figure.
    """

    group: str
    measure: str
    unit: str
    values: Mapping[str, Sequence[float]]
    larger_is_better: bool = True
    at: float | None = None

    @property
    def ours(self) -> str:
        """The contestant that all others are compared with."""
        return next(iter(self.values))

    @property
    def others(self) -> tuple[str, ...]:
        """What ours is compared with; nothing for a figure that stands for itself."""
        return tuple(self.values)[1:]

    def spread(self, contestant: str) -> Spread:
        """Return the spread of a contestant's values."""
        return Spread.of(self.values[contestant])

    def times_better(self, other: str) -> list[float]:
        """Return for each round how many times better ours is than another."""
        pairs = zip(self.values[self.ours], self.values[other], strict=True)
        if self.larger_is_better:
            return [ours / theirs for ours, theirs in pairs]
        return [theirs / ours for ours, theirs in pairs]

    def ratio(self, other: str) -> Spread:
        """Return the spread of :meth:`times_better`."""
        return Spread.of(self.times_better(other))

    def facts(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        return {
            "group": self.group,
            "measure": self.measure,
            "unit": self.unit,
            "larger_is_better": self.larger_is_better,
            "at": self.at,
            "ours": self.ours,
            "contestants": {
                name: {"values": list(values), **Spread.of(values).facts()}
                for name, values in self.values.items()
            },
            "times_better": {
                name: {"values": self.times_better(name), **self.ratio(name).facts()}
                for name in self.others
            },
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return what :meth:`facts` was made of."""
        contestants = facts["contestants"]
        order = (facts["ours"], *(name for name in contestants if name != facts["ours"]))
        return cls(
            facts["group"],
            facts["measure"],
            facts["unit"],
            {name: tuple(contestants[name]["values"]) for name in order},
            larger_is_better=facts["larger_is_better"],
            at=facts["at"],
        )


def in_turn(
    actions: Mapping[str, Callable[[], Value]],
    rounds: int,
    after: Callable[[], None] = lambda: None,
) -> dict[str, list[Value]]:
    """Let all take turns, ``rounds`` times, every other time in reverse.

    So what grows or fades over time is on nobody's side. ``after`` is called after each turn.
    """
    found: dict[str, list[Value]] = {name: [] for name in actions}
    for number in range(rounds):
        order = list(actions) if number % 2 == 0 else list(actions)[::-1]
        for name in order:
            found[name].append(actions[name]())
            after()
    return found

# SPDX-License-Identifier: Apache-2.0
"""What a group gave: figures, the machine they belong to, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from strongroom.bench.clients import size_name
from strongroom.bench.comparison import Comparison
from strongroom.bench.goals import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HEADINGS: Final = ("measure", "contestant", "median (min to max)", "ours, times better", "goal")
AT: Final = {
    "request-size": ("request", size_name),
    "queue-depth": ("queue depth", "{:g}".format),
    "connections": ("connections", "{:g}".format),
    "volume-size": ("volume", size_name),
    "volume-count": ("volumes", "{:g}".format),
}
"""What the points of a curve are, for each group that has curves."""

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What one group gave.

    Attributes:
        group: Its name.
        machine: Where, when and with which versions.
        rounds: Turns of each contestant.
        seconds: Of a turn under load.
        comparisons: The figures.
        left_out: What was not measured, and why.
    """

    group: str
    machine: Mapping[str, str]
    rounds: int
    seconds: float
    comparisons: Sequence[Comparison]
    left_out: Sequence[str] = ()

    def facts(self, beside: Sequence[Comparison] = ()) -> dict[str, Any]:
        """Return what goes into JSON; goals may need what other groups gave."""
        known = (*self.comparisons, *beside)
        return {
            "group": self.group,
            "machine": dict(self.machine),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "left_out": list(self.left_out),
            "measures": [{**one.facts(), "goals": judged(one, known)} for one in self.comparisons],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return what :meth:`facts` was made of; what was judged is judged anew when asked."""
        return cls(
            facts["group"],
            facts["machine"],
            facts["rounds"],
            facts["seconds"],
            tuple(Comparison.from_facts(one) for one in facts["measures"]),
            tuple(facts["left_out"]),
        )


def judged(one: Comparison, known: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return every goal that a comparison has."""
    found = []
    for other in (None, *one.others):
        judgement = verdict(one, other, known)
        if judgement is not None:
            found.append({"other": other, "goal": judgement.goal, "met": judgement.met})
    return found


def rows(comparisons: Iterable[Comparison], known: Sequence[Comparison]) -> list[Row]:
    """Return the rows of a table of single figures, losses like wins.

    A measure has a row for each contestant, ours first, and its name stands in the first only.
    """
    return [row for one in comparisons if one.at is None for row in _rows_of(one, known)]


def _rows_of(one: Comparison, known: Sequence[Comparison]) -> Iterable[Row]:
    yield (f"{one.measure} ({one.unit})", *_cells(one, None, known))
    for other in one.others:
        yield ("", *_cells(one, other, known))


def _cells(one: Comparison, other: str | None, known: Sequence[Comparison]) -> Row:
    """Return what stands beside a measure: of ours, if there is no other."""
    judgement = verdict(one, other, known)
    goal = judgement.words() if judgement else ""
    ratio = "" if other is None else one.ratio(other).words()
    return (other or one.ours, one.spread(other or one.ours).words(), ratio, goal)


def curves(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Return the points of each curve, by what is measured."""
    found: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.at is not None:
            found.setdefault(one.measure, []).append(one)
    return found


def curve_rows(points: Sequence[Comparison]) -> tuple[Row, list[Row]]:
    """Return the head and the rows of a table of one curve."""
    first = points[0]
    name, shown = AT[first.group]
    head = (
        name,
        *(f"{one} ({first.unit})" for one in first.values),
        *(f"times better than {one}" for one in first.others),
    )
    return head, [
        (
            shown(point.at or 0),
            *(point.spread(one).words() for one in point.values),
            *(point.ratio(other).words() for other in point.others),
        )
        for point in points
    ]


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))

# SPDX-License-Identifier: Apache-2.0
"""What is good enough, and whether a comparison reached it. A loss is said like a win."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strongroom.bench.nbd import MEMORY, MEMORY_OVER_TIME
from strongroom.bench.servers import NBDKIT_LUKS, PLAIN, QEMU_LUKS
from strongroom.bench.volumes import MEMORY_OVER_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strongroom.bench.comparison import Comparison

COST_OVER_PLAIN: Final = 1.3
GIB_IN_GB: Final = 2**30 / 1e9
FLAT: Final = 1 / 1.1


@dataclass(frozen=True, slots=True)
class Goal:
    """What the median has to be.

    Attributes:
        group: Of the comparison.
        measure: A regular expression that is found in the measure's name.
        other: One that is found in the other contestant's name; ``None`` for ours alone.
        times: How many times better than the other at least.
        most: What the value of ours may be at most, in the comparison's unit.
        words: The goal as people read it.
    """

    group: str
    measure: str
    other: str | None
    words: str
    times: float | None = None
    most: float | None = None


def at_least(group: str, measure: str, other: str, times: float) -> Goal:
    """Return the goal to be so many times better."""
    return Goal(group, measure, other, f">= {times:g} x", times=times)


def at_most(group: str, measure: str, other: str, factor: float) -> Goal:
    """Return the goal to take no more than so many times what another takes."""
    return Goal(group, measure, other, f"<= {factor:g} x", times=1 / factor)


GOALS: Final = (
    at_least("nbd", "^1 MiB sequential", f"^{PLAIN}$", 1.0),
    at_least("nbd", "^1 MiB sequential", f"^({NBDKIT_LUKS}|{QEMU_LUKS})$", 4.0),
    at_least("nbd", "^4 KiB random", f"^{PLAIN}$", 1.5),
    at_least("nbd", "^4 KiB random", f"^{NBDKIT_LUKS}$", 3.0),
    Goal("nbd", f"^{re.escape(MEMORY)}$", None, "< 96 MiB", most=96.0),
    Goal("nbd", f"^{MEMORY_OVER_TIME}$", " at first$", "flat: <= 1.1 x", times=FLAT),
    Goal("volume-size", f"^{MEMORY_OVER_SIZE}$", " 64 MiB$", "flat: <= 1.1 x", times=FLAT),
    at_most("latency", "QD 1", f"^{PLAIN}$", 1.1),
    at_least("file-system", "write and fsync$", "^gocryptfs$", 3.0),
    at_least("file-system", "read, not cached$", "^gocryptfs$", 1.5),
    Goal("opening", "^open to ready", None, "< 0.5 s", most=0.5),
    at_least("key-derivation", "^Argon2id", "^libargon2$", 1.0),
    at_least("cipher", "1 MiB a call$", "", 0.9),
    at_least("cipher", "4096-byte sectors$", "^openssl speed", 1.3),
    at_least("cipher", "512-byte sectors$", "", 0.6),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal in words, and whether it was met."""

    goal: str
    met: bool

    def words(self) -> str:
        """Return both as people read them."""
        return f"{self.goal}: {'met' if self.met else 'NOT MET'}"


def verdict(one: Comparison, other: str | None, beside: Sequence[Comparison]) -> Verdict | None:
    """Judge a comparison with another contestant, or ours alone if that is ``None``.

    Args:
        one: What is judged, by its median.
        other: The contestant, or ``None``.
        beside: Everything that was measured: some goals need what the cipher alone takes.

    Returns:
        Nothing if there is no goal.
    """
    if one.group == "cost" and other == PLAIN:
        return _cost(one, beside)
    for goal in GOALS:
        if goal.group != one.group or re.search(goal.measure, one.measure) is None:
            continue
        if goal.other is None and other is None and goal.most is not None:
            return Verdict(goal.words, one.spread(one.ours).median < goal.most)
        if goal.other is None or other is None or goal.times is None:
            continue
        if re.search(goal.other, other):
            ratio = one.ratio(other).median
            return Verdict(goal.words, ratio >= goal.times)
    return None


def _cost(one: Comparison, beside: Sequence[Comparison]) -> Verdict:
    """Judge processor time: as much as the plain server takes, a third more, and the cipher's."""
    verb = "decrypt" if "read" in one.measure else "encrypt"
    cipher = 0.0
    for other in beside:
        if other.group == "cipher" and verb in other.measure and "4096-byte" in other.measure:
            cipher = GIB_IN_GB / other.spread(other.ours).median
            break
    most = COST_OVER_PLAIN * one.spread(PLAIN).median + cipher
    how = f"the cipher's {cipher:.3f}" if cipher else "the cipher's, not measured here"
    words = f"<= {COST_OVER_PLAIN:g} x + {how}"
    return Verdict(words, one.spread(one.ours).median <= most)

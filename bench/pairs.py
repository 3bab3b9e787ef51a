# SPDX-License-Identifier: Apache-2.0
"""Two things measured in turn, so that what disturbs one disturbs the other too."""

from dataclasses import dataclass

from strongroom.bench.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Pair:
    """Values of two contestants, in the order in which they were measured."""

    measure: str
    unit: str
    ours: str
    theirs: str
    values: tuple[tuple[float, float], ...]
    larger_is_better: bool = True

    def comparison(self, group: str) -> Comparison:
        """Return it as all others are."""
        ours, theirs = zip(*self.values, strict=True)
        values = {self.ours: ours, self.theirs: theirs}
        return Comparison(
            group, self.measure, self.unit, values, larger_is_better=self.larger_is_better
        )

# SPDX-License-Identifier: Apache-2.0
"""Plots of figures: bars side by side, and curves; what no server can exceed is drawn in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from strongroom.bench.comparison import Comparison
from strongroom.bench.results import AT
from strongroom.bench.servers import PLAIN

DOTS_PER_INCH: Final = 80
COLUMNS: Final = 2
PANEL_INCHES: Final = (4.6, 2.7)
OURS_COLOUR: Final = "#1b6ca8"
PLAIN_COLOUR: Final = "#d98c21"
OTHER_COLOUR: Final = "#9aa5ad"
LIMIT_COLOUR: Final = "#b03a2e"
FAR_FROM: Final = 2.5
"""A limit that many times the longest bar is named in the title, not drawn: bars would vanish."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram of a picture.

    Attributes:
        title: What was measured.
        points: One comparison for bars; for curves one for each point.
        limits: Lines to draw, by name, in the unit of the comparison.
    """

    title: str
    points: Sequence[Comparison]
    limits: Mapping[str, float] = field(default_factory=dict)


def draw(path: Path, heading: str, panels: Sequence[Panel]) -> None:
    """Draw a picture of panels, two in a row."""
    lines = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    width, height = PANEL_INCHES
    figure, grid = plt.subplots(
        lines, columns, figsize=(width * columns, height * lines), squeeze=False
    )
    spaces = [space for row in grid for space in row]
    for space, panel in zip(spaces, panels, strict=False):
        (bars if panel.points[0].at is None else curve)(space, panel)
    for space in spaces[len(panels) :]:
        space.set_visible(False)
    figure.suptitle(heading, fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of the library, so that the same figures give the same file.
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    plt.close(figure)


def bars(space: Axes, panel: Panel) -> None:
    """Draw a bar for each contestant, ours on top, with its extremes."""
    one = panel.points[0]
    names = list(one.values)
    spreads = [one.spread(name) for name in names]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    colours = [colour(one, name) for name in names]
    space.barh(names, medians, xerr=[below, above], color=colours, ecolor="#444444", capsize=2)
    space.invert_yaxis()
    better = "more" if one.larger_is_better else "less"
    space.set_xlabel(f"{one.unit} ({better} is better)", fontsize=8)
    longest = max(spread.high for spread in spreads)
    if PLAIN in one.values:
        space.axvline(one.spread(PLAIN).median, color=PLAIN_COLOUR, linestyle="--", linewidth=1)
    unseen = []
    for name, value in panel.limits.items():
        if value > FAR_FROM * longest:
            unseen.append(f"{name}: {value:.3g} {one.unit}")
            continue
        space.axvline(value, color=LIMIT_COLOUR, linestyle=":", linewidth=1.5, label=name)
        space.legend(fontsize=7, loc="lower right")
    space.set_title("\n".join((panel.title, *unseen)), fontsize=9)
    space.tick_params(labelsize=8)


def curve(space: Axes, panel: Panel) -> None:
    """Draw a line for each contestant, and a band from its least to its most."""
    first = panel.points[0]
    at = [point.at or 0 for point in panel.points]
    for name in first.values:
        spreads = [point.spread(name) for point in panel.points]
        hue = colour(first, name)
        space.plot(at, [one.median for one in spreads], "o-", ms=3, color=hue, label=name)
        low, high = [one.low for one in spreads], [one.high for one in spreads]
        space.fill_between(at, low, high, color=hue, alpha=0.2)
    for name, value in panel.limits.items():
        space.axhline(value, color=LIMIT_COLOUR, linestyle=":", linewidth=1.2)
        space.text(at[0], value * 0.95, name, fontsize=7, color=LIMIT_COLOUR, va="top")
    name, shown = AT[first.group]
    space.set_xscale("log", base=2)
    space.set_yscale("log")
    ticks = at if len(at) <= 8 else at[::3]
    space.set_xticks(ticks, [shown(tick) for tick in ticks])
    space.minorticks_off()
    space.set_xlabel(name, fontsize=8)
    space.set_ylabel(first.unit, fontsize=8)
    space.set_title(panel.title, fontsize=9)
    space.tick_params(labelsize=8)
    space.grid(visible=True, alpha=0.3)
    space.legend(fontsize=7)


def colour(one: Comparison, name: str) -> str:
    """Return what a contestant is drawn in."""
    if name == one.ours:
        return OURS_COLOUR
    return PLAIN_COLOUR if name in {PLAIN, "plain loop"} else OTHER_COLOUR

# SPDX-License-Identifier: Apache-2.0
"""How measurements are shown in a terminal."""

from strongroom.bench.comparison import Comparison
from strongroom.bench.machine import words
from strongroom.bench.results import HEADINGS, Result, Row, curve_rows, curves, rows
from strongroom.cli.output import printable, table


def shown(results: tuple[Result, ...], known: tuple[Comparison, ...]) -> str:
    """Return tables and notes; ``known`` is all that was measured, which some goals need."""
    single = rows(known, known)
    parts = [_table(HEADINGS, single)] if single else []
    for result in results:
        for measured, points in curves(result.comparisons).items():
            parts.append(f"{result.group}: {measured}\n{_table(*curve_rows(points))}")
    parts.extend(printable(text) for result in results for text in result.left_out)
    parts.append(words(dict(results[-1].machine)))
    return "\n\n".join(parts)


def _table(head: tuple[str, ...], lines: list[Row]) -> str:
    return table([word.upper() for word in head], lines)

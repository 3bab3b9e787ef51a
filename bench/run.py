# SPDX-License-Identifier: Apache-2.0
"""Measure everything on this machine, side by side; results/GROUP.json gets the figures.

The same as ``strongroom bench``, and what needs the sources: the cipher alone, the limits of the
machine, and dm-crypt in a guest. ``report.py`` makes docs/performance.md of the figures.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.ceiling import ceiling
from bench.guest import guest
from bench.limits import limits
from bench.parts import cipher
from strongroom.bench.comparison import Comparison
from strongroom.bench.groups import GROUPS, Group
from strongroom.bench.measuring import Settings, measure
from strongroom.bench.results import HEADINGS, Result, curve_rows, curves, markdown, rows
from strongroom.bench.run import Run
from strongroom.errors import StrongroomError
from strongroom.units import MIB

REPOSITORY: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).with_name("results")
QUICK_RESULTS: Final = REPOSITORY / "build/bench"
GUEST_ROUNDS: Final = 2
NOT_OURS: Final = frozenset({"tpm.json"})


def cipher_group(run: Run) -> Iterator[Comparison]:
    """AES-256-XTS on one core."""
    for pair in cipher(rounds=run.rounds):
        yield pair.comparison(run.group)


ALL_GROUPS: Final = {
    "limits": Group(limits, "what no server can exceed"),
    "ceiling": Group(ceiling, "a server that has nothing to do"),
    "cipher": Group(cipher_group, "AES-256-XTS on one core"),
    **GROUPS,
    "guest": Group(guest, "dm-crypt and ours in an emulated machine", most_rounds=GUEST_ROUNDS),
}


class Progress:
    """Says on standard error what comes and what is left out."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say that a group begins."""
        if done == 0:
            print(f"bench: {stage}, {total} turns", file=sys.stderr)

    def notice(self, text: str) -> None:
        """Say what whoever reads the figures should know."""
        print(f"bench: {text}", file=sys.stderr)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ALL_GROUPS, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn (default: 1)")
    parser.add_argument("--size", type=int, default=256, help="MiB of an export (default: 256)")
    parser.add_argument("--directory", type=Path, help="where images go (default: memory)")
    parser.add_argument("--results", type=Path, help="where figures go (default: bench/results)")
    parser.add_argument(
        "--quick", action="store_true", help="one short turn of each; figures go to build/bench"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


def stored(directory: Path) -> dict[str, Result]:
    """Return what earlier runs left, by group."""
    paths = (path for path in directory.glob("*.json") if path.name not in NOT_OURS)
    found = (Result.from_facts(json.loads(path.read_text())) for path in paths)
    return {result.group: result for result in found}


def keep(result: Result, directory: Path, known: Sequence[Comparison]) -> None:
    """Write the figures of a group."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.facts(known), indent=1)
    (directory / f"{result.group}.json").write_text(text + "\n")


def shown(result: Result, known: Sequence[Comparison]) -> str:
    """Return the tables of a group."""
    single = rows(result.comparisons, known)
    parts = [markdown(HEADINGS, single)] if single else []
    for name, points in curves(result.comparisons).items():
        parts.append(f"{name}\n\n{markdown(*curve_rows(points))}")
    return "\n\n".join(parts)


def main() -> int:
    """Measure, print, and leave the figures in the directory of results."""
    chosen = options()
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.size = 1, 0.2, 64
    directory = chosen.results or (QUICK_RESULTS if chosen.quick else RESULTS)
    settings = Settings(chosen.rounds, chosen.seconds, chosen.size * MIB, chosen.directory)
    printed = []
    try:
        for result in measure(chosen.only or tuple(ALL_GROUPS), settings, Progress(), ALL_GROUPS):
            others = stored(directory).values()
            known = (*result.comparisons, *(one for other in others for one in other.comparisons))
            keep(result, directory, known)
            printed.append(result.facts(known))
            print(shown(result, known), end="\n\n", file=sys.stderr if chosen.json else sys.stdout)
    except StrongroomError as err:
        print(f"bench: error: {err.message}\nbench: hint: {err.hint}", file=sys.stderr)
        return err.exit_code
    if chosen.json:
        print(json.dumps(printed))
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Make the tables and plots of docs/performance.md from the figures in results/.

A block between ``<!-- GROUP -->`` and ``<!-- /GROUP -->`` is made anew; everything else is prose,
and stays. Without matplotlib the tables are made and the plots stay as they are.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.limits import AES, SOCKET
from bench.run import RESULTS, shown, stored
from strongroom.bench.comparison import Comparison
from strongroom.bench.machine import words
from strongroom.bench.results import Result, curves

DOCUMENT: Final = Path(__file__).parents[1] / "docs/performance.md"
BAR_GROUPS: Final = {
    "cipher": "AES-256-XTS on one core",
    "nbd": "NBD over one connection, beside other servers",
    "ceiling": "a server without disk and cipher, beside whole ones",
    "latency": "one request of 4 KiB at a time",
    "cost": "processor time of the server for each GiB",
    "file-system": "files on a mounted file system",
    "device": "dd and hdparm",
    "guest": "dm-crypt and ours in an emulated machine",
}
CURVE_GROUPS: Final = {
    "request-size": "speed by the size of requests",
    "queue-depth": "speed by requests on their way at once",
    "connections": "speed by connections",
    "volume-size": "by the size of a sparse volume",
    "volume-count": "by the number of open volumes",
}
BY_SOCKET: Final = frozenset({"nbd", "request-size", "queue-depth", "connections"})
FACTS_OF_A_RUN: Final = ("time", "load", "load at the end", "stolen by the hypervisor")


def block_of(result: Result, known: Sequence[Comparison], picture: str) -> str:
    """Return what stands in the document for a group."""
    about = result.machine
    when = (
        f"{about['time']}, {result.rounds} rounds, {result.seconds:g} s a turn; "
        f"load {about['load']} before and {about['load at the end']} after; "
        f"{about.get('stolen by the hypervisor', 'an unknown share')} of the time was stolen."
    )
    out = [f"* {text}" for text in result.left_out]
    parts = (when, picture, shown(result, known), "\n".join(out))
    return "\n\n".join(part for part in parts if part)


def machine_block(results: Mapping[str, Result]) -> str:
    """Return what describes the machine, once: what changes from run to run stands elsewhere."""
    facts = dict(next(iter(results.values())).machine)
    for result in results.values():
        facts |= result.machine
    return words({name: facts[name] for name in facts if name not in FACTS_OF_A_RUN}) + "."


def replaced(text: str, name: str, content: str) -> str:
    """Return a document with one block made anew; one that it does not have is left out."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{content}\n\n{end}", text)


def limits_of(results: Mapping[str, Result], group: str) -> dict[str, float]:
    """Return what no contestant of a group can exceed, in GB/s."""
    if "limits" not in results or group not in {*BY_SOCKET, "cipher"}:
        return {}
    found = {one.measure: one.spread(one.ours).median for one in results["limits"].comparisons}
    wanted = (AES, SOCKET) if group in BY_SOCKET else (AES,)
    return {name: found[name] for name in wanted if name in found}


def draw_all(results: Mapping[str, Result], directory: Path) -> None:
    """Draw a picture for each group."""
    from bench.plots import Panel, draw  # noqa: PLC0415 - only where matplotlib is installed

    for group, heading in (BAR_GROUPS | CURVE_GROUPS).items():
        if group not in results:
            continue
        limits = limits_of(results, group)
        result = results[group]
        points = (
            curves(result.comparisons)
            if group in CURVE_GROUPS
            else {one.measure: [one] for one in result.comparisons if one.others}
        )
        panels = [
            Panel(name, of, limits if of[0].unit == "GB/s" else {}) for name, of in points.items()
        ]
        if panels:
            draw(directory / f"{group}.png", heading, panels)


def main() -> None:
    """Make everything anew that there are figures for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="what is changed")
    chosen = parser.parse_args()
    results = stored(chosen.results)
    if not results:
        parser.error(f"no figures in {chosen.results}: run bench/run.py first")
    known = [one for result in results.values() for one in result.comparisons]
    pictures = chosen.document.parent / chosen.document.stem
    if importlib.util.find_spec("matplotlib") is None:
        print("report: plots stay as they are: matplotlib is not installed", file=sys.stderr)
        print("report: hint: .venv/bin/pip install --group bench", file=sys.stderr)
    else:
        draw_all(results, pictures)
    text = chosen.document.read_text()
    text = replaced(text, "machine", machine_block(results))
    for group, result in results.items():
        path = pictures / f"{group}.png"
        heading = (BAR_GROUPS | CURVE_GROUPS).get(group, group)
        picture = f"![{heading}]({pictures.name}/{path.name})" if path.exists() else ""
        text = replaced(text, group, block_of(result, known, picture))
    chosen.document.write_text(text)


if __name__ == "__main__":
    main()

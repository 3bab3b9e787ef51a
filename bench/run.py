# SPDX-License-Identifier: Apache-2.0
"""Measure on this machine, side by side with other tools; see README.md beside this file."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import measures, parts
from bench.pairs import HEADER, Pair
from bench.servers import STRONGROOM, Place

RESULTS: Final = Path(__file__).with_name("results")
VERSIONS: Final = (
    (str(STRONGROOM), "--version"),
    ("nbdkit", "--version"),
    ("qemu-nbd", "--version"),
    ("fio", "--version"),
    ("openssl", "version"),
    ("gocryptfs", "--version"),
)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of each measure (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each NBD run (default: 1)")
    parser.add_argument("--size", type=int, default=256, help="MiB of each export (default: 256)")
    parser.add_argument("--directory", type=Path, help="where images go (default: temporary)")
    parser.add_argument("--only", choices=GROUPS, action="append", help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


GROUPS: Final = ("nbd", "same-sectors", "cipher", "key-derivation", "opening", "file-system")


def measured(directory: Path | None, chosen: argparse.Namespace) -> Iterator[Pair]:
    """Measure the chosen groups, one after the other, each in a directory that goes with it."""
    rounds, seconds, size_mib = chosen.rounds, chosen.seconds, chosen.size
    over_nbd = {"rounds": rounds, "seconds": seconds, "size_mib": size_mib}
    groups: dict[str, Callable[[Place], Iterator[Pair]]] = {
        "nbd": partial(measures.nbd, **over_nbd),
        "same-sectors": partial(measures.same_sectors, **over_nbd),
        "cipher": lambda _place: parts.cipher(rounds=rounds),
        "key-derivation": lambda _place: parts.key_derivation(rounds=rounds),
        "opening": partial(parts.opening, rounds=max(rounds, 5)),
        "file-system": partial(parts.file_system, rounds=rounds),
    }
    for name in chosen.only or GROUPS:
        if name == "file-system" and (os.geteuid() or not Path("/dev/fuse").exists()):
            print("file-system: needs root and /dev/fuse, left out", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(dir=directory, prefix="strongroom-bench-") as root:
            yield from groups[name](Place(Path(root)))


def machine(versions: tuple[tuple[str, ...], ...] = VERSIONS) -> dict[str, str]:
    """Tell what the figures belong to."""
    found = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "cpus": str(os.cpu_count()),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for command in versions:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        first = (done.stdout or done.stderr).strip().splitlines()
        found[Path(command[0]).name] = first[0] if first else "unknown"
    return found


def cpu() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Measure, print, and leave the figures in the directory of results."""
    chosen = options()
    about = machine()
    pairs: list[Pair] = []
    for pair in measured(chosen.directory, chosen):
        pairs.append(pair)
        print(pair.row(), file=sys.stderr)
    about["load at the end"] = f"{os.getloadavg()[0]:.1f}"
    facts = {"machine": about, "measures": [pair.facts() for pair in pairs]}
    line = "; ".join(f"{name} {value}" for name, value in about.items())
    table = "\n".join((f"{line}\n", HEADER, *(pair.row() for pair in pairs)))
    if chosen.only is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "latest.json").write_text(json.dumps(facts, indent=1) + "\n")
        (RESULTS / "latest.md").write_text(table + "\n")
    print(json.dumps(facts) if chosen.json else table)


if __name__ == "__main__":
    main()

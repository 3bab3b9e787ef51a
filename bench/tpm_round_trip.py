# SPDX-License-Identifier: Apache-2.0
"""Measure round trips to a TPM from an enclave, beside other ways; see README.md in this directory.

The four take turns, a round each. Figures are microseconds: the median, and both quartiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))
# What libtss2 has to say goes to standard error otherwise.
os.environ["TSS2_LOG"] = "all+none"

from bench.tpm_contenders import (
    RANDOM,
    RANDOM_ECALL,
    READ,
    READ_ECALL,
    Action,
    Contender,
    Ready,
    enrolled_tpm,
    from_enclave,
    in_process,
    libtss2_plain,
    libtss2_session,
)
from strongroom.bench.machine import machine

RESULTS: Final = Path(__file__).with_name("results")
ENCLAVE: Final = "enclave"
CONTENDERS: Final[dict[str, Contender]] = {
    ENCLAVE: from_enclave,
    "libtss2, session": libtss2_session,
    "libtss2, plain": libtss2_plain,
    "in one process": in_process,
}
REPEATS: Final = {RANDOM: 1000, RANDOM_ECALL: 1000, READ: 200, READ_ECALL: 200}
BESIDE: Final = {RANDOM_ECALL: RANDOM}
"""What the others do instead: they have no ecall."""
WARMING: Final = 10
VERSIONS: Final = {"swtpm": ("swtpm", "--version")}

Samples = dict[tuple[str, str], list[list[float]]]
"""For a measure and a contender the microseconds of each run, by rounds."""


def measured(ready: Ready, rounds: int) -> Samples:
    """Let all take turns."""
    samples: Samples = defaultdict(list)
    for _ in range(rounds):
        for name, contender in CONTENDERS.items():
            with contender(ready) as actions:
                for measure, action in actions.items():
                    samples[measure, name].append(microseconds(action, REPEATS[measure]))
    return samples


def microseconds(action: Action, repeats: int) -> list[float]:
    """Return how long each run took, or each one of those that are done at once."""
    for _ in range(min(WARMING, repeats // action.times)):
        action.run()
    found = []
    for _ in range(-(-repeats // action.times)):
        start = time.perf_counter_ns()
        action.run()
        found.append((time.perf_counter_ns() - start) / 1000 / action.times)
    return found


def spread(rounds: list[list[float]]) -> tuple[float, float, float]:
    """Return the quartiles of all that was measured."""
    low, middle, high = statistics.quantiles([one for runs in rounds for one in runs], n=4)
    return low, middle, high


def ratios(samples: Samples, measure: str, other: str) -> list[float]:
    """Return how many times longer the enclave takes, for each round."""
    ours = samples[measure, ENCLAVE]
    theirs = samples[BESIDE.get(measure, measure), other]
    return [
        statistics.median(mine) / statistics.median(its)
        for mine, its in zip(ours, theirs, strict=True)
    ]


def table(samples: Samples) -> str:
    """Return all figures as people read them."""
    others = [name for name in CONTENDERS if name != ENCLAVE]
    head = ["measure", *CONTENDERS, *(f"enclave / {name}" for name in others)]
    lines = [head, ["---"] * len(head)]
    for measure in REPEATS:
        figures = [shown(samples.get((measure, name))) for name in CONTENDERS]
        lines.append([measure, *figures, *(ratio(samples, measure, name) for name in others)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(rounds: list[list[float]] | None) -> str:
    """Return the median and the quartiles, if that was measured."""
    if rounds is None:
        return ""
    low, middle, high = spread(rounds)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def ratio(samples: Samples, measure: str, other: str) -> str:
    """Return the median of the rounds' ratios, and their extremes."""
    if (measure, ENCLAVE) not in samples:
        return ""
    found = ratios(samples, measure, other)
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def facts(samples: Samples) -> list[dict[str, Any]]:
    """Return what goes into the JSON file."""
    found = []
    for (measure, name), rounds in samples.items():
        low, middle, high = spread(rounds)
        found.append(
            {
                "measure": measure,
                "contender": name,
                "unit": "us",
                "rounds": len(rounds),
                "runs": sum(map(len, rounds)),
                "quartiles": [low, middle, high],
                "medians of the rounds": [statistics.median(runs) for runs in rounds],
            }
        )
    return found


def libtss2_version() -> str:
    """Return the version of the library that the contenders use."""
    asked = ["pkg-config", "--modversion", "tss2-esys"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure, print, and leave the figures in the directory of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--keep", action="store_true", help="leave the figures in results/")
    options = parser.parse_args()
    about = {**machine(versions=VERSIONS), "libtss2": libtss2_version()}
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as root:
        os.environ["STRONGROOM_STATE_DIR"] = f"{root}/state"
        with enrolled_tpm(Path(root)) as ready:
            samples = measured(ready, options.rounds)
    about["load at the end"] = f"{os.getloadavg()[0]:.1f}"
    line = "; ".join(f"{name} {value}" for name, value in about.items())
    text = f"{line}\n\n{table(samples)}"
    print(text)
    if options.keep:
        content = {"machine": about, "measures": facts(samples)}
        (RESULTS / "tpm.json").write_text(json.dumps(content, indent=1) + "\n")
        (RESULTS / "tpm.md").write_text(text + "\n")


if __name__ == "__main__":
    main()

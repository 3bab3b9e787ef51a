# SPDX-License-Identifier: Apache-2.0
"""Count what ``rust/data/examples/counted_load.rs`` costs: run it for few bursts and for more.

What starting, the handshake and the end cost is in both runs, so the difference is the bursts'.
"""

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
FEW, MORE = 20, 60
_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Load:
    """Bursts of equal requests, on one connection."""

    operation: str
    size_bytes: int
    burst: int

    def arguments(self, file: Path, bursts: int) -> tuple[str, ...]:
        """Return the arguments of the program."""
        return str(file), self.operation, str(self.size_bytes), str(self.burst), str(bursts)


def build() -> Path:
    """Build the program and return where it is."""
    command = ("cargo", "build", "--release", "--package", "strongroom-data")
    done = subprocess.run(
        [*command, "--example", "counted_load", "--message-format=json-render-diagnostics"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    made = [message.get("executable") for message in messages]
    return Path(next(path for path in reversed(made) if path))


def system_calls(program: Path, load: Load, directory: Path) -> Counter[str]:
    """Count the server's system calls for :data:`MORE` minus :data:`FEW` bursts, by name."""

    def calls(bursts: int) -> Counter[str]:
        log = directory / f"calls-{bursts}"
        arguments = load.arguments(directory / "image", bursts)
        _run("strace", "-f", "-qq", "-o", str(log), str(program), *arguments)
        lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
        server = lines[0][0]
        names = (re.match(r"(\w+)\(", call) for thread, call in lines if thread == server)
        return Counter(name[1] for name in names if name)

    return calls(MORE) - calls(FEW)


def allocations(program: Path, load: Load, directory: Path) -> int:
    """Count the heap allocations of both sides for :data:`MORE` minus :data:`FEW` bursts."""

    def made(bursts: int) -> int:
        arguments = load.arguments(directory / "image", bursts)
        said = _run("valgrind", "--tool=memcheck", "--fair-sched=yes", str(program), *arguments)
        found = re.search(r"total heap usage: ([\d,]+) allocs", said)
        assert found is not None, said
        return int(found[1].replace(",", ""))

    return made(MORE) - made(FEW)


def instructions(program: Path, load: Load, directory: Path) -> int:
    """Count the server's instructions for :data:`MORE` minus :data:`FEW` bursts.

    Valgrind's processor has no AVX-512: what is counted is the AES-NI backend.
    """

    def executed(bursts: int) -> int:
        out = directory / f"callgrind-{bursts}"
        arguments = load.arguments(directory / "image", bursts)
        _run(
            *("valgrind", "--tool=callgrind", "--fair-sched=yes", "--separate-threads=yes"),
            *(f"--callgrind-out-file={out}", str(program), *arguments),
        )
        # Threads are numbered in the order in which they start: the server is the first.
        text = out.with_name(f"{out.name}-01").read_text()
        found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found[1])

    return executed(MORE) - executed(FEW)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_SECONDS, cwd=ROOT
    )
    return done.stdout + done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Count what ``rust/data/examples/counted_load.rs`` costs: run it for few bursts and for more.

What starting, the handshake and the end cost is in both runs, so the difference is the bursts'.
"""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
CALL: Final = re.compile(r"(?:<\.\.\. )?(\w+)(?:\(| resumed>).*?(?: = (\d+))?(?: <[\d.]+>)?$")
ALLOCATIONS: Final = re.compile(r"total heap usage: ([\d,]+) allocs")
INSTRUCTIONS: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Load:
    """Bursts of equal requests, on one connection."""

    operation: str
    size_bytes: int
    burst: int
    few: int = 20
    """Bursts until all memory is in place."""
    more: int = 60

    def arguments(self, file: Path, bursts: int) -> tuple[str, ...]:
        """Return the arguments of the program."""
        return str(file), self.operation, str(self.size_bytes), str(self.burst), str(bursts)

    @property
    def bursts(self) -> int:
        """How many bursts make up the difference."""
        return self.more - self.few


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls of the server's threads."""

    count: Counter[str]
    """By name; calls that found nothing to do are among them."""
    moved_bytes: int
    """What came out of calls that read, receive, write or send."""


def system_calls(program: Path, load: Load, directory: Path) -> Calls:
    """Count the server's system calls."""

    def calls(bursts: int) -> Calls:
        log = directory / f"calls-{bursts}"
        arguments = load.arguments(directory / "image", bursts)
        _run("strace", "-f", "-qq", "-s", "0", "-o", str(log), str(program), *arguments)
        return _parsed(log.read_text())

    few, more = calls(load.few), calls(load.more)
    return Calls(more.count - few.count, more.moved_bytes - few.moved_bytes)


def allocations(program: Path, load: Load, directory: Path) -> int:
    """Count heap allocations; the client makes none."""

    def made(bursts: int) -> int:
        arguments = load.arguments(directory / "image", bursts)
        said = _run("valgrind", "--tool=memcheck", "--fair-sched=yes", str(program), *arguments)
        found = ALLOCATIONS.search(said)
        assert found is not None, said
        return int(found[1].replace(",", ""))

    return made(load.more) - made(load.few)


def instructions(program: Path, load: Load, directory: Path) -> int:
    """Count the server's instructions.

    Valgrind's processor has neither AVX-512 nor VAES: what is counted is the AES-NI backend.
    """

    def executed(bursts: int) -> int:
        out = directory / f"callgrind-{bursts}"
        arguments = load.arguments(directory / "image", bursts)
        _run(
            *("valgrind", "--tool=callgrind", "--separate-threads=yes", "--fair-sched=yes"),
            *(f"--callgrind-out-file={out}", str(program), *arguments),
        )
        threads = sorted(directory.glob(f"{out.name}-*"))
        found = [INSTRUCTIONS.search(file.read_text()) for file in _servers(threads)]
        return sum(int(match[1]) for match in found if match)

    return executed(load.more) - executed(load.few)


def _servers(threads: list[Path]) -> list[Path]:
    """Leave the client out, which is the second thread to start."""
    return [thread for place, thread in enumerate(threads) if place != 1]


def _parsed(log: str) -> Calls:
    lines = [line.split(maxsplit=1) for line in log.splitlines()]
    numbers = sorted({int(thread) for thread, _ in lines})
    client = str(numbers[1])
    count: Counter[str] = Counter()
    moved_bytes = 0
    for thread, words in lines:
        call = CALL.match(words)
        if thread == client or call is None:
            continue
        # A call that another thread interrupted has two lines, of which the second has the result.
        count[call[1]] += "unfinished" not in words
        if call[2] and re.search("read|recv|write|send", call[1]):
            moved_bytes += int(call[2])
    return Calls(count, moved_bytes)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
    )
    return done.stdout + done.stderr

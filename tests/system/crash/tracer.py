# SPDX-License-Identifier: Apache-2.0
"""Stopping a command right before its n-th write or sync, with strace.

The enclave is the first process of its own PID namespace, so that a signal which strace injects
does not kill it. So the call is delayed instead, and the test kills from outside.
"""

import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.harness import Operator
from tests.system.crash.remains import descendants
from tests.system.crash.victims import await_end, started

if TYPE_CHECKING:
    import subprocess

CALLS = "pwrite64,fsync,linkat"
_DELAY = "60s"
_LINE = re.compile(r"^(\d+) +(pwrite64|fsync|linkat)\((.*)", re.DOTALL)
_WRITE = re.compile(r'\d+, "((?:\\x[0-9a-f]{2})*)", (\d+), (\d+)\) += (\d+)')
_LONGEST_WRITE = 1 << 20
_POLL_SECONDS = 0.002
_REACH_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Event:
    """A call that changes something: which one, the how manieth of its process, and of whom."""

    call: str
    number: int
    process: int
    text: str

    @property
    def written(self) -> tuple[int, bytes] | None:
        """The offset and the bytes of a write, if they were recorded."""
        if self.call != "pwrite64":
            return None
        found = _WRITE.match(self.text)
        assert found, self.text[-200:]
        data = bytes.fromhex(found[1].replace("\\x", ""))
        assert len(data) == int(found[2]) == int(found[4])
        return int(found[3]), data


def record(
    operator: Operator,
    command: tuple[str | Path, ...],
    image: Path | None = None,
    *,
    with_data: bool = False,
) -> list[Event]:
    """Run a command to its end and return the calls that it and its enclave made.

    With ``image`` those on it alone. As calls are counted for each process, two processes that
    write would have calls of the same number.
    """
    log = operator.place / "trace"
    options = ("-xx", "-s", str(_LONGEST_WRITE)) if with_data else ()
    with started(operator, *command, tracer=_strace(log, *options, *_on(image))) as process:
        output, _ = process.communicate(timeout=_REACH_SECONDS)
        assert process.returncode == 0, output
    return _events(log)


def kill_at(
    operator: Operator,
    command: tuple[str | Path, ...],
    event: Event,
    image: Path | None = None,
    *,
    victim: Literal["enclave", "command"],
    moment: Literal["enter", "exit"] = "enter",
) -> None:
    """Run a command and kill it, or its enclave, right before or after a call.

    With ``image`` only calls on it count, as in :func:`record`.

    Returns when both are gone: the one that is not killed has to end by itself.
    """
    log = operator.place / "trace"
    log.unlink(missing_ok=True)
    delay = ("-e", f"inject={event.call}:delay_{moment}={_DELAY}:when={event.number}")
    with started(operator, *command, tracer=_strace(log, *delay, *_on(image))) as strace:
        stopped = _await_stop(strace, log, event)
        below = descendants(strace.pid)
        assert stopped in {process.pid for process in below}
        victims = [item for item in below if item.is_enclave == (victim == "enclave")]
        for process in victims:
            process.kill()
        await_end([item for item in victims if item.pid != stopped])
        # strace itself would sit out the delay, and keep the one that it holds from its end.
        strace.kill()
        await_end(below)


def fail_at(
    operator: Operator,
    command: tuple[str | Path, ...],
    event: Event,
    image: Path,
    *,
    for_good: bool,
) -> tuple[int, str]:
    """Run a command whose call on an image fails with EIO, and the same calls after it for good.

    Returns its exit code and what it printed.
    """
    log = operator.place / "trace"
    when = f"{event.number}{'+' if for_good else ''}"
    calls = "pwrite64,fsync" if for_good and event.number == 1 else event.call
    inject = ("-e", f"inject={calls}:error=EIO:when={when}")
    with started(operator, *command, tracer=_strace(log, *inject, *_on(image))) as process:
        output, _ = process.communicate(timeout=_REACH_SECONDS)
        return process.returncode, output


def _strace(log: Path, *options: str) -> tuple[str, ...]:
    own = ("strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "-o", str(log))
    return (*own, "-e", f"trace={CALLS}", "-e", "signal=none", *options)


def _on(image: Path | None) -> tuple[str, ...]:
    return () if image is None else ("--trace-path", str(image))


def _events(log: Path) -> list[Event]:
    seen: Counter[tuple[int, str]] = Counter()
    events = []
    for line in log.read_text().splitlines():
        found = _LINE.match(line)
        if found:
            process, call = int(found[1]), found[2]
            seen[process, call] += 1
            events.append(Event(call, seen[process, call], process, found[3]))
    return events


def _await_stop(strace: "subprocess.Popen[str]", log: Path, event: Event) -> int:
    """Wait until a process is held in the call, and return its pid."""
    end = time.monotonic() + _REACH_SECONDS
    while time.monotonic() < end:
        assert strace.poll() is None, f"the command ended before its {event.call} {event.number}"
        last = _events(log)[-1:] if log.exists() else []
        # A call that is held has its arguments in the log, and not yet its result.
        reached = last and (last[0].call, last[0].number) == (event.call, event.number)
        held = " = " not in last[0].text or "(DELAYED)" in last[0].text if last else False
        if reached and held:
            return last[0].process
        time.sleep(_POLL_SECONDS)
    raise AssertionError(f"{event.call} {event.number} was not reached")

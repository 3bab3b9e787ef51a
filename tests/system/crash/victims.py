# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed while they work."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from tests.harness import STRONGROOM, SYSTEM_PATH, Operator, has_ended
from tests.system.crash.remains import Process, await_true, descendants

Victim: TypeAlias = Literal["enclave", "command", "both"]
VICTIMS: tuple[Victim, ...] = ("enclave", "command", "both")

_POLL_SECONDS = 0.0005
_RUN_SECONDS = 60


@contextmanager
def started(
    operator: Operator, *command: str | Path, tracer: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start strongroom, and see to it that it is gone afterwards."""
    process = subprocess.Popen(
        [*tracer, str(STRONGROOM), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PATH": SYSTEM_PATH,
            "STRONGROOM_RUNTIME_DIR": str(operator.runtime),
            **operator.environment,
        },
    )
    try:
        yield process
    finally:
        for below in descendants(process.pid):
            below.kill()
        process.kill()
        process.communicate(timeout=_RUN_SECONDS)


def kill_after(
    operator: Operator, command: tuple[str | Path, ...], victim: Victim, seconds: float
) -> str:
    """Run a command and kill it, its enclave or both after a time; return what was killed.

    Returns when the command and its enclave are gone. ``nothing`` when they were quicker.
    """
    with started(operator, *command) as process:
        time.sleep(seconds)
        return _kill(process, victim)


def kill_when_written(
    operator: Operator,
    command: tuple[str | Path, ...],
    victim: Victim,
    *,
    image: Path,
    seconds: float,
) -> str:
    """The same, a time after the first byte of ``image`` was changed."""
    before = image.stat().st_mtime_ns
    with started(operator, *command) as process:
        while process.poll() is None and image.stat().st_mtime_ns == before:
            time.sleep(_POLL_SECONDS)
        time.sleep(seconds)
        return _kill(process, victim)


def await_end_of(process: subprocess.Popen[str], below: list[Process]) -> None:
    """Wait for a command and for the enclave that it had."""
    process.communicate(timeout=_RUN_SECONDS)
    await_end(below)


def await_end(below: list[Process]) -> None:
    for item in below:
        await_true(
            lambda pid=item.pid: has_ended(pid),  # type: ignore[misc]
            f"the end of {item}",
        )


def _kill(process: subprocess.Popen[str], victim: Victim) -> str:
    below = descendants(process.pid)
    while victim == "enclave" and process.poll() is None and not below:
        below = descendants(process.pid)
    hit = ["enclave"] if below and victim != "command" else []
    if victim != "enclave" and process.poll() is None:
        hit.append("command")
        process.kill()
    if victim != "command":
        for item in below:
            item.kill()
    await_end_of(process, below)
    return "+".join(hit) or "nothing"

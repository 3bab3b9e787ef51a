# SPDX-License-Identifier: Apache-2.0
"""How long the host waits for an enclave, and a command for a host process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.boundary.channel import Patience

IDLE_SECONDS: Final = 300.0
"""How long an enclave that is deriving a key or changing a header may use no processor time. A slow
disk that writes gigabytes before it answers is waited for."""
STOPPED_SECONDS: Final = 20.0
"""How long a process may be stopped by a signal or a debugger."""


def never() -> bool:
    """Say that there is no other reason to stop waiting."""
    return False


def within(seconds: float, *, unless: Callable[[], bool] = never) -> Patience:
    """Return a patience that ends after a time, or as soon as ``unless`` says so."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end and not unless()


def while_working(pid: int, *, unless: Callable[[], bool] = never) -> Patience:
    """Return a patience that lasts for as long as a process uses the processor now and then.

    A derivation takes as long as the header says and the machine needs: it has no limit in seconds.
    """
    used = _processor_ticks(pid)
    idle_since = stopped_since = time.monotonic()

    def patience() -> bool:
        nonlocal used, idle_since, stopped_since
        now, ticks = time.monotonic(), _processor_ticks(pid)
        if ticks != used:
            used, idle_since = ticks, now
        if not is_stopped(pid):
            stopped_since = now
        is_waiting = now - idle_since < IDLE_SECONDS and now - stopped_since < STOPPED_SECONDS
        return is_waiting and not unless()

    return patience


def while_running(pid: int) -> Patience:
    """Return a patience that lasts for as long as a process is not stopped.

    A host process waits for its enclave without using the processor, so that tells nothing of it.
    """
    stopped_since = time.monotonic()

    def patience() -> bool:
        nonlocal stopped_since
        now = time.monotonic()
        if not is_stopped(pid):
            stopped_since = now
        return now - stopped_since < STOPPED_SECONDS

    return patience


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal or a debugger."""
    return _facts(pid)[:1] in (["T"], ["t"])


def _processor_ticks(pid: int) -> int:
    facts = _facts(pid)
    return int(facts[11]) + int(facts[12]) if facts else -1


def _facts(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on. Spec: proc(5), ``stat``."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()

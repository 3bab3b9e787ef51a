# SPDX-License-Identifier: Apache-2.0
"""A bar on a terminal moves while one long call says nothing, and knows what it does not know."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from strongroom.cli.progress import TerminalReporter

pytestmark = pytest.mark.unit

HEAD = """
import os, signal, sys, time
from strongroom.cli.progress import TerminalReporter
with TerminalReporter() as report:
"""


def screen_of(script: str) -> str:
    """Run a script whose standard error is a terminal, and return what it wrote there."""
    side, line = os.openpty()
    script = HEAD + "".join(f"    {text}\n" for text in script.strip().splitlines())
    child = subprocess.Popen(
        [sys.executable, "-c", script], stderr=line, env={**os.environ, "TERM": "xterm"}
    )
    os.close(line)
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([side], [], [], 0.1)[0]:
            try:
                seen += os.read(side, 65536)
            except OSError:
                break
    os.close(side)
    assert child.wait(10) == 0, seen
    return seen.decode(errors="replace")


def test_a_stage_without_an_end_moves_and_has_no_percentage() -> None:
    shown = screen_of("report.progress('keyslot 0 argon2id', 0, 0)\ntime.sleep(2.2)")
    assert "keyslot 0 argon2id" in shown
    assert "0:00:01" in shown
    assert "0:00:02" in shown
    assert "%" not in shown
    frames = {frame for frame in shown.split("keyslot 0 argon2id") if "0:00:01" in frame}
    assert len(frames) > 1, "the bar moves within a second too"


def test_a_stage_with_an_end_has_a_percentage() -> None:
    shown = screen_of("report.progress('writing', 1, 4)\ntime.sleep(0.6)")
    assert " 25%" in shown


def test_nothing_ticks_when_all_is_done_or_paused() -> None:
    script = """
report.progress('one', 0, 0)
assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
report.progress('one', 1, 1)
assert signal.getitimer(signal.ITIMER_REAL)[1] == 0
report.progress('two', 0, 0)
report.pause()
assert signal.getitimer(signal.ITIMER_REAL)[1] == 0
assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
"""
    assert "one" in screen_of(script)


def test_a_child_inherits_no_timer() -> None:
    script = """
report.progress('one', 0, 0)
child = os.fork()
if child == 0: os._exit(1 if signal.getitimer(signal.ITIMER_REAL)[1] else 0)
assert os.waitpid(child, 0)[1] == 0
"""
    screen_of(script)


def test_signals_while_drawing_do_not_draw() -> None:
    script = """
for number in range(300):
    report.progress(f'stage {number % 7}', number, 0)
    os.kill(os.getpid(), signal.SIGALRM)
"""
    screen_of(script)


def test_a_reporter_that_was_never_used_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with TerminalReporter():
        pass
    assert signal.getsignal(signal.SIGALRM) is before

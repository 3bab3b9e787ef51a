# SPDX-License-Identifier: Apache-2.0
"""Reading and replaying transcripts of the command line.

A transcript is a text file that reads like a session::

    # a comment
    $ strongroom open vault.img vault       a shell line, run in a directory of its own
    < correct horse                         a line of standard input
    name:   vault                           expected standard output, line by line
    ! strongroom: error: it is wrong        expected standard error
    ? 31                                    expected exit code, 0 if not given

A shell line with ``@`` lines runs on a terminal of its own, where a person answers::

    @ Passphrase: -> correct horse          wait for the text, then type the line
    @ Passphrase: -> ^C                     wait, then press Ctrl-C
    @ recovery key                          wait for the text, type nothing

What a person types after a prompt must never appear on the terminal. ``...`` matches any text in a
line; a line that is only ``...`` matches any number of lines. Nothing else may appear.
"""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

COMMAND_SECONDS: Final = 60.0
CTRL_C: Final = "^C"


@dataclass(slots=True)
class Step:
    """One shell line and everything that is expected of it."""

    line: int
    shell: str
    stdin: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    tty: list[tuple[str, str | None]] = field(default_factory=list)
    code: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a shell line did."""

    code: int
    out: str
    err: str
    screen: str


def read_transcript(text: str) -> list[Step]:
    """Return the steps of a transcript; a line that fits nowhere is an error."""
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), start=1):
        mark, _, rest = line.partition(" ")
        if not line or mark == "#":
            continue
        if mark == "$":
            steps.append(Step(number, rest))
            continue
        assert steps, f"line {number}: nothing was run yet"
        _expect(steps[-1], mark, rest, line)
    assert steps, "an empty transcript proves nothing"
    return steps


def _expect(step: Step, mark: str, rest: str, line: str) -> None:
    match mark:
        case "<":
            step.stdin.append(rest)
        case "!":
            step.err.append(rest)
        case "?":
            step.code = int(rest)
        case "@":
            prompt, arrow, typed = rest.partition(" -> ")
            step.tty.append((prompt, typed if arrow else None))
        case _:
            step.out.append(line)


def check(step: Step, result: Result) -> None:
    """Compare; the message of a failure shows all that happened."""
    story = f"line {step.line}: $ {step.shell}\n{result}"
    assert result.code == step.code, story
    assert matches(step.out, result.out), f"standard output differs\n{story}"
    assert matches(step.err, result.err), f"standard error differs\n{story}"
    for _, typed in step.tty:
        assert not typed or typed == CTRL_C or typed not in result.screen, f"echoed!\n{story}"


def matches(expected: list[str], text: str) -> bool:
    """Tell whether a text is what the pattern lines say."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, text) is not None


def replay(step: Step, directory: Path, environment: Mapping[str, str]) -> Result:
    """Run a shell line, on a terminal if somebody is to type."""
    return (_on_terminal if step.tty else _without_terminal)(step, directory, environment)


def _without_terminal(step: Step, directory: Path, environment: Mapping[str, str]) -> Result:
    done = subprocess.run(
        ["/bin/sh", "-c", step.shell],
        input="".join(f"{line}\n" for line in step.stdin).encode(),
        cwd=directory,
        env=environment,
        capture_output=True,
        check=False,
        timeout=COMMAND_SECONDS,
        start_new_session=True,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode(), "")


def _on_terminal(step: Step, directory: Path, environment: Mapping[str, str]) -> Result:
    """Standard output and error go to files: the terminal shows only what was meant for it."""
    out, err = directory / ".out", directory / ".err"
    child, side = pty.fork()
    if child == 0:
        os.chdir(directory)
        # Ctrl-C reaches the shell too, which is to outlive it and tell the exit code.
        shell = f"trap : INT; {{ {step.shell}\n}} >.out 2>.err"
        os.execve("/bin/sh", ["sh", "-c", shell], dict(environment))  # noqa: S606 - in the child
    deadline = time.monotonic() + COMMAND_SECONDS
    screen, code = "", None
    try:
        seen = 0
        for prompt, typed in step.tty:
            while prompt not in screen[seen:]:
                more = _read(side, deadline)
                assert more, f"the terminal never showed {prompt!r}: {screen!r} {err.read_text()}"
                screen += more
            seen = screen.index(prompt, seen) + len(prompt)
            if typed is not None:
                os.write(side, b"\x03" if typed == CTRL_C else typed.encode() + b"\n")
        while more := _read(side, deadline):
            screen += more
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(side)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return Result(code, out.read_text(), err.read_text(), screen)


def _read(side: int, deadline: float) -> str:
    """Return what comes next, or nothing when the other side is closed."""
    ready, _, _ = select.select([side], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, "the command did not end in time"
    with contextlib.suppress(OSError):
        return os.read(side, 4096).decode(errors="replace")
    return ""

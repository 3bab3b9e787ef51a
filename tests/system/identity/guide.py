# SPDX-License-Identifier: Apache-2.0
"""The table "Ways back" of the operator's guide, read from that page, and who follows it."""

import os
import pty
import re
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

PAGE: Final = Path(__file__).parents[3] / "docs" / "guide" / "operating.md"
COMMAND_SECONDS: Final = 120.0
NEW_PASSPHRASE: Final = "a passphrase that is new"  # noqa: S105 - a test needs one

_HEAD: Final = "| exit code | what happened | key | commands |"
_PROMPT: Final = re.compile(r"(New passphrase|The same again|[Pp]assphrase)[^\n]*: *$")


@dataclass(frozen=True, slots=True)
class Row:
    """One way back."""

    exit_code: int
    what_happened: str
    key: Literal["recovery key", "passphrase"]
    commands: tuple[str, ...]


def ways_back() -> tuple[Row, ...]:
    """Return the rows of the table."""
    lines = PAGE.read_text().split("## Ways back\n", 1)[1].splitlines()
    found = []
    for line in lines[lines.index(_HEAD) + 2 :]:
        if not line.startswith("|"):
            break
        code, what, key, commands = (cell.strip() for cell in line.strip("|").split(" | "))
        assert key in {"recovery key", "passphrase"}
        typed = tuple(re.findall(r"`([^`]+)`", commands))
        assert "<br>".join(f"`{command}`" for command in typed) == commands
        found.append(Row(int(code), what, key, typed))  # type: ignore[arg-type]  # one of the two
    return tuple(found)


def type_in(command: str, key: str, place: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a shell line on a terminal, as a person does, and return its exit code and the screen.

    Whatever asks for a new passphrase gets :data:`NEW_PASSPHRASE`, whatever else asks gets ``key``.
    """
    child, side = pty.fork()
    if child == 0:
        os.chdir(place)
        os.execve("/bin/sh", ["sh", "-c", command], dict(environment))  # noqa: S606 - in the child
    deadline = time.monotonic() + COMMAND_SECONDS
    screen, answered, code = "", 0, None
    try:
        while more := _read(side, deadline):
            screen += more
            asked = _PROMPT.search(screen, answered)
            if asked is not None:
                answered = len(screen)
                new = asked[1] in {"New passphrase", "The same again"}
                os.write(side, f"{NEW_PASSPHRASE if new else key}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(side)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return code, screen


def _read(side: int, deadline: float) -> str:
    """Return what comes next, or nothing when the other side is closed."""
    ready, _, _ = select.select([side], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, "the command did not end in time"
    try:
        return os.read(side, 4096).decode(errors="replace")
    except OSError:
        return ""

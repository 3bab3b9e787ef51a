# SPDX-License-Identifier: Apache-2.0
"""Another user of the machine, and a place that both can reach."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MALLORY: Final = 61_202
ALICE: Final = 61_201
_SECONDS: Final = 60.0


@contextmanager
def shared_place() -> Iterator[Path]:
    """Give a directory of root's that every user may enter. Unlike the tests' own, which none may.

    Everybody may write below ``open``, as in /tmp.
    """
    place = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    try:
        place.chmod(0o755)
        (place / "open").mkdir()
        (place / "open").chmod(0o1777)
        yield place
    finally:
        shutil.rmtree(place)


def as_user(user: int, *command: str | Path) -> list[str]:
    """Return a command that another user runs, with nothing of root's rights."""
    return [
        *("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all"),
        *map(str, command),
    ]


def run_as(
    user: int, *command: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as another user."""
    return subprocess.run(
        as_user(user, *command),
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        cwd="/",
    )


def does(user: int, program: str, *arguments: str | Path) -> str:
    """Run a Python program as another user, who has no need of ours, and return what it printed."""
    done = run_as(user, "/usr/bin/python3", "-I", "-c", program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_strongroom(user: int, *command: str | Path) -> list[str]:
    """Return a command of another user who may read the Python of these tests, wherever it is.

    The user may write nothing more than others may.
    """
    may_read = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    who = ("--reuid", str(user), "--regid", str(user), "--clear-groups")
    return ["setpriv", *who, *may_read, *map(str, command)]

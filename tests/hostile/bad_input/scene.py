# SPDX-License-Identifier: Apache-2.0
"""A place where commands must be refused and must change nothing, and damaged volumes for it."""

import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.harness import STRONGROOM, Operator

HDR: Final = 16384
BINARY: Final = 4096
MIB: Final = 1024 * 1024
DATA_OFFSET: Final = 16 * MIB
COPIES: Final = (0, HDR)
NONE: Final = ("--attach", "none")
_CHECKSUM: Final = slice(448, 512)
_PR_SET_CHILD_SUBREAPER: Final = 36
_END_SECONDS: Final = 10.0


def children() -> frozenset[int]:
    """Return the pids of this process' children, living or dead."""
    tasks = Path("/proc/self/task").iterdir()
    return frozenset(int(pid) for task in tasks for pid in (task / "children").read_text().split())


@dataclass(frozen=True, slots=True)
class Scene:
    """An operator's directory, watched; ``foreign`` are children of other tests."""

    operator: Operator
    foreign: frozenset[int] = field(default_factory=children)

    @property
    def image(self) -> Path:
        """A sound volume that opens with the operator's passphrase."""
        return self.operator.place / "vault.img"

    def path(self, name: str, content: bytes | None = None) -> Path:
        """Return a path in the scene, with a new file there if there is a content."""
        path = self.operator.place / name
        if content is not None:
            path.write_bytes(content)
        return path

    def refuses(
        self,
        *command: str | Path,
        code: int,
        says: str,
        stdin: str | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Check that a command fails with a code and a message, and that nothing comes of it.

        Args:
            command: Arguments of strongroom.
            code: The exit code.
            says: A regular expression that the one line of the error message matches.
            stdin: Standard input; empty without.
            wrapper: A program and its arguments that runs strongroom.
        """
        before = self.state()
        done = self.operator.run(*wrapper, STRONGROOM, *command, check=False, stdin=stdin)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        errors = re.findall(r"^strongroom: error: (.*)$", done.stderr, re.MULTILINE)
        assert len(errors) == 1, done.stderr
        assert re.search(says, errors[0]), errors[0]
        assert "Traceback" not in done.stderr
        assert self.state() == before
        self.nothing_is_left()
        return done

    def state(self) -> dict[str, str]:
        """Return every file of the scene with its kind, size and content."""
        state: dict[str, str] = {}
        for path in sorted(self.operator.place.rglob("*")):
            if path.is_relative_to(self.operator.runtime):
                continue
            info = path.lstat()
            digest = ""
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            state[str(path)] = f"{info.st_mode:o} {info.st_size} {digest}"
        return state

    def end_what_is_left(self) -> None:
        """End what a failed test left behind, so that the next one starts clean."""
        for pid in living(children() - self.foreign):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def nothing_is_left(self) -> None:
        """Check that the runtime directory is empty and that no process of ours lives."""
        end = time.monotonic() + _END_SECONDS
        while left := living(children() - self.foreign):
            assert time.monotonic() < end, f"left running: {left}"
            time.sleep(0.01)
        runtime = self.operator.runtime
        assert not runtime.exists() or list(runtime.iterdir()) == []


def adopt_orphans(*, active: bool) -> None:
    """Make what a test leaves behind a child of this process, so that it is found."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, int(active), 0, 0, 0) == 0


def living(pids: frozenset[int]) -> dict[int, str]:
    """Return the command lines of those children that live, after burying the dead."""
    found: dict[int, str] = {}
    for pid in pids:
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            found[pid] = line.replace(b"\0", b" ").decode("utf-8", "replace")
    return found


# JSON trees are edited freely here, so their type is of no use.
Tree = dict[str, Any]


def metadata_of(image: Path) -> Tree:
    """Return the JSON of the primary header."""
    with image.open("rb") as file:
        file.seek(BINARY)
        tree: Tree = json.loads(file.read(HDR - BINARY).rstrip(b"\0"))
    return tree


def rewrite(image: Path, text: bytes, *, claimed_header_bytes: int | None = None) -> None:
    """Put another JSON text into both header copies, with right checksums."""
    with image.open("r+b") as file:
        for offset in COPIES:
            file.seek(offset)
            whole = bytearray(file.read(BINARY) + text.ljust(HDR - BINARY, b"\0"))
            if claimed_header_bytes is not None:
                whole[8:16] = claimed_header_bytes.to_bytes(8, "big")
            whole[_CHECKSUM] = bytes(64)
            whole[_CHECKSUM] = hashlib.sha256(whole).digest().ljust(64, b"\0")
            file.seek(offset)
            file.write(whole)


def edit(image: Path, change: Callable[[Tree], object]) -> None:
    """Change the JSON of both header copies in place, with right checksums."""
    tree = metadata_of(image)
    change(tree)
    rewrite(image, json.dumps(tree).encode())


def damage(image: Path, *offsets: int) -> None:
    """Flip a bit at each offset."""
    with image.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

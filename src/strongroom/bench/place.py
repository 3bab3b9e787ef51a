# SPDX-License-Identifier: Apache-2.0
"""Where a measurement keeps its files, and how it runs programs there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.errors import NoPermissionError, NotFoundError, PlatformError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

STRONGROOM: Final = (sys.executable, "-I", "-m", "strongroom")
"""Ours, from the same installation; ``-I`` keeps Python from importing what lies around."""
TMPFS: Final = Path("/dev/shm")  # noqa: S108 - the one place that is always in memory
SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PREFIX: Final = "strongroom-bench-"
COMMAND_SECONDS: Final = 120
END_SECONDS: Final = 10
TOLD_BYTES: Final = 300
PACKAGES: Final = {
    "argon2": "argon2",
    "cryptsetup": "cryptsetup-bin",
    "fio": "fio",
    "gocryptfs": "gocryptfs",
    "hdparm": "hdparm",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
    "qemu-nbd": "qemu-utils",
}
"""What Debian calls the packages of the programs."""


class CommandError(PlatformError):
    """A program that was to be measured, or that measures, failed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Directories of one run.

    Attributes:
        root: Sockets, keys, mount points; its path is short, as those of sockets must be.
        images: What is served: the backing files of all contestants.
    """

    root: Path
    images: Path

    def run(
        self, *command: str | Path, check: bool = True, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in :meth:`environment`; ``given`` is its standard input.

        Raises:
            CommandError: It failed, took too long, or is missing.
        """
        words = [str(word) for word in command]
        try:
            done = self._finished(words, given)
        except subprocess.TimeoutExpired as err:
            raise CommandError(f"{name_of(words)} took over {COMMAND_SECONDS} s") from err
        except OSError as err:
            raise CommandError(f"cannot run {words[0]}: {err.strerror}") from err
        if check and done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[-TOLD_BYTES:]
            raise CommandError(f"{name_of(words)} exited with {done.returncode}: {told}")
        return done

    def _finished(self, words: list[str], given: str) -> subprocess.CompletedProcess[str]:
        with ended_in_order() as ends:
            with HOLD:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=self.environment(),
                    process_group=0,
                )
                ends.callback(interrupt, process)
            out, err = process.communicate(given, COMMAND_SECONDS)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def environment(self) -> dict[str, str]:
        """Return the environment of every program: English, and a Strongroom of its own."""
        return {
            **os.environ,
            "PATH": SYSTEM_PATH,
            "LC_ALL": "C",
            "STRONGROOM_RUNTIME_DIR": str(self.root / "run"),
            "STRONGROOM_STATE_DIR": str(self.root / "state"),
        }

    def directory(self, name: str) -> Path:
        """Make a directory below the root, for a mount."""
        path = self.root / name
        path.mkdir()
        return path

    @property
    def key_file(self) -> Path:
        """A passphrase, without a newline; it guards nothing."""
        path = self.root / "key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text("bench")
        return path


def interrupt(process: subprocess.Popen[str]) -> None:
    """Let a program that has not ended do so in order, as Ctrl-C would, or else kill it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def name_of(words: list[str]) -> str:
    """Return what a command line is called in a message."""
    if words[: len(STRONGROOM)] == list(STRONGROOM):
        return f"strongroom {words[len(STRONGROOM)]}"
    return words[0]


@contextmanager
def place_in(directory: Path | None) -> Iterator[Place]:
    """Make the directories of a run, and remove them with all that is in them.

    Args:
        directory: Where images go; ``None`` is memory (``/dev/shm``) where there is one.

    Raises:
        NotFoundError: There is no such directory.
        NoPermissionError: It cannot be written to.
    """
    chosen = directory or (TMPFS if os.access(TMPFS, os.W_OK) else Path(tempfile.gettempdir()))
    if not chosen.is_dir():
        raise NotFoundError(f"no such directory: {chosen}")
    try:
        with ended_in_order() as ends:
            with HOLD:
                root = ends.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX))
                images = ends.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, dir=chosen))
            yield Place(Path(root), Path(images))
    except PermissionError as err:
        raise NoPermissionError(f"cannot write to {chosen}") from err


def find(program: str) -> str | None:
    """Return the path of a program, which may be in the system's directories, or ``None``."""
    return shutil.which(program, path=SYSTEM_PATH)


def require(*programs: str) -> None:
    """Make sure that programs are installed.

    Raises:
        UnavailableError: One is not.
    """
    for program in programs:
        if find(program) is None:
            hint = f"apt-get install {PACKAGES[program]}"
            raise UnavailableError(f"{program} is not installed", hint=hint)


def require_root() -> None:
    """Make sure that devices can be made and mounted.

    Raises:
        NoPermissionError: The caller is not root.
    """
    if os.geteuid():
        raise NoPermissionError("devices and mounts need root", hint="run it as root")


class Hold:
    """While it is entered, an interruption waits: what was begun must not be forgotten."""

    def __init__(self) -> None:
        self._depth = 0
        self._interrupted = False

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if self._interrupted and not self._depth:
            self._interrupted = False
            raise KeyboardInterrupt

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt, now or when the hold ends."""
        if not self._depth:
            raise KeyboardInterrupt
        self._interrupted = True


HOLD: Final = Hold()


@contextmanager
def ended_in_order() -> Iterator[ExitStack]:
    """Give a stack of what is to be ended, all of which is, whoever interrupts meanwhile."""
    ends = ExitStack()
    try:
        yield ends
    finally:
        with HOLD:
            ends.close()


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Turn the first signal that asks us to end into KeyboardInterrupt, and ignore any later one.

    So what was started is stopped in order, and nobody's impatience leaves half of it behind.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(_number: int, _frame: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        HOLD.interrupt()

    # Whoever is ignored at the start stays so: nohup means it.
    heard = [one for one in signals if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, end) for one in heard}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

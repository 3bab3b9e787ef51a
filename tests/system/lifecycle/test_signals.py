# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a volume to end, from a terminal and from programs: nothing written is lost."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse, require_tools
from tests.harness import STRONGROOM, SYSTEM_PATH, Operator

pytestmark = pytest.mark.system

SAVED: Final = b"saved by an editor, without fsync" * 100_000
SECONDS: Final = 240.0
"""Far more than is needed, but in an emulated machine that is short of time."""
INTERRUPT, QUIT = b"\x03", b"\x1c"
WITHOUT_NAMESPACES: Final = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all "
        '--inh-caps=-all --ambient-caps=-all --no-new-privs "$@"'
    ),
    "sh",
)
"""A shell that forbids user namespaces to those below, and takes the right to make any other."""
IGNORED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM")


class Served:
    """``serve`` in the foreground of a terminal of its own."""

    def __init__(self, operator: Operator, *options: str, before: tuple[str, ...] = ()) -> None:
        image, key = operator.place / "image", operator.passphrase_file
        command = [*before, str(STRONGROOM), "serve", str(image), "served", *options]
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(operator.environment)
            os.environ.update(PATH=SYSTEM_PATH, STRONGROOM_RUNTIME_DIR=str(operator.runtime))
            os.execvp(command[0], [*command, "--passphrase-file", str(key)])  # noqa: S606
        self.said = b""
        self._operator = operator

    def await_open(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self._read(0.1)
            done = self._operator.strongroom("status", "served", "--json", check=False)
            if done.returncode == 0 and '"state": "open"' in done.stdout:
                return
        raise AssertionError(self.said.decode(errors="replace"))

    def wait(self) -> int:
        """Read what the terminal shows to the end, and return the exit code."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self._read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"serve did not end: {self.said.decode(errors='replace')}")

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def _read(self, seconds: float) -> None:
        if select.select([self.terminal], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.said += os.read(self.terminal, 65536)


@contextlib.contextmanager
def serving(operator: Operator, *options: str, before: tuple[str, ...] = ()) -> Iterator[Served]:
    operator.format(operator.place / "image")
    served = Served(operator, *options, before=before)
    try:
        served.await_open()
        yield served
    finally:
        served.end()


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "point"
    place.mkdir()
    yield place
    subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)


def save(operator: Operator, point: Path) -> None:
    """Make a file system on the served volume, and save a file as an editor does."""
    operator.run("mkfs.ext4", "-q", "/dev/strongroom/served")
    operator.run("mount", "/dev/strongroom/served", point)
    (point / "work").write_bytes(SAVED)


def check_saved(operator: Operator, point: Path, attach: str = "fuse") -> None:
    """Open the volume again: the file is whole, and so is the file system."""
    subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)
    with operator.opened(operator.place / "image", "again", "--attach", attach) as facts:
        operator.run("e2fsck", "-fp", facts["device"], check=False)
        operator.run("e2fsck", "-fn", facts["device"])
        operator.run("mount", facts["device"], point)
        try:
            assert (point / "work").read_bytes() == SAVED
        finally:
            operator.run("umount", point)


@pytest.mark.parametrize("key", [INTERRUPT, QUIT])
@pytest.mark.parametrize("transport", ["fd", "stdio", "tcp"])
def test_a_key_at_the_terminal_closes_in_order(
    operator: Operator, point: Path, transport: str, key: bytes
) -> None:
    require_fuse()
    require_tools("nbdfuse", "mkfs.ext4")
    with serving(operator, "--attach", "fuse", "--boundary", transport) as served:
        save(operator, point)
        os.write(served.terminal, key)
        assert served.wait() == 0, served.said
    check_saved(operator, point)


def test_a_terminal_that_goes_away_closes_in_order(operator: Operator, point: Path) -> None:
    require_fuse()
    with serving(operator, "--attach", "fuse") as served:
        save(operator, point)
        os.close(served.terminal)
        served.terminal = os.open(os.devnull, os.O_RDWR)
        assert served.wait() == 0
    check_saved(operator, point)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGIO"])
def test_a_signal_to_the_host_closes_in_order(operator: Operator, point: Path, name: str) -> None:
    require_fuse()
    with serving(operator, "--attach", "fuse") as served:
        save(operator, point)
        os.kill(served.pid, signal.Signals[name])
        assert served.wait() == 0, served.said
    check_saved(operator, point)


def test_without_namespaces_too(operator: Operator) -> None:
    require_tools("unshare", "setpriv", "nbdcopy")
    pattern = operator.place / "pattern"
    pattern.write_bytes(os.urandom(1 << 20))
    with serving(operator, "--attach", "none", before=WITHOUT_NAMESPACES) as served:
        facts = operator.facts("status", "served")
        found = {item["name"]: item["active"] for item in facts["confinement"]}
        assert not found["pid namespace"]
        operator.run("nbdcopy", pattern, facts["uri"])
        os.write(served.terminal, INTERRUPT)
        assert served.wait() == 0, served.said
    with operator.opened(operator.place / "image", "again") as facts:
        output = operator.place / "output"
        operator.run("nbdcopy", facts["uri"], output)
    with output.open("rb") as file:
        assert file.read(1 << 20) == pattern.read_bytes()


@pytest.mark.parametrize("before", [(), WITHOUT_NAMESPACES])
@pytest.mark.parametrize("transport", ["fd", "stdio", "tcp"])
def test_the_enclave_takes_no_orders_but_the_hosts(
    operator: Operator, transport: str, before: tuple[str, ...]
) -> None:
    """Each signal is sent to it, and it goes on; it is of no terminal's session."""
    require_tools("unshare", "setpriv")
    options = ("--attach", "none", "--boundary", transport)
    with serving(operator, *options, before=before) as served:
        enclave = operator.facts("status", "served")["enclave_pid"]
        assert os.getsid(enclave) not in {os.getsid(0), os.getsid(served.pid)}
        status = Path(f"/proc/{enclave}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("SigIgn:")]
        ignored = int(line.split()[1], 16)
        for name in IGNORED:
            assert ignored >> (signal.Signals[name] - 1) & 1, name
            os.kill(enclave, signal.Signals[name])
        assert operator.facts("status", "served")["enclave_pid"] == enclave
        os.write(served.terminal, INTERRUPT)
        assert served.wait() == 0, served.said

# SPDX-License-Identifier: Apache-2.0
"""An enclave keeps no file system of the host in use: what is unmounted is gone at once.

A mount namespace begins with a copy of every mount. An enclave that kept those copies would make
``umount`` return success while the file system stays mounted, unwritten, until the volume is
closed. The kernel tells the end of a file system to those that watch its inodes: a path in no
mount table shows it.
"""

import contextlib
import ctypes
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness import STRONGROOM, Operator
from tests.system.crash.remains import descendants

from .conftest import require, run, wait_for

pytestmark = pytest.mark.system

GONE_SECONDS: Final = 4.0
IN_UNMOUNT: Final = 0x2000
IN_DELETE_SELF: Final = 0x400
WITHOUT_CAPABILITIES: Final = (
    *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"),
    "--no-new-privs",
)

Mounted = contextlib.AbstractContextManager[Path]
_libc: Final = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def ext4(place: Path, _: Operator) -> Iterator[Path]:
    image, point = place / "ext4.img", place / "ext4"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    run("mkfs.ext4", "-q", image)
    point.mkdir()
    run("mount", "-o", "loop", image, point)
    yield point
    run("umount", point)


@contextlib.contextmanager
def tmpfs(place: Path, _: Operator) -> Iterator[Path]:
    point = place / "tmpfs"
    point.mkdir()
    run("mount", "-t", "tmpfs", "none", point)
    yield point
    run("umount", point)


@contextlib.contextmanager
def bind(place: Path, operator: Operator) -> Iterator[Path]:
    """The directory itself is unmounted first: the other name alone keeps the file system."""
    again = place / "again"
    again.mkdir()
    with ext4(place, operator) as point:
        run("mount", "--bind", point, again)
        yield again
        run("umount", again)


@contextlib.contextmanager
def overlay(place: Path, operator: Operator) -> Iterator[Path]:
    point = place / "overlay"
    point.mkdir()
    with tmpfs(place, operator) as layers:
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir()
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        run("mount", "-t", "overlay", "-o", options, "none", point)
        yield point
        run("umount", point)


@contextlib.contextmanager
def fuse(place: Path, _: Operator) -> Iterator[Path]:
    require("nbdfuse", "nbdkit", nodes=("/dev/fuse",))
    point = place / "fuse"
    point.mkdir()
    command = ["nbdfuse", str(point), "[", "nbdkit", "--exit-with-parent", "memory", "1M", "]"]
    with subprocess.Popen(command) as server:
        wait_for((point / "nbd").exists, "mounting by FUSE")
        yield point
        run("umount", point)
        server.wait(GONE_SECONDS)


@contextlib.contextmanager
def volume(place: Path, operator: Operator) -> Iterator[Path]:
    """A file system on another open volume, which is closed last."""
    image, point = place / "other.img", place / "other"
    operator.format(image)
    point.mkdir()
    device = operator.open(image, "mounted", "--attach", "fuse")["device"]
    run("mkfs.ext4", "-q", device)
    run("mount", device, point)
    yield point
    run("umount", point)
    operator.close("mounted")


KINDS: Final[dict[str, Callable[[Path, Operator], Mounted]]] = {
    "ext4": ext4,
    "tmpfs": tmpfs,
    "bind": bind,
    "overlay": overlay,
    "fuse": fuse,
    "volume": volume,
}


@contextlib.contextmanager
def open_volume(operator: Operator, *before: str) -> Iterator[None]:
    """The enclave of a volume that is open."""
    image = operator.place / "held.img"
    operator.format(image)
    key = ("--passphrase-file", operator.passphrase_file)
    operator.run(*before, STRONGROOM, "open", image, "held", "--attach", "none", *key)
    try:
        yield
    finally:
        operator.close("held")


@contextlib.contextmanager
def open_without_capabilities(operator: Operator) -> Iterator[None]:
    """The same, of a host that has the rights of an ordinary user: the user namespace is first."""
    with open_volume(operator, *WITHOUT_CAPABILITIES):
        yield


@contextlib.contextmanager
def waiting_prompt(operator: Operator) -> Iterator[None]:
    """The enclave of a command that waits for a passphrase."""
    image = operator.place / "held.img"
    operator.format(image)
    new = ("--new-passphrase-file", operator.passphrase_file)
    environment = {**os.environ, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)}
    with subprocess.Popen(
        [STRONGROOM, *("slot", "add", image, "--passphrase-file", "-", *new)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as command:
        try:
            wait_for(lambda: has_confined_child(command.pid), "starting", 30)
            yield
        finally:
            command.kill()


HOLDERS: Final = (open_volume, open_without_capabilities, waiting_prompt)


def has_confined_child(pid: int) -> bool:
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            if "Seccomp:\t2\n" in Path(f"/proc/{child.pid}/status").read_text():
                return True
    return False


@contextlib.contextmanager
def watching(point: Path) -> Iterator[Callable[[], bool]]:
    """Give a function that waits until the kernel tells the end of a file system."""
    events = _libc.inotify_init1(os.O_CLOEXEC)
    assert events >= 0
    try:
        assert _libc.inotify_add_watch(events, os.fsencode(point), IN_DELETE_SELF) >= 0

        def ended() -> bool:
            end = time.monotonic() + GONE_SECONDS
            while select.select([events], [], [], max(0.0, end - time.monotonic()))[0]:
                if int.from_bytes(os.read(events, 4096)[4:8], "little") & IN_UNMOUNT:
                    return True
            return False

        yield ended
    finally:
        os.close(events)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    require("unshare", "setpriv", "mkfs.ext4", nodes=("/dev/loop-control",))
    return tmp_path


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_mounted_before_is_gone_with_umount(
    place: Path,
    operator: Operator,
    kind: str,
    holder: Callable[[Operator], contextlib.AbstractContextManager[None]],
) -> None:
    with contextlib.ExitStack() as stack:
        mounts = contextlib.ExitStack()
        point = mounts.enter_context(KINDS[kind](place, operator))
        (point / "file").touch() if kind != "fuse" else None
        ended = stack.enter_context(watching(point))
        stack.enter_context(holder(operator))
        mounts.close()
        assert ended(), f"the file system of {kind} is still in use"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mounted_afterwards_is_gone_with_umount(
    place: Path, operator: Operator, kind: str
) -> None:
    with open_volume(operator), contextlib.ExitStack() as stack:
        mounts = contextlib.ExitStack()
        point = mounts.enter_context(KINDS[kind](place, operator))
        ended = stack.enter_context(watching(point))
        mounts.close()
        assert ended(), f"the file system of {kind} is still in use"


@pytest.mark.parametrize("first", ["one", "two"])
def test_two_volumes_are_closed_in_any_order(place: Path, operator: Operator, first: str) -> None:
    point = place / "point"
    point.mkdir()
    for name in ("one", "two"):
        operator.format(place / name)
    device = operator.open(place / "one", "one", "--attach", "fuse")["device"]
    run("mkfs.ext4", "-q", device)
    run("mount", device, point)
    operator.open(place / "two", "two", "--attach", "fuse")
    run("umount", point)
    for name in sorted(("one", "two"), key=lambda name: name != first):
        operator.close(name)


def test_an_enclave_has_no_mount_but_its_root(place: Path, operator: Operator) -> None:
    del place
    with open_volume(operator):
        pid = operator.facts("status", "held")["enclave_pid"]
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert [line.split()[4] for line in mounts] == ["/"]

# SPDX-License-Identifier: Apache-2.0
"""How volumes begin and end: in order, by force, by signals, and before they are open at all."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_fuse, require_root, require_tools
from tests.harness import STRONGROOM, Operator, has_ended
from tests.system.crash.remains import await_true, descendants, end_all, remains, unmount_dead
from tests.system.crash.victims import started

pytestmark = pytest.mark.system

ALREADY_OPEN, MOUNTED = 43, 42
SLOW_KDF = ("--kdf", "pbkdf2", "--kdf-iterations", "10000000")
SIGNAL_SECONDS = 20.0


@pytest.fixture
def operator(operator: Operator) -> Iterator[Operator]:
    require_root()
    yield operator
    end_all(operator.place)


@pytest.fixture
def image(operator: Operator) -> Path:
    path = operator.place / "image"
    operator.format(path, size="48M")
    return path


@pytest.fixture
def name(operator: Operator) -> str:
    return f"l{os.getpid()}{operator.place.name[-8:]}"


def alive(pid: int) -> bool:
    return not has_ended(pid)


def mounted(operator: Operator, image: Path, name: str) -> tuple[dict[str, object], Path]:
    facts = operator.open(image, name, "--attach", "fuse")
    point = operator.place / "mnt"
    point.mkdir(exist_ok=True)
    operator.run("mkfs.ext4", "-q", str(facts["device"]))
    operator.run("mount", str(facts["device"]), point)
    return facts, point


def check_content(operator: Operator, image: Path, name: str, content: bytes) -> None:
    facts, point = operator.open(image, name, "--attach", "fuse"), operator.place / "mnt"
    operator.run("e2fsck", "-fp", str(facts["device"]), check=False)
    operator.run("mount", str(facts["device"]), point)
    assert (point / "file").read_bytes() == content
    operator.run("umount", point)
    operator.close(name)
    assert remains(operator.place, name) == []


def test_a_volume_is_open_once_under_one_name(operator: Operator, image: Path, name: str) -> None:
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    with operator.opened(image, name):
        again = operator.strongroom("open", image, f"{name}-2", *key, check=False)
        assert again.returncode == ALREADY_OPEN
        again = operator.strongroom("open", image, name, *key, check=False)
        assert again.returncode == ALREADY_OPEN
        assert [item["name"] for item in listed(operator)] == [name]
    assert remains(operator.place, name, f"{name}-2") == []


def test_of_two_opens_at_once_one_wins(operator: Operator, image: Path, name: str) -> None:
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    commands = [("open", image, f"{name}-{number}", *key) for number in range(2)]
    with started(operator, *commands[0]) as first, started(operator, *commands[1]) as second:
        codes = {first.wait(60), second.wait(60)}
    assert codes == {0, ALREADY_OPEN}
    for item in listed(operator):
        operator.close(str(item["name"]))
    assert remains(operator.place, f"{name}-0", f"{name}-1") == []


def test_an_open_after_a_crash_says_what_it_removed(
    operator: Operator, image: Path, name: str
) -> None:
    require_fuse()
    facts, point = mounted(operator, image, name)
    os.kill(int(str(facts["host_pid"])), signal.SIGKILL)
    await_true(lambda: not alive(int(str(facts["host_pid"]))), "the end of the host")
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    said = operator.strongroom("open", image, name, *key)
    assert f"the file system at {point} has lost its device" in said.stderr
    operator.close(name)
    unmount_dead(point)
    assert remains(operator.place, name) == []


def test_a_mounted_device_is_closed_only_by_force(
    operator: Operator, image: Path, name: str
) -> None:
    require_fuse()
    _, point = mounted(operator, image, name)
    (point / "file").write_bytes(b"kept" * 9999)
    refused = operator.strongroom("close", name, check=False)
    assert refused.returncode == MOUNTED
    assert f"/dev/strongroom/{name} is in use: mounted at {point}" in refused.stderr
    assert "/dev/loop" not in refused.stderr
    assert (point / "file").read_bytes() == b"kept" * 9999
    closed = operator.strongroom("close", name, "--force")
    assert f"the file system at {point} gives errors from now on: unmount it" in closed.stderr
    unmount_dead(point)
    assert remains(operator.place, name) == []
    check_content(operator, image, name, b"kept" * 9999)


def test_sigterm_closes_in_order(operator: Operator, image: Path, name: str) -> None:
    require_fuse()
    facts, point = mounted(operator, image, name)
    (point / "file").write_bytes(b"flushed" * 9999)
    host = int(str(facts["host_pid"]))
    os.kill(host, signal.SIGTERM)
    await_true(lambda: not alive(host), "the end of the host", 60)
    unmount_dead(point)
    assert remains(operator.place, name) == []
    check_content(operator, image, name, b"flushed" * 9999)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_open_that_ends_while_it_derives_leaves_nothing(
    operator: Operator, name: str, number: signal.Signals
) -> None:
    image = operator.place / "slow"
    operator.format(image, *SLOW_KDF, size="48M")
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    with started(operator, "open", image, name, *key) as process:
        await_true(lambda: [item["state"] for item in listed(operator)] == ["unlocking"], "")
        time.sleep(0.5)
        below = descendants(process.pid)
        assert process.poll() is None, "the point is that it still derives"
        process.send_signal(number)
        process.wait(60)
        for item in below:
            await_true(lambda pid=item.pid: not alive(pid), f"the end of {item}", 60)  # type: ignore[misc]
    assert listed(operator) == []
    assert remains(operator.place, name) == []


def test_an_interrupted_question_leaves_nothing(operator: Operator, image: Path, name: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(STRONGROOM), "open", str(image), name, "--attach", "none"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)},
        preexec_fn=lambda: _take_terminal(theirs),  # noqa: PLW1509 - it makes one system call
    )
    os.close(theirs)
    said = b""
    while b"assphrase" not in said:
        said += os.read(ours, 4096)
    os.write(ours, b"\x03")
    assert process.wait(60) != 0
    os.close(ours)
    assert listed(operator) == []
    assert remains(operator.place, name) == []


def test_serve_waits_for_a_key_from_elsewhere(operator: Operator, image: Path, name: str) -> None:
    with started(operator, "serve", image, name, "--wait-for-key", "--attach", "none") as process:
        await_true(lambda: [item["state"] for item in listed(operator)] == ["waiting for key"], "")
        operator.strongroom("setkey", name, "--passphrase-file", operator.passphrase_file)
        assert operator.facts("status", name)["state"] == "open"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SIGNAL_SECONDS) == 0
    assert remains(operator.place, name) == []


def test_serve_with_a_passphrase_file(operator: Operator, image: Path, name: str) -> None:
    key = ("--passphrase-file", operator.passphrase_file)
    with started(operator, "serve", image, name, "--attach", "none", *key) as process:
        await_true(lambda: [item["state"] for item in listed(operator)] == ["open"], "the key")
        operator.close(name)
        assert process.wait(SIGNAL_SECONDS) == 0
    assert remains(operator.place, name) == []


def test_a_read_only_volume_refuses_writes(operator: Operator, image: Path, name: str) -> None:
    require_fuse()
    require_tools("nbdinfo")
    before = image.read_bytes()
    with operator.opened(image, name, "--read-only", "--attach", "fuse") as facts:
        with pytest.raises(OSError, match=r"Permission|Operation|Read-only"):
            Path(str(facts["device"])).write_bytes(bytes(4096))
        export = json.loads(operator.run("nbdinfo", "--json", facts["uri"]).stdout)["exports"][0]
        assert export["is_read_only"]
    assert image.read_bytes() == before
    assert remains(operator.place, name) == []


def test_other_commands_answer_during_a_long_derivation(operator: Operator, name: str) -> None:
    image = operator.place / "slow"
    operator.format(image, *SLOW_KDF, size="48M")
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    with started(operator, "open", image, name, *key) as process:
        await_true(lambda: [item["state"] for item in listed(operator)] == ["unlocking"], "")
        time.sleep(0.5)
        assert process.poll() is None, "the point is that it still derives"
        began = time.monotonic()
        assert [item["state"] for item in listed(operator)] == ["unlocking"]
        assert time.monotonic() - began < 10
        operator.strongroom("status", name)
        assert process.wait(60) == 0
    operator.close(name)
    assert remains(operator.place, name) == []


def listed(operator: Operator) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(operator.strongroom("list", "--json").stdout)
    return found


def _take_terminal(terminal: int) -> None:
    import fcntl  # noqa: PLC0415 - runs between fork and exec
    import termios  # noqa: PLC0415

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

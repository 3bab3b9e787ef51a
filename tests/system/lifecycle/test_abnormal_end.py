# SPDX-License-Identifier: Apache-2.0
"""A volume whose files were removed, whose enclave died, or for which there is no room."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_fuse, require_root, require_tools
from tests.harness import STRONGROOM, Operator, has_ended
from tests.system.crash.remains import await_true, end_all, remains, unmount_dead
from tests.system.crash.victims import started

pytestmark = pytest.mark.system

NO_PERMISSION, NO_SPACE, ALREADY_OPEN, MOUNTED, ENCLAVE_GONE = 48, 44, 43, 42, 61


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
    return f"a{os.getpid()}{operator.place.name[-8:]}"


def listed(operator: Operator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(operator.strongroom("list", "--json").stdout)
    return found


def mounted(operator: Operator, image: Path, name: str) -> tuple[dict[str, Any], Path]:
    require_fuse()
    require_tools("mkfs.ext4")
    facts, point = operator.open(image, name, "--attach", "fuse"), operator.place / "mnt"
    point.mkdir(exist_ok=True)
    operator.run("mkfs.ext4", "-q", facts["device"])
    operator.run("mount", facts["device"], point)
    (point / "file").write_bytes(b"kept" * 9999)
    return facts, point


def another_dies(operator: Operator, name: str) -> None:
    """Have the next command find a dead volume, after which it cleans up."""
    other = operator.place / "other"
    if not other.exists():
        operator.format(other, size="17M")
    host = operator.open(other, f"{name}-other")["host_pid"]
    os.kill(host, signal.SIGKILL)
    await_true(lambda: has_ended(host), "the end of another host")


# --- files that are removed while the volume is open


def without_directory(operator: Operator, name: str) -> None:
    shutil.rmtree(operator.runtime / name)


def without_lock(operator: Operator, name: str) -> None:
    (operator.runtime / f"{name}.lock").unlink()


def without_record(operator: Operator, name: str) -> None:
    (operator.runtime / name / "record.json").unlink()


def without_both(operator: Operator, name: str) -> None:
    without_directory(operator, name)
    without_lock(operator, name)


def without_anything(operator: Operator, name: str) -> None:
    assert (operator.runtime / name).exists()
    shutil.rmtree(operator.runtime)


def with_another_root(operator: Operator, name: str) -> None:
    without_anything(operator, name)
    operator.runtime.mkdir(mode=0o700)


LOSSES = (
    without_directory,
    without_lock,
    without_record,
    without_both,
    without_anything,
    with_another_root,
)


@pytest.mark.parametrize("lose", LOSSES)
def test_a_volume_whose_files_were_removed_is_found_and_kept(
    operator: Operator, image: Path, name: str, lose: Callable[[Operator, str], None]
) -> None:
    facts, point = mounted(operator, image, name)
    lose(operator, name)

    item = listed(operator)[0]
    assert (item["name"], item["host_pid"]) == (name, facts["host_pid"])
    assert (item["state"], item["image"]) == ("open", str(image))
    assert operator.facts("status", name)["enclave_pid"] == facts["enclave_pid"]
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    other = operator.place / "copy"
    shutil.copyfile(image, other)
    refused = operator.strongroom("open", other, name, *key, check=False)
    assert refused.returncode == ALREADY_OPEN

    another_dies(operator, name)
    assert [found["name"] for found in listed(operator)] == [name]
    assert (point / "file").read_bytes() == b"kept" * 9999
    (point / "more").write_bytes(b"x")
    operator.run("sync", point / "more")
    assert not has_ended(facts["enclave_pid"])

    assert operator.strongroom("close", name, check=False).returncode == MOUNTED
    operator.run("umount", point)
    operator.close(name)
    assert listed(operator) == []
    assert remains(operator.place, name) == []


@pytest.mark.parametrize("lose", LOSSES)
def test_a_volume_that_does_not_answer_is_kept_too(
    operator: Operator, image: Path, name: str, lose: Callable[[Operator, str], None]
) -> None:
    facts, point = mounted(operator, image, name)
    lose(operator, name)
    os.kill(facts["host_pid"], signal.SIGSTOP)
    try:
        assert [item["name"] for item in listed(operator)] == [name]
        key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
        refused = operator.strongroom("open", image, name, *key, check=False)
        assert refused.returncode == ALREADY_OPEN
        another_dies(operator, name)
        assert [item["name"] for item in listed(operator)] == [name]
        assert (point / "file").read_bytes() == b"kept" * 9999
        assert not has_ended(facts["enclave_pid"])
    finally:
        os.kill(facts["host_pid"], signal.SIGCONT)
    operator.run("umount", point)
    operator.close(name)
    assert remains(operator.place, name) == []


@pytest.mark.parametrize("lose", [without_lock, without_both])
def test_a_command_in_another_network_namespace_keeps_it_too(
    operator: Operator, image: Path, name: str, lose: Callable[[Operator, str], None]
) -> None:
    """There are no marks of the volume's there."""
    require_tools("unshare")
    facts, point = mounted(operator, image, name)
    lose(operator, name)
    another_dies(operator, name)
    found = operator.run("unshare", "--net", STRONGROOM, "list", "--json")
    assert [item["name"] for item in json.loads(found.stdout)] == (
        [name] if lose is without_lock else []
    )
    (point / "more").write_bytes(b"x")
    operator.run("sync", point / "more")
    assert not has_ended(facts["enclave_pid"])
    operator.run("umount", point)
    operator.close(name)
    assert remains(operator.place, name) == []


# --- an enclave that dies


def test_a_dead_enclaves_volume_gives_errors_and_can_be_opened_at_once(
    operator: Operator, image: Path, name: str
) -> None:
    """The dead device has no way to the image: what is on it now is not written by it."""
    facts, point = mounted(operator, image, name)
    operator.run("sync", "--file-system", point)
    with (point / "late").open("wb", buffering=0) as running:
        running.write(b"late" * 9999)
        os.kill(facts["enclave_pid"], signal.SIGKILL)
        began = time.monotonic()
        await_true(lambda: has_ended(facts["host_pid"]), "the end of the host")
        assert time.monotonic() - began < 3, "the name is free at once"
        with pytest.raises(OSError, match="Input/output"):
            running.write(b"x")

    said = operator.strongroom("doctor").stdout
    assert f"the file system at {point} gives errors: its volume has ended" in said
    assert f"umount {point}" in said

    again = operator.open(image, name, "--attach", "fuse")
    assert again["device"] == facts["device"]
    device = Path(again["device"]).resolve()
    assert f"{device} {point} " not in Path("/proc/mounts").read_text()
    content = os.urandom(1 << 20)
    with device.open("r+b") as file:
        file.write(content)
    with pytest.raises(OSError, match="Input/output"):
        (point / "file").read_bytes()
    operator.run("sync", "--file-system", point, check=False)
    operator.close(name)
    unmount_dead(point)
    with (
        operator.opened(image, name, "--attach", "fuse") as facts,
        device_of(facts).open("rb") as f,
    ):
        assert f.read(1 << 20) == content
    assert remains(operator.place, name) == []


COMMANDS = (("list",), ("status", "NAME"), ("close", "NAME"), ("doctor",), ("forget", "IMAGE"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_command_after_a_crash_says_what_it_did_and_where_the_log_is(
    operator: Operator, image: Path, name: str, command: tuple[str, ...]
) -> None:
    facts = operator.open(image, name, "--attach", "none")
    os.kill(facts["host_pid"], signal.SIGKILL)
    await_true(lambda: has_ended(facts["host_pid"]), "the end of the host")
    words = [part.replace("NAME", name).replace("IMAGE", str(image)) for part in command]
    kept = f"{name} ended without being closed; its log is kept in {operator.runtime}/.{name}.log"
    assert kept in operator.strongroom(*words, check=False).stderr
    for again in (("list",), ("status", name), ("close", name)):
        assert kept in operator.strongroom(*again, check=False).stderr
    operator.close(operator.open(image, name)["name"])
    assert kept not in operator.strongroom("list").stderr
    assert kept not in operator.strongroom("status", name, check=False).stderr


@pytest.mark.parametrize("how", ["crash", "force"])
def test_a_file_system_that_is_mounted_over_a_dead_one_lives_on(
    operator: Operator, image: Path, name: str, how: str
) -> None:
    facts, point = mounted(operator, image, name)
    other = operator.place / "other"
    with other.open("wb") as file:
        file.truncate(8 << 20)
    operator.run("mkfs.ext4", "-q", other)
    operator.run("mount", "-o", "loop", other, point)
    if how == "crash":
        os.kill(facts["host_pid"], signal.SIGKILL)
        await_true(lambda: has_ended(facts["host_pid"]), "the end of the host")
        assert listed(operator) == []
    else:
        operator.close(name, "--force")
    (point / "more").write_bytes(b"x")
    operator.run("sync", "--file-system", point)
    operator.run("umount", point)
    unmount_dead(point)
    assert remains(operator.place, name) == []


def device_of(facts: dict[str, Any]) -> Path:
    return Path(facts["device"])


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "close --force"])
def test_serve_syncs_and_leaves_what_is_mounted(
    operator: Operator, image: Path, name: str, how: str
) -> None:
    require_fuse()
    key = ("--passphrase-file", operator.passphrase_file)
    point = operator.place / "mnt"
    point.mkdir()
    with started(operator, "serve", image, name, "--attach", "fuse", *key) as process:
        await_true(lambda: [item["state"] for item in listed(operator)] == ["open"], "the key")
        operator.run("mkfs.ext4", "-q", Path("/dev/strongroom") / name)
        operator.run("mount", Path("/dev/strongroom") / name, point)
        (point / "file").write_bytes(b"never synced" * 9999)
        if how == "close --force":
            operator.close(name, "--force")
        else:
            process.send_signal(signal.Signals[how])
        assert process.wait(30) == 0
    unmount_dead(point)
    assert remains(operator.place, name) == []
    facts = operator.open(image, name, "--attach", "fuse")
    operator.run("mount", facts["device"], point)
    assert (point / "file").read_bytes() == b"never synced" * 9999
    operator.run("umount", point)
    operator.close(name)


def test_a_mount_that_does_not_show_here_is_written_back_too(
    operator: Operator, image: Path, name: str
) -> None:
    """It is in another mount namespace, where only its own programs see it."""
    require_fuse()
    require_tools("unshare")
    facts = operator.open(image, name, "--attach", "fuse")
    operator.run("mkfs.ext4", "-q", facts["device"])
    point = operator.place / "mnt"
    point.mkdir()
    script = (
        f"mount {facts['device']} {point} && echo never synced > {point}/file && echo ok && cat"
    )
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ok\n"
        operator.close(name, "--force")
        other.kill()
    again = operator.open(image, name, "--attach", "fuse")
    operator.run("mount", again["device"], point)
    assert (point / "file").read_text() == "never synced\n"
    operator.run("umount", point)
    operator.close(name)


# --- no room, no permission


def tmpfs(operator: Operator, options: str) -> Path:
    operator.runtime.mkdir(mode=0o700, exist_ok=True)
    operator.run("mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", operator.runtime)
    return operator.runtime


@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=3"])
def test_a_full_runtime_directory_is_said(
    operator: Operator, image: Path, name: str, options: str
) -> None:
    runtime = tmpfs(operator, options)
    try:
        if options.startswith("size"):
            (runtime / "filler").write_bytes(bytes(4096))
        key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
        done = operator.strongroom("open", image, name, *key, check=False)
        assert done.returncode == NO_SPACE, done.stderr
        assert "No space left" in done.stderr
        assert str(runtime) in done.stderr
        assert listed(operator) == []
        (runtime / "filler").unlink(missing_ok=True)
        operator.run("mount", "-o", "remount,size=1M,nr_inodes=99", runtime)
        operator.open(image, name)
        operator.close(name)
    finally:
        operator.run("umount", runtime)


def test_a_directory_that_fills_up_while_a_passphrase_is_asked_for(
    operator: Operator, image: Path, name: str
) -> None:
    runtime = tmpfs(operator, "size=64k")
    try:
        with started(operator, "serve", image, name, "--wait-for-key", "--attach", "none") as host:
            await_true((runtime / name / "control.sock").exists, "the volume's socket")
            await_true(lambda: listed(operator)[0]["state"] == "waiting for key", "the enclave")
            operator.run("dd", "if=/dev/zero", f"of={runtime}/filler", "bs=4k", check=False)
            key = ("--passphrase-file", operator.passphrase_file)
            done = operator.strongroom("setkey", name, *key, check=False)
            assert done.returncode == NO_SPACE, done.stderr
            assert host.wait(30) == 0
    finally:
        operator.run("umount", runtime)
    assert remains(operator.place, name) == []


def test_a_read_only_runtime_directory_is_said(operator: Operator, image: Path, name: str) -> None:
    runtime = tmpfs(operator, "size=1M")
    try:
        operator.run("mount", "-o", "remount,ro", runtime)
        key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
        done = operator.strongroom("open", image, name, *key, check=False)
        assert done.returncode == NO_PERMISSION, done.stderr
        assert "Read-only file system" in done.stderr
        assert listed(operator) == []
    finally:
        operator.run("umount", runtime)


def test_a_relative_runtime_directory_is_the_same_for_all_processes(
    operator: Operator, image: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(operator.place)
    moved = Operator(operator.place, environment={"STRONGROOM_RUNTIME_DIR": "near"})
    with moved.opened(image, name) as facts:
        assert Path(facts["socket"]).resolve().is_relative_to(operator.place.resolve() / "near")
        assert [item["name"] for item in listed(moved)] == [name]

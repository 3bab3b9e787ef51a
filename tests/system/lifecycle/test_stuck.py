# SPDX-License-Identifier: Apache-2.0
"""Volumes whose enclave, host process or disk does not answer: asked about, closed and ended."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse, require_root, require_tools
from tests.harness import STRONGROOM, Operator, has_ended
from tests.system.crash.remains import await_true, end_all, remains
from tests.system.crash.victims import started
from tests.system.lifecycle.bad_disk import BadDisk, bad_disk

pytestmark = pytest.mark.system

NOT_OPEN, DISK, UNFLUSHED, GONE, SILENT = 49, 51, 56, 61, 62
ASKED_SECONDS: Final = 15.0
FORCED_SECONDS: Final = 75.0
"""A minute, as the help says, and a busy machine."""
ENDED_SECONDS: Final = 120.0


@pytest.fixture
def operator(operator: Operator) -> Iterator[Operator]:
    require_root()
    yield operator
    end_all(operator.place)


@pytest.fixture
def image(operator: Operator) -> Path:
    path = operator.place / "image"
    operator.format(path, size="20M")
    return path


@pytest.fixture
def name(operator: Operator) -> str:
    return f"s{os.getpid()}{operator.place.name[-8:]}"


@pytest.fixture
def disk(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDisk]:
    require_tools("nbdcopy")
    with bad_disk(tmp_path_factory.mktemp("d"), image) as made:
        yield made


class Volume:
    """An open volume, and what is asked of it against the clock."""

    def __init__(self, operator: Operator, image: Path, name: str, *options: str) -> None:
        self.operator, self.name = operator, name
        facts = operator.open(image, name, *options)
        self.host, self.enclave = int(facts["host_pid"]), int(facts["enclave_pid"])
        self.uri = str(facts["uri"])

    def asks(
        self, *command: str, code: int = 0, seconds: float = ASKED_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end in time with this code."""
        began = time.monotonic()
        done = self.operator.strongroom(*command, self.name, check=False)
        took = time.monotonic() - began
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert took < seconds, f"{command} took {took:.0f} s"
        return done

    def state(self) -> tuple[str, list[str]]:
        facts = self.operator.facts("status", self.name)
        return facts["state"], facts["problems"]

    def listed(self) -> str:
        volumes: list[dict[str, str]] = self.operator.facts("list")  # type: ignore[assignment]
        return next((item["state"] for item in volumes if item["name"] == self.name), "")

    def write(self, size: int = 1 << 20) -> None:
        """Write through the NBD socket, without a flush."""
        data = self.operator.place / "data"
        data.write_bytes(os.urandom(size))
        self.operator.run("nbdcopy", data, self.uri)

    def is_gone(self) -> bool:
        return has_ended(self.host) and has_ended(self.enclave)


def test_a_stopped_enclave_is_named_and_comes_back(
    operator: Operator, image: Path, name: str
) -> None:
    volume = Volume(operator, image, name)
    os.kill(volume.enclave, signal.SIGSTOP)
    said = volume.asks("status").stdout
    assert "not answering" in said
    assert "the enclave does not answer since 20" in said
    assert "its process is stopped" in said
    assert volume.listed() == "not answering"
    refused = volume.asks("close", code=SILENT, seconds=30)
    assert "--force" in refused.stderr
    os.kill(volume.enclave, signal.SIGCONT)
    await_true(lambda: volume.state() == ("open", []), "that it answers again")
    volume.asks("close")
    assert remains(operator.place, name) == []


@pytest.mark.parametrize("attach", ["none", "fuse"])
def test_a_stopped_enclave_is_closed_by_force(
    operator: Operator, image: Path, name: str, attach: str
) -> None:
    if attach == "fuse":
        require_fuse()
    volume = Volume(operator, image, name, "--attach", attach)
    os.kill(volume.enclave, signal.SIGSTOP)
    said = volume.asks("close", "--force", seconds=FORCED_SECONDS)
    assert "the enclave did not answer and was killed" in said.stderr
    assert volume.is_gone()
    assert remains(operator.place, name) == []


@pytest.mark.parametrize("attach", ["none", "fuse"])
def test_a_signal_ends_a_volume_whose_enclave_is_stopped(
    operator: Operator, image: Path, name: str, attach: str
) -> None:
    if attach == "fuse":
        require_fuse()
    volume = Volume(operator, image, name, "--attach", attach)
    os.kill(volume.enclave, signal.SIGSTOP)
    os.kill(volume.host, signal.SIGTERM)
    await_true(volume.is_gone, "the end of both processes", ENDED_SECONDS)
    assert remains(operator.place, name) == []


def test_a_stopped_host_process_is_named_and_ended(
    operator: Operator, image: Path, name: str
) -> None:
    volume = Volume(operator, image, name)
    os.kill(volume.host, signal.SIGSTOP)
    refused = volume.asks("status", code=SILENT)
    assert f"(process {volume.host}) does not answer: it is stopped" in refused.stderr
    assert volume.listed() == "not answering"
    volume.asks("close", code=SILENT)
    assert not has_ended(volume.enclave)
    volume.asks("close", "--force", seconds=FORCED_SECONDS)
    assert volume.is_gone()
    assert remains(operator.place, name) == []
    operator.open(image, name)
    operator.close(name)


def test_force_is_heard_while_a_close_waits_for_a_hanging_disk(
    operator: Operator, disk: BadDisk, name: str
) -> None:
    volume = Volume(operator, disk.image, name)
    volume.write()
    disk.hang()
    with started(operator, "close", name) as waiting:
        await_true(lambda: volume.state()[0] == "closing", "that the first close waits")
        assert volume.listed() == "closing"
        assert waiting.poll() is None
        said = volume.asks("close", "--force", code=UNFLUSHED, seconds=FORCED_SECONDS)
        assert "is closed" in said.stderr
        assert "its keys are erased" in said.stderr
        assert waiting.wait(30) == DISK
    assert volume.listed() == ""
    disk.go_on()
    await_true(lambda: remains(operator.place, name) == [], "the end of all of it", 30)


def test_a_signal_ends_a_volume_whose_disk_hangs(
    operator: Operator, disk: BadDisk, name: str
) -> None:
    volume = Volume(operator, disk.image, name)
    volume.write()
    disk.hang()
    os.kill(volume.host, signal.SIGTERM)
    await_true(lambda: volume.listed() == "", "that the name is free", ENDED_SECONDS)
    disk.go_on()
    await_true(volume.is_gone, "the end of both processes", 30)


def test_a_device_over_a_hanging_disk_is_taken_away(
    operator: Operator, disk: BadDisk, name: str
) -> None:
    volume = Volume(operator, disk.image, name, "--attach", "fuse")
    disk.hang()
    device = str(operator.facts("status", name)["device"])
    writer = subprocess.Popen(
        ["dd", "if=/dev/urandom", f"of={device}", "bs=64k", "count=16", "conv=fsync"],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    volume.asks("close", "--force", code=UNFLUSHED, seconds=FORCED_SECONDS)
    assert writer.wait(30) != 0
    disk.go_on()
    await_true(lambda: remains(operator.place, name) == [], "the end of all of it", 30)


def test_a_failed_flush_is_told_until_the_volume_is_closed(
    operator: Operator, disk: BadDisk, name: str
) -> None:
    volume = Volume(operator, disk.image, name)
    assert volume.state() == ("open", [])
    volume.write()
    disk.fail_flushes()
    refused = volume.asks("close", code=DISK)
    assert "still open" in refused.stderr
    state, problems = volume.state()
    assert state == "failing"
    assert any("written data may be lost" in problem for problem in problems)
    assert volume.listed() == "failing"
    closed = volume.asks("close", "--force", code=UNFLUSHED)
    assert f"{name} is closed, its keys are erased, written data may be lost" in closed.stderr
    assert volume.listed() == ""
    assert remains(operator.place, name) == []


def test_a_signal_that_closes_after_a_failed_flush_says_so(
    operator: Operator, disk: BadDisk, name: str
) -> None:
    key = ("--passphrase-file", str(operator.passphrase_file), "--attach", "none")
    with started(operator, "serve", disk.image, name, *key) as serving:
        await_true((operator.runtime / name / "nbd.sock").exists, "that it is open")
        uri = str(operator.facts("status", name)["uri"])
        data = operator.place / "data"
        data.write_bytes(bytes(1 << 20))
        operator.run("nbdcopy", data, uri)
        disk.fail_flushes()
        serving.send_signal(signal.SIGTERM)
        said, _ = serving.communicate(timeout=60)
    assert serving.returncode == UNFLUSHED, said
    assert f"strongroom {name}: opened, device none" in said
    assert f"strongroom {name}: a signal ends it" in said
    assert remains(operator.place, name) == []


def test_an_image_that_is_gone_is_told(operator: Operator, image: Path, name: str) -> None:
    volume = Volume(operator, image, name)
    image.unlink()
    state, problems = volume.state()
    assert state == "failing"
    assert any("was deleted" in problem for problem in problems)
    assert volume.listed() == "failing"
    said = volume.asks("close", code=DISK).stderr
    assert "was deleted: all of its data is lost when the volume is closed" in said
    assert f"strongroom close --force {name}" in said
    assert volume.listed() == "failing"
    volume.asks("close", "--force")


def test_a_dead_enclave_leaves_its_log_and_its_reason(
    operator: Operator, image: Path, name: str
) -> None:
    volume = Volume(operator, image, name)
    os.kill(volume.enclave, signal.SIGKILL)
    await_true(volume.is_gone, "the end of both processes")
    log = operator.runtime / f".{name}.log"
    assert volume.listed() == ""
    assert log.stat().st_mode & 0o777 == 0o600
    said = log.read_text()
    assert f"strongroom {name}: opened" in said
    assert "the enclave ended unexpectedly: killed by signal 9 (SIGKILL)" in said
    assert str(log) in volume.asks("status", code=NOT_OPEN).stderr
    operator.open(image, name)
    assert log.read_text() == said
    operator.close(name)
    assert not log.exists()


def test_shells_that_open_close_and_ask_one_name_disturb_each_other_only_in_words(
    operator: Operator, image: Path, name: str
) -> None:
    key = f"--passphrase-file {operator.passphrase_file} --attach none"
    script = (
        "for i in 1 2 3 4 5 6; do"
        f" $SR open {image} {name} {key}; echo open $?;"
        f" $SR status {name}; echo status $?; $SR list; echo list $?;"
        f" $SR close {name}; echo close $?; done"
    )
    run = f"STRONGROOM_RUNTIME_DIR={operator.runtime} {STRONGROOM}"
    command = ["sh", "-c", script.replace("$SR", run)]
    shells = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    ended = [shell.communicate(timeout=200)[0] for shell in shells]
    codes = {
        tuple(line.split())
        for text in ended
        for line in text.splitlines()
        if re.fullmatch("(open|status|list|close) [0-9]+", line)
    }
    allowed = {
        *(("open", code) for code in ("0", "43", "49")),
        *(("status", code) for code in ("0", "49")),
        ("list", "0"),
        *(("close", code) for code in ("0", "49")),
    }
    assert codes <= allowed, "\n".join(ended)
    assert {("open", "0"), ("close", "0")} <= codes
    operator.close(name, check=False)
    assert remains(operator.place, name) == []

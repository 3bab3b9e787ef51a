# SPDX-License-Identifier: Apache-2.0
"""The whole command ``bench``, as small as it goes: figures come out, and nothing stays."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import require_fuse, require_tools
from tests.harness import STRONGROOM, SYSTEM_PATH

pytestmark = [pytest.mark.system, pytest.mark.slow]

TINY: Final = ("--rounds", "1", "--seconds", "0.05", "--size", "16M")
SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Scene:
    """A directory in which everything of a run has to be, and whose path is short enough."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": SYSTEM_PATH, "TMPDIR": str(self.root), **more}

    def command(self, *options: str) -> list[str]:
        return [str(STRONGROOM), "bench", "--directory", str(self.root), *options]

    def bench(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options),
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment(**environment),
        )

    def processes(self) -> list[str]:
        """Everything that runs on behalf of this directory, but for the command itself."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{self.root}/strongroom-bench-".encode() in words:
                found.append(words.split(b"\0STRONGROOM")[0].decode(errors="replace"))
        return found

    def leftovers(self) -> list[str]:
        """Everything that should have gone."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        devices = Path("/dev/strongroom")
        return [
            *(str(path) for path in self.root.iterdir()),
            *self.processes(),
            *(line for line in mounts if str(self.root) in line),
            *(str(path) for path in devices.glob("strongroom-bench-*")),
        ]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="sb") as root:
        yield Scene(Path(root))


def measures(facts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["measure"]: one for group in facts for one in group["measures"]}


def test_figures_of_all_who_are_installed(scene: Scene) -> None:
    require_tools("fio", "nbdinfo", "nbdkit", "qemu-nbd", "cryptsetup")
    done = scene.bench("--only", "nbd", "--only", "cost", "--json", *TINY)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [group["group"] for group in facts] == ["nbd", "cost"]
    about = facts[0]["machine"]
    assert {"cpu", "cpu flags", "kernel", "load", "fio", "nbdkit", "qemu-nbd"} <= set(about)
    read = measures(facts[:1])["1 MiB sequential read, QD 8"]
    assert read["ours"] == "strongroom"
    assert list(read["contestants"]) == [
        *("strongroom", "nbdkit file", "nbdkit luks", "qemu-nbd raw", "qemu-nbd luks"),
    ]
    for contestant in read["contestants"].values():
        assert len(contestant["values"]) == 1
        assert 0.001 < contestant["median"] < 1000
    ours, plain = (read["contestants"][name]["median"] for name in ("strongroom", "nbdkit file"))
    assert read["times_better"]["nbdkit file"]["median"] == pytest.approx(ours / plain)
    goal = next(goal for goal in read["goals"] if goal["other"] == "nbdkit file")
    assert goal["met"] is (ours >= plain)
    memory = measures(facts[:1])["memory of all serving processes (PSS)"]
    assert 1 < memory["contestants"]["strongroom"]["median"] < 96
    for one in facts[1]["measures"]:
        assert one["contestants"]["nbdkit file"]["median"] > 0
    assert scene.leftovers() == []


def test_devices_and_file_systems(scene: Scene) -> None:
    require_fuse()
    require_tools("fio", "mkfs.ext4", "gocryptfs", "losetup")
    done = scene.bench("--only", "file-system", "--json", *TINY)
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)
    assert group["left_out"] == []
    for one in group["measures"]:
        assert len(one["contestants"]) == 3
        assert all(contestant["median"] > 0 for contestant in one["contestants"].values())
    assert scene.leftovers() == []


def test_what_is_not_installed_is_left_out_and_said_to_be(scene: Scene) -> None:
    require_tools("fio", "nbdinfo")
    programs = scene.root / "bin"
    programs.mkdir()
    for name in ("fio", "nbdinfo"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = scene.bench("--only", "latency", *TINY, PATH=str(programs))
    assert done.returncode == 0, done.stderr
    sentence = "nbdkit file is left out: nbdkit is not installed"
    assert f"strongroom: note: {sentence} (apt-get install nbdkit)\n" in done.stderr
    assert f"\n{sentence}\n" in done.stdout
    (programs / "fio").unlink()
    done = scene.bench("--only", "latency", *TINY, PATH=str(programs))
    assert done.returncode == 50
    assert "error: nothing could be measured\n" in done.stderr
    shutil.rmtree(programs)
    assert scene.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(scene: Scene, number: signal.Signals) -> None:
    require_tools("fio", "nbdinfo", "nbdkit")
    command = scene.command("--only", "nbd", "--rounds", "50", "--size", "16M")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=scene.environment(),
    ) as process:
        deadline = time.monotonic() + SECONDS
        # Servers are there, and a client is at work.
        while not any(words.startswith("fio") for words in scene.processes()):
            assert time.monotonic() < deadline, scene.processes()
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, complaint
    assert complaint.endswith("strongroom: error: interrupted\n")
    assert scene.leftovers() == []


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 1.5])
def test_an_interruption_while_volumes_are_made_and_opened_leaves_nothing(
    scene: Scene, seconds: float
) -> None:
    require_tools("nbdinfo")
    with subprocess.Popen(
        scene.command("--only", "opening", "--rounds", "50"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=scene.environment(),
    ) as process:
        deadline = time.monotonic() + SECONDS
        while not list(scene.root.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
    assert process.returncode == 130
    assert scene.leftovers() == []

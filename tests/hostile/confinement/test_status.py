# SPDX-License-Identifier: Apache-2.0
"""What ``status --json`` says of the confinement is what the kernel says of the running enclave."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import require_root
from tests.harness import Operator, open_files

pytestmark = pytest.mark.hostile

MEASURES: Final = {
    "user namespace",
    "mount namespace",
    "network namespace",
    "ipc namespace",
    "uts namespace",
    "cgroup namespace",
    "pid namespace",
    "core limit",
    "no new privileges",
    "empty root",
    "capabilities",
    "not dumpable",
    "landlock",
    "seccomp",
    "secret memory",
}


@pytest.fixture
def status(operator: Operator, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The status of an open volume."""
    image = tmp_path / "volume.img"
    operator.format(image)
    with operator.opened(image, "confined"):
        yield operator.facts("status", "confined")


def test_every_measure_is_in_force(status: dict[str, Any]) -> None:
    found = {item["name"]: item for item in status["confinement"]}
    assert found.keys() == MEASURES
    missing = {name: item["detail"] for name, item in found.items() if not item["active"]}
    assert not missing


def test_the_kernel_agrees(status: dict[str, Any]) -> None:
    require_root()
    process = Path("/proc") / str(status["enclave_pid"])
    facts = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text().splitlines()
        if ":\t" in line
    )
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[capabilities], 16) == 0, capabilities
    assert facts["NSpid"].split()[-1] == "1"
    for namespace in ("user", "mnt", "net", "ipc", "uts", "cgroup", "pid"):
        ours = Path("/proc/self/ns") / namespace
        assert (process / "ns" / namespace).readlink() != ours.readlink(), namespace
    limits = (process / "limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert list((process / "root").iterdir()) == []


def test_every_thread_of_the_enclave_is_confined(status: dict[str, Any]) -> None:
    require_root()
    tasks = list((Path("/proc") / str(status["enclave_pid"]) / "task").iterdir())
    assert len(tasks) > 1
    for task in tasks:
        text = (task / "status").read_text()
        assert "Seccomp:\t2\n" in text
        assert "NoNewPrivs:\t1\n" in text
        assert "CapEff:\t0000000000000000\n" in text


def test_the_enclave_holds_only_what_it_was_given(status: dict[str, Any]) -> None:
    require_root()
    files = {target for target in open_files(status["enclave_pid"]) if target.startswith("/")}
    assert files <= {status["image"], "/dev/null", str(Path(status["socket"]).parent / "log")}

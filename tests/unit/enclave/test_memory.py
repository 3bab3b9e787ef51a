# SPDX-License-Identifier: Apache-2.0
"""How much memory a control group leaves, by both versions of control groups."""

from pathlib import Path

import pytest

from strongroom.enclave.memory import Memory, memory_of

pytestmark = pytest.mark.unit

MIB = 1024 * 1024
NO_LIMIT = str(2**63 - 4096)


class Machine:
    """A machine of 8192 MiB with a tree of control groups."""

    def __init__(self, place: Path) -> None:
        self.groups = place / "groups"
        self.process = place / "process"
        self.process.mkdir()
        self.groups.mkdir()
        self.swap_mib = 0

    def belongs_to(self, *lines: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mounts(self, kind: str, options: str = "rw", root: str = "/") -> None:
        line = f"35 31 0:32 {root} {self.groups} rw,relatime shared:9 - {kind} {kind} {options}\n"
        (self.process / "mountinfo").write_text(line)

    def limits(self, group: str, **files: str) -> None:
        directory = self.groups / group
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (directory / name.replace("__", ".")).write_text(f"{content}\n")

    def memory(self) -> tuple[int, int, bool]:
        found: Memory = memory_of(
            self.process, machine_kib=8192 * 1024, swap_kib=self.swap_mib * 1024
        )
        return found.ram_kib // 1024, found.total_kib // 1024, found.grouped


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_version_2(machine: Machine) -> None:
    machine.mounts("cgroup2")
    machine.belongs_to("0::/a/b")
    machine.limits("a/b", memory__max=str(300 * MIB))
    assert machine.memory() == (300, 300, True)


def test_version_1(machine: Machine) -> None:
    machine.mounts("cgroup", "rw,memory")
    machine.belongs_to("9:name=systemd:/x", "4:cpu,memory:/a", "0::/")
    machine.limits("a", memory__limit_in_bytes=str(300 * MIB))
    assert machine.memory() == (300, 300, True)


@pytest.mark.parametrize(("own", "above"), [("max", 300 * MIB), (500 * MIB, 300 * MIB)])
def test_a_limit_above_counts(machine: Machine, own: str, above: int) -> None:
    machine.mounts("cgroup2")
    machine.belongs_to("0::/a/b/c")
    machine.limits("a", memory__max=str(above))
    machine.limits("a/b/c", memory__max=str(own))
    assert machine.memory()[0] == 300


def test_no_limit_is_the_machine(machine: Machine) -> None:
    machine.mounts("cgroup2")
    machine.belongs_to("0::/a")
    machine.limits("a", memory__max="max")
    assert machine.memory() == (8192, 8192, False)
    machine.mounts("cgroup", "rw,memory")
    machine.belongs_to("4:memory:/a")
    machine.limits("a", memory__limit_in_bytes=NO_LIMIT)
    assert machine.memory() == (8192, 8192, False)


def test_swap_counts_as_far_as_the_group_may_use_it(machine: Machine) -> None:
    machine.swap_mib = 1000
    machine.mounts("cgroup2")
    machine.belongs_to("0::/a")
    machine.limits("a", memory__max=str(300 * MIB), memory__swap__max="max")
    assert machine.memory() == (300, 1300, True)
    machine.limits("a", memory__swap__max=str(100 * MIB))
    assert machine.memory() == (300, 400, True)
    machine.limits("a", memory__swap__max="0")
    assert machine.memory() == (300, 300, True)


def test_swap_of_version_1_is_part_of_its_sum(machine: Machine) -> None:
    machine.swap_mib = 1000
    machine.mounts("cgroup", "rw,memory")
    machine.belongs_to("4:memory:/a")
    machine.limits(
        "a",
        memory__limit_in_bytes=str(300 * MIB),
        memory__memsw__limit_in_bytes=str(350 * MIB),
    )
    assert machine.memory() == (300, 350, True)
    machine.limits("a", memory__memsw__limit_in_bytes=NO_LIMIT)
    assert machine.memory() == (300, 1300, True)
    machine.swap_mib = 0
    assert machine.memory() == (300, 300, True)


def test_a_container_sees_its_own_group_as_the_root(machine: Machine) -> None:
    machine.limits("", memory__max=str(300 * MIB))
    machine.mounts("cgroup2")
    machine.belongs_to("0::/")
    assert machine.memory()[0] == 300
    machine.mounts("cgroup2", root="/docker/abc")
    machine.belongs_to("0::/docker/abc")
    assert machine.memory()[0] == 300
    machine.belongs_to("0::/../elsewhere")
    assert machine.memory()[0] == 300


@pytest.mark.parametrize("content", ["", "garbage", "-1", "1e9", "\u0663"])
def test_what_is_no_number_limits_nothing(machine: Machine, content: str) -> None:
    machine.mounts("cgroup2")
    machine.belongs_to("0::/a", "garbage", "")
    machine.limits("a", memory__max=content)
    assert machine.memory() == (8192, 8192, False)


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    found = memory_of(tmp_path, machine_kib=1000, swap_kib=10)
    assert found == Memory(found.ram_kib, found.total_kib, grouped=False)
    assert (found.ram_kib, found.total_kib) == (1000, 1010)

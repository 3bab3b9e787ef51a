# SPDX-License-Identifier: Apache-2.0
"""A volume has one writer, by whatever name or device its bytes are reached."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import AlreadyOpenError, MountedError, NoPermissionError
from tests.conftest import require_tools
from tests.harness import STOCK, STRONGROOM, Operator
from tests.system.crash.remains import end_all

pytestmark = pytest.mark.system

IN_USE: Final = MountedError.exit_code
OPEN: Final = AlreadyOpenError.exit_code
PROTECTED: Final = NoPermissionError.exit_code
MIB: Final = 1 << 20
SIZE: Final = 20 * MIB

MakeLoop = Callable[..., Path]


@pytest.fixture
def loop(operator: Operator) -> Iterator[MakeLoop]:
    """Lend what makes a loop device for the length of a test."""
    require_tools("losetup")
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    with contextlib.ExitStack() as stack:

        def make(backing: Path, *options: str) -> Path:
            done = operator.run("losetup", "--find", "--show", *options, backing)
            device = Path(done.stdout.strip())
            stack.callback(operator.run, "losetup", "--detach", device, check=False)
            return device

        yield make
        # What must not have been opened holds the devices.
        end_all(operator.place)


@pytest.fixture
def image(operator: Operator) -> Path:
    path = operator.place / "image"
    operator.format(path, "--sparse", size=str(SIZE))
    return path


def refused(operator: Operator, code: int, *command: str | Path) -> str:
    """Run a command with the passphrase and expect its refusal."""
    key = ("--passphrase-file", operator.passphrase_file)
    done = operator.strongroom(*command, *key, check=False)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr


def refused_everywhere(operator: Operator, target: Path, backup: Path) -> None:
    """Try every command that writes to a target."""
    attach = ("--attach", "none")
    restore = operator.strongroom("header", "restore", target, backup, check=False)
    assert restore.returncode == OPEN, restore.stderr
    for command in (
        ("open", target, "second", *attach),
        ("open", target, "second", *attach, "--boundary", "stdio"),
        ("open", target, "second", *attach, "--read-only"),
        ("serve", target, "second", *attach),
        ("format", target, "--force", "--no-recovery"),
        ("reseal", target),
        ("slot", "add", target, "--new-passphrase-file", operator.passphrase_file),
        ("slot", "change", target, "--new-passphrase-file", operator.passphrase_file),
        ("slot", "remove", target, "--keyslot", "0"),
    ):
        said = refused(operator, OPEN, *command)
        assert "stands on" in said, said


def test_a_loop_device_on_an_open_image(operator: Operator, image: Path, loop: MakeLoop) -> None:
    backup = operator.place / "backup"
    operator.strongroom("header", "backup", image, backup)
    with operator.opened(image, "first"):
        before = image.read_bytes()
        device = loop(image)
        refused_everywhere(operator, device, backup)
        refused_everywhere(operator, loop(device), backup)
        refused_everywhere(operator, loop(image, "--offset", "4096"), backup)
        assert image.read_bytes() == before
        # Looking is no writing.
        operator.strongroom("dump", device)
        operator.strongroom("slot", "list", device)


def test_a_loop_device_whose_file_is_gone(operator: Operator, image: Path, loop: MakeLoop) -> None:
    with operator.opened(image, "first"):
        device = loop(image)
        image.unlink()
        assert "stands on" in refused(operator, OPEN, "open", device, "second", "--attach", "none")


def test_two_loop_devices_on_one_file(operator: Operator, image: Path, loop: MakeLoop) -> None:
    one, two = loop(image), loop(image)
    with operator.opened(one, "first"):
        refused(operator, OPEN, "open", two, "second", "--attach", "none")
        new = ("--new-passphrase-file", operator.passphrase_file)
        refused(operator, OPEN, "slot", "add", two, *new)
        assert "name the device" in refused(operator, OPEN, "slot", "add", image, *new)
        refused(operator, IN_USE, "open", image, "second", "--attach", "none")
    with operator.opened(two, "second"):
        pass


def test_volumes_on_different_parts_of_one_file(operator: Operator, loop: MakeLoop) -> None:
    disk = operator.place / "disk"
    disk.touch()
    os.truncate(disk, 2 * SIZE + MIB)
    limit = ("--sizelimit", str(SIZE))
    first, second = loop(disk, *limit), loop(disk, "--offset", str(SIZE), *limit)
    between = loop(disk, "--offset", str(SIZE - 4096), *limit)
    for device in (first, second):
        operator.format(device, size=None)
    with operator.opened(first, "first"), operator.opened(second, "second"):
        refused(operator, OPEN, "open", between, "third", "--attach", "none")
        refused(operator, OPEN, "format", between, "--force", "--no-recovery")


def test_partitions(operator: Operator, loop: MakeLoop) -> None:
    require_tools("addpart")
    disk = operator.place / "disk"
    disk.touch()
    os.truncate(disk, 64 * MIB)
    device = loop(disk, "--partscan")
    operator.run("addpart", device, "1", "2048", "40960")
    operator.run("addpart", device, "2", "43008", "40960")
    one, two = (another_node(operator, f"{device.name}p{number}") for number in (1, 2))
    for partition in (one, two):
        operator.format(partition, size=None)
    other = loop(disk, "--offset", str(MIB))
    with operator.opened(one, "first"), operator.opened(two, "second"):
        refused(operator, OPEN, "open", other, "third", "--attach", "none")
        refused(operator, OPEN, "format", device, "--force", "--no-recovery")
        refused(operator, IN_USE, "format", disk, "--force", "--no-recovery")


def another_node(operator: Operator, name: str) -> Path:
    """Make a node of a block device outside of ``/dev``."""
    node = operator.place / name
    major, minor = Path(f"/sys/class/block/{name}/dev").read_text().split(":")
    os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(int(major), int(minor)))
    return node


def test_an_open_block_device_is_claimed(operator: Operator, image: Path, loop: MakeLoop) -> None:
    require_tools("mkfs.ext4", "cryptsetup")
    device = loop(image)
    node = another_node(operator, device.name)
    with operator.opened(device, "first", "--boundary", "stdio"):
        before = image.read_bytes()
        for target in (device, node):
            for command in (
                ("open", target, "second", "--attach", "none"),
                ("open", target, "second", "--attach", "none", "--read-only"),
                ("format", target, "--force", "--no-recovery"),
                ("reseal", target),
            ):
                said = refused(operator, OPEN, *command)
                assert f"{target} is open already" in said
        made = operator.run("mkfs.ext4", "-qF", device, check=False)
        assert made.returncode != 0, "mkfs"
        assert image.read_bytes() == before
        # The header of an open volume may change, by the device that is open; stock tools look.
        new = ("--new-passphrase-file", operator.passphrase_file)
        key = ("--passphrase-file", operator.passphrase_file)
        operator.strongroom("slot", "add", device, *new, *key)
        operator.run("cryptsetup", "luksDump", device)
    operator.run("mkfs.ext4", "-qF", device)


def test_a_loop_device_on_an_open_block_device(
    operator: Operator, image: Path, loop: MakeLoop
) -> None:
    device = loop(image)
    with operator.opened(device, "first"):
        above = loop(device)
        said = refused(operator, OPEN, "open", above, "second", "--attach", "none")
        assert f"{above} stands on {device}, which is open" in said
    with operator.opened(above, "second"):
        refused(operator, IN_USE, "open", device, "first", "--attach", "none")


def test_readers_share_an_image_and_a_device(
    operator: Operator, image: Path, loop: MakeLoop
) -> None:
    with operator.opened(image, "a", "--read-only"), operator.opened(image, "b", "--read-only"):
        refused(operator, OPEN, "open", image, "c", "--attach", "none")
        device = loop(image, "--read-only")
        with operator.opened(device, "c", "--read-only"):
            pass
    device = loop(image)
    with operator.opened(device, "a", "--read-only"), operator.opened(device, "b", "--read-only"):
        refused(operator, OPEN, "open", device, "c", "--attach", "none")
    with operator.opened(device, "a"):
        pass


@pytest.fixture
def detached(operator: Operator) -> tuple[Path, Path]:
    data, header = operator.place / "data", operator.place / "header"
    operator.format(data, "--header", header, *STOCK, size="1M")
    return data, header


def test_a_detached_header_of_an_open_volume(
    operator: Operator, detached: tuple[Path, Path], loop: MakeLoop
) -> None:
    data, header = detached
    other, backup = operator.place / "other", operator.place / "backup"
    other.write_bytes(bytes(SIZE))
    operator.strongroom("header", "backup", data, backup, "--header", header)
    with operator.opened(data, "first", "--header", header):
        before = header.read_bytes()
        for through in (False, True):
            target = loop(header) if through else header
            refused(operator, OPEN, "format", target, "--force", "--no-recovery")
            to = ("--header", target, "--force", "--no-recovery")
            refused(operator, OPEN, "format", other, *to)
            restoring = ("header", "restore", other, backup, "--header", target)
            done = operator.strongroom(*restoring, check=False)
            assert done.returncode == OPEN, done.stderr
        new = ("--new-passphrase-file", operator.passphrase_file)
        refused(operator, OPEN, "slot", "add", data, "--header", loop(header), *new)
        assert header.read_bytes() == before


def test_volumes_may_share_a_detached_header(
    operator: Operator, detached: tuple[Path, Path]
) -> None:
    data, header = detached
    copy = operator.place / "copy"
    copy.write_bytes(data.read_bytes())
    with (
        operator.opened(data, "first", "--header", header),
        operator.opened(copy, "second", "--header", header),
    ):
        pass


def test_a_claim_ends_with_the_host_process(
    operator: Operator, image: Path, loop: MakeLoop
) -> None:
    device = loop(image)
    facts = operator.open(device, "first")
    subprocess.run(["kill", "-KILL", str(facts["host_pid"])], check=True)
    operator.facts("list")
    with operator.opened(device, "first"):
        pass


def test_a_write_protected_device_is_opened_for_reading_only(
    operator: Operator, image: Path, loop: MakeLoop
) -> None:
    require_tools("blockdev")
    device = loop(image)
    operator.run("blockdev", "--setro", device)
    said = refused(operator, PROTECTED, "open", device, "v", "--attach", "none")
    assert f"{device} is write-protected" in said
    assert "hint: open it with --read-only" in said
    new = ("--new-passphrase-file", operator.passphrase_file)
    for command in (
        ("slot", "add", device, *new),
        ("format", device, "--force", "--no-recovery"),
        ("reseal", device),
    ):
        said = refused(operator, PROTECTED, *command)
        assert f"hint: take the protection off: `blockdev --setrw {device}`" in said
    with operator.opened(device, "v", "--read-only") as facts:
        assert facts["read_only"]
    operator.run("blockdev", "--setrw", device)
    with operator.opened(device, "v"):
        pass


def test_a_file_on_a_read_only_file_system_has_the_same_way_out(
    operator: Operator, image: Path
) -> None:
    require_tools("mount", "unshare")
    place = operator.place / "mount"
    place.mkdir()
    key = f"--attach none --passphrase-file {operator.passphrase_file}"
    script = (
        f"mount --bind {operator.place} {place} && mount -o remount,ro,bind {place} &&"
        f"{STRONGROOM} open {place}/{image.name} v {key}; echo $?;"
        f"{STRONGROOM} open {place}/{image.name} v {key} --read-only && {STRONGROOM} close v"
    )
    done = operator.run("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    assert done.stdout.startswith(f"{PROTECTED}\n")
    assert "hint: open it with --read-only" in done.stderr

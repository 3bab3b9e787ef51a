# SPDX-License-Identifier: Apache-2.0
"""Volumes that are killed while somebody writes to them, and what must be there afterwards."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tests.harness import Operator
from tests.system.crash import writer
from tests.system.crash.remains import (
    await_true,
    descendants,
    loop_devices,
    processes_of,
    remains,
)

Road: TypeAlias = Literal["socket", "device", "ext4"]
ROADS: tuple[Road, ...] = ("socket", "device", "ext4")
Target: TypeAlias = Literal["enclave", "host", "enclave+host"]

_SYSTEM_PYTHON = "/usr/bin/python3"
_PROGRAM = Path(writer.__file__)
_ENOUGH_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Writing:
    """An open volume that somebody writes to."""

    operator: Operator
    image: Path
    name: str
    road: Road
    facts: dict[str, Any]

    @property
    def journal(self) -> Path:
        return self.operator.place / "journal"

    @property
    def mount_point(self) -> Path:
        return self.operator.place / "mnt"

    def rounds(self) -> int:
        """Return the last round whose flush has returned."""
        if not self.journal.exists():
            return 0
        return len([line for line in self.journal.read_text().split("\n")[:-1] if line])

    def kill(self, target: Target) -> None:
        """Kill -9, and wait until the host has ended: also by itself, when its enclave is gone."""
        host, enclave = self.facts["host_pid"], self.facts["enclave_pid"]
        below = descendants(host)
        pids = {
            "enclave": {enclave},
            "host": {host},
            "enclave+host": {enclave, host},
        }[target]
        assert pids
        # A descriptor: the pid may be another process's before this one looks again.
        host_fd = os.pidfd_open(host)
        try:
            for process in processes_of(self.operator.place) + below:
                if process.pid in pids:
                    process.kill()
            ended = select.poll()
            ended.register(host_fd, select.POLLIN)
            assert ended.poll(60_000), "the host does not end within 60 seconds"
        finally:
            os.close(host_fd)


def prepared(operator: Operator, base: Path) -> Path:
    """Copy a volume whose blocks are all of round 0."""
    image = operator.place / "image"
    operator.run("cp", "--sparse=always", base, image)
    return image


def make_io_base(operator: Operator, road: Road) -> Path:
    """Make a volume for a road: with all blocks written, in ext4 if that is the road."""
    image = operator.place / f"{road}.img"
    operator.format(image, size="48M")
    blocks = b"".join(writer.block(place, 0) for place in range(writer.BLOCKS))
    name = f"{road}-base"
    with operator.opened(image, name, "--attach", "fuse") as facts:
        device = Path(facts["device"])
        if road != "ext4":
            with device.open("r+b") as file:
                file.write(blocks)
            operator.run("blockdev", "--flushbufs", device)
        else:
            point = operator.place / "mnt"
            point.mkdir()
            operator.run("mkfs.ext4", "-q", device)
            operator.run("mount", device, point)
            (point / "blocks").write_bytes(blocks)
            operator.run("umount", point)
        operator.close(name)
    return image


@contextmanager
def writing(operator: Operator, image: Path, name: str, road: Road) -> Iterator[Writing]:
    """Open a volume, write to it, and yield once the first rounds are flushed."""
    attach = "none" if road == "socket" else "fuse"
    facts = operator.open(image, name, "--attach", attach)
    this = Writing(operator, image, name, road, facts)
    with ExitStack() as stack:
        process = subprocess.Popen(
            _command(this),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait, 60)
        stack.callback(process.kill)
        await_true(lambda: this.rounds() >= _ENOUGH_ROUNDS, "the first rounds")
        yield this


def check_blocks(content: bytes, flushed: int) -> None:
    """Check that every block is of its last flushed round, or of one that came later."""
    newest = dict.fromkeys(range(writer.BLOCKS), 0)
    for number in range(1, flushed + 1):
        newest |= dict.fromkeys(writer.places(number), number)
    for place in range(writer.BLOCKS):
        found = content[place * writer.BLOCK_BYTES : (place + 1) * writer.BLOCK_BYTES]
        number = int(found[9:17])
        assert found == writer.block(place, number), f"block {place} is torn"
        assert number >= newest[place], f"block {place} is of round {number}, not {newest[place]}"


def check_after(this: Writing, flushed: int, *, name: str) -> None:
    """Open a volume again, under ``name``; compare everything that was flushed; close it."""
    operator = this.operator
    operator.open(this.image, name, "--attach", "fuse")
    device = Path("/dev/strongroom") / name
    if this.road == "ext4":
        checked = operator.run("e2fsck", "-fy", device, check=False)
        assert checked.returncode in {0, 1}, checked.stdout
        operator.run("mount", device, this.mount_point)
        content = (this.mount_point / "blocks").read_bytes()
        operator.run("umount", this.mount_point)
    else:
        with device.open("rb") as file:
            content = file.read(writer.BLOCKS * writer.BLOCK_BYTES)
    check_blocks(content, flushed)
    operator.close(name)
    check_nothing_left(operator, this.name, name)


def check_nothing_left(operator: Operator, *names: str) -> None:
    """Check that no trace of any volume of this operator is in the system."""
    assert remains(operator.place, *names) == []
    assert loop_devices(operator.runtime) == []


def _command(this: Writing) -> list[str]:
    if this.road == "socket":
        socket, export = this.facts["socket"], this.name
        return [_SYSTEM_PYTHON, str(_PROGRAM), "nbd", socket, export, str(this.journal)]
    path = Path(this.facts["device"])
    if this.road == "ext4":
        this.mount_point.mkdir(exist_ok=True)
        this.operator.run("mount", path, this.mount_point)
        path = this.mount_point / "blocks"
    return [sys.executable, str(_PROGRAM), "file", str(path), str(this.journal)]

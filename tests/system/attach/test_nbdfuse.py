# SPDX-License-Identifier: Apache-2.0
import fcntl
import mmap
import os
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from strongroom.errors import (
    DiskError,
    InternalError,
    MountedError,
    NoFuseError,
    NoLoopError,
    PlatformError,
    UnavailableError,
)
from strongroom.host.attach import Attached, attach, clean_stale, detach, fuse, loop, nbdfuse
from tests.harness import Operator

from .conftest import SIZE, Bench, nbdfuses, require, run

pytestmark = pytest.mark.system

BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F


def block(device: Path | None) -> Path:
    assert device is not None
    return device


def write_through(fd: int, data: bytes) -> None:
    os.write(fd, data)
    os.fsync(fd)


def commands(log: str) -> list[str]:
    return re.findall(r"connection=\d+ (Flush|Trim|Zero|Write|Read)\b", log)


def check_left(bench: Bench, attached: Attached, left: tuple[str, ...], *, mounted: bool) -> None:
    """Check what a forced end leaves: of a mounted device the mount, which gives errors."""
    point = bench.root / "mnt"
    if not mounted:
        assert left == ()
        assert bench.leftovers() == []
        return
    assert left == (str(point),)
    bench.ended(attached, point)


# --- what it gives


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_file_system_lives_on_the_device(bench: Bench, sector: int) -> None:
    bench.serve()
    attached = bench.attach(sector=sector)
    assert attached.device == bench.devices / "vol"
    device = block(attached.device)
    assert run("blockdev", "--getss", "--getsize64", "--getro", device).split() == [
        str(sector),
        str(SIZE),
        "0",
    ]
    run("mkfs.ext4", "-q", device)
    point = bench.mount(attached)
    content = os.urandom(3 << 20)
    (point / "file").write_bytes(content)
    run("umount", point)
    run("e2fsck", "-f", "-n", device)
    detach(attached, force=False)
    assert bench.leftovers() == []

    attached = bench.attach(sector=sector, read_only=True)
    run("mount", "-o", "ro", str(attached.device), point)
    assert (point / "file").read_bytes() == content
    run("umount", point)
    detach(attached, force=False)
    detach(attached, force=False)
    assert bench.leftovers() == []


def test_fsync_discard_and_zeroing_reach_the_server(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    fd = os.open(block(attached.device), os.O_RDWR)
    before = commands(bench.log).count("Flush")
    os.pwrite(fd, b"x" * (1 << 20), 0)
    assert commands(bench.log).count("Flush") == before
    os.fsync(fd)
    seen = commands(bench.log)
    assert "Write" in seen
    assert seen[-1] == "Flush"
    assert seen.count("Flush") > before
    fcntl.ioctl(fd, BLKDISCARD, struct.pack("=QQ", 0, 1 << 19))
    fcntl.ioctl(fd, BLKZEROOUT, struct.pack("=QQ", 1 << 19, 1 << 18))
    os.fsync(fd)
    assert {"Trim", "Zero"} <= set(commands(bench.log))
    os.close(fd)
    detach(attached, force=False)
    image = (bench.root / "image").read_bytes()
    assert image[1 << 19 : 3 << 18] == bytes(1 << 18)
    assert image[3 << 18 : 1 << 20] == b"x" * (1 << 18)


def test_detaching_writes_back_what_nobody_synced(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    fd = os.open(block(attached.device), os.O_RDWR)
    os.pwrite(fd, b"y" * (1 << 20), 0)
    os.close(fd)
    detach(attached, force=False)
    assert (bench.root / "image").read_bytes()[: 1 << 20] == b"y" * (1 << 20)
    assert commands(bench.log)[-1] == "Flush"


def test_read_only_refuses_writes(bench: Bench) -> None:
    bench.serve()
    device = block(bench.attach(read_only=True).device)
    assert run("blockdev", "--getro", device).strip() == "1"
    with pytest.raises(PermissionError):
        device.write_bytes(b"x")
    assert "Write" not in commands(bench.log)


def test_the_plaintext_file_is_out_of_reach_and_cached_once(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    assert not any("nbdfuse" in line for line in Path("/proc/mounts").read_text().splitlines())
    assert not (bench.runtime / "fuse").exists()
    name = block(attached.block_device).name
    assert Path(f"/sys/block/{name}/loop/dio").read_text().strip() == "1"
    assert Path(f"/sys/block/{name}/loop/autoclear").read_text().strip() == "1"


def test_direct_input_works_at_the_size_of_a_sector(bench: Bench) -> None:
    bench.serve()
    device = block(bench.attach(sector=512).device)
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    buffer[:512] = b"z" * 512
    assert os.pwritev(fd, [memoryview(buffer)[:512]], 512) == 512
    os.close(fd)
    assert (bench.root / "image").read_bytes()[:1536] == bytes(512) + b"z" * 512 + bytes(512)


def test_automatic_takes_what_there_is_and_says_why(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach("auto")
    if Path("/sys/module/nbd").exists():
        assert attached.kind == "nbd"
        return
    assert attached.kind == "fuse"
    assert "no NBD client" in attached.reason
    assert "FUSE and loop devices are available" in attached.reason


def test_none_and_ublk(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach("none")
    assert (attached.kind, attached.device) == ("none", None)
    detach(attached, force=False)
    assert clean_stale(attached.record) == ()
    with pytest.raises(UnavailableError) as caught:
        attach(
            "ublk",
            name="vol",
            socket=bench.socket,
            runtime=bench.runtime,
            size_bytes=SIZE,
            sector_size_bytes=512,
            read_only=False,
            discard=False,
            serve_fuse=None,
        )
    assert "fuse" in caught.value.hint


# --- what it refuses


def test_a_mounted_device_is_kept_without_force_and_detached_with_it(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    run("mkfs.ext4", "-q", block(attached.device))
    point = bench.mount(attached)
    (point / "file").write_bytes(b"kept")
    with pytest.raises(MountedError, match=str(point)):
        detach(attached, force=False)
    assert (point / "file").read_bytes() == b"kept"
    check_left(bench, attached, detach(attached, force=True), mounted=True)
    again = bench.attach()
    bench.mount(again)
    assert (point / "file").read_bytes() == b"kept"
    run("umount", point)


def test_a_busy_file_system_is_cut_off_by_force_after_it_was_written_back(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    run("mkfs.ext4", "-q", block(attached.device))
    point = bench.mount(attached)
    with (point / "file").open("wb", buffering=0) as file:
        file.write(b"written")
        assert detach(attached, force=True) == (str(point),)
        assert nbdfuses(str(bench.root)) == []
        with pytest.raises(OSError, match=r"Input/output|Read-only|not connected"):
            write_through(file.fileno(), b"x" * 8192)
    bench.ended(attached, point)
    again = bench.attach()
    bench.mount(again)
    assert (point / "file").read_bytes().startswith(b"written")
    run("umount", point)


def test_an_open_device_is_kept_without_force(bench: Bench) -> None:
    bench.serve()
    attached = bench.attach()
    with (
        block(attached.device).open("rb") as opened,
        subprocess.Popen(["sleep", "30"], stdin=opened) as sleeper,
    ):
        with pytest.raises(MountedError, match=rf"sleep \(pid {sleeper.pid}\)"):
            detach(attached, force=False)
        sleeper.kill()
    detach(attached, force=False)
    assert bench.leftovers() == []


def test_a_device_under_another_loop_device_is_kept_without_force(bench: Bench) -> None:
    require("losetup")
    bench.serve()
    attached = bench.attach()
    upper = run("losetup", "--find", "--show", block(attached.block_device)).strip()
    try:
        with pytest.raises(MountedError, match=upper):
            detach(attached, force=False)
    finally:
        run("losetup", "--detach", upper)
    detach(attached, force=False)


def test_an_export_of_another_size_is_refused(bench: Bench) -> None:
    bench.serve()
    with pytest.raises(InternalError):
        attach(
            "fuse",
            name="vol",
            socket=bench.socket,
            runtime=bench.runtime,
            size_bytes=SIZE + 4096,
            sector_size_bytes=512,
            read_only=False,
            discard=False,
            serve_fuse=None,
            device_directory=bench.devices,
        )
    assert bench.leftovers() == []


def test_a_missing_server_is_said_with_nbdfuses_words(bench: Bench) -> None:
    bench.runtime.mkdir(parents=True)
    with pytest.raises(PlatformError, match=r"nbdfuse failed: .*connect"):
        bench.attach()
    assert bench.leftovers() == []


def test_missing_parts_have_their_own_errors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.serve()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CONTROL", tmp_path / "loop-control")
        with pytest.raises(NoLoopError, match="loop-control"):
            bench.attach()
    assert bench.leftovers() == []
    with monkeypatch.context() as patch:
        patch.setattr(fuse, "FUSE_NODE", tmp_path / "fuse")
        with pytest.raises(NoFuseError, match="is missing"):
            bench.attach()
        attached = bench.attach("auto")
        assert (attached.kind, "is missing" in attached.reason) == ("none", True)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(NoFuseError) as caught:
            bench.attach()
    assert "apt-get install libnbd-bin" in caught.value.hint
    assert bench.leftovers() == []


# --- servers that die or hang


@pytest.mark.parametrize("victim", ["server", "nbdfuse"])
@pytest.mark.parametrize("mounted", [True, False])
def test_a_dead_server_gives_errors_and_does_not_hang(
    bench: Bench, victim: str, *, mounted: bool
) -> None:
    bench.serve()
    attached = bench.attach()
    bench.dirty(attached, mounted=mounted)
    if victim == "server":
        bench.kill_server()
    else:
        os.kill(int(str(attached.record["helper_pid"])), signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(MountedError if mounted else DiskError):
        detach(attached, force=False)
    left = detach(attached, force=True)
    assert time.monotonic() - began < 10
    check_left(bench, attached, left, mounted=mounted)


@pytest.mark.slow
@pytest.mark.parametrize("mounted", [True, False])
def test_a_hanging_server_is_cut_off_by_force_in_bounded_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, mounted: bool
) -> None:
    monkeypatch.setattr("strongroom.host.attach.detaching._FLUSH_SECONDS", 1.0)
    server = bench.serve()
    attached = bench.attach()
    bench.dirty(attached, mounted=mounted)
    server.send_signal(signal.SIGSTOP)
    if not mounted:
        with pytest.raises(DiskError, match="was not flushed"):
            detach(attached, force=False)
    began = time.monotonic()
    left = detach(attached, force=True, flush_seconds=1.0)
    assert time.monotonic() - began < 12
    check_left(bench, attached, left, mounted=mounted)


@pytest.mark.slow
def test_attaching_to_a_hanging_server_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbdfuse, "_READY_SECONDS", 0.5)
    bench.serve().send_signal(signal.SIGSTOP)
    with pytest.raises(PlatformError) as caught:
        bench.attach()
    assert "not ready" in caught.value.message
    assert bench.leftovers() == []


# --- when it is used


def test_a_boundary_without_descriptors_takes_nbdfuse_and_says_so(operator: Operator) -> None:
    require("nbdfuse", nodes=("/dev/fuse", "/dev/loop-control"))
    image = operator.place / "image"
    operator.format(image, size="24M")
    options = ("--attach", "fuse", "--boundary", "stdio")
    name = f"stdio-{os.getpid()}"
    with operator.opened(image, name, *options) as facts:
        assert "through nbdfuse" in facts["attach_reason"]
        device = Path(facts["device"])
        content = os.urandom(1 << 20)
        with device.open("r+b", buffering=0) as file:
            write_through(file.fileno(), content)
        # A trim is no way to zero: not offered, it is not taken for one.
        done = operator.run(
            *("fallocate", "--punch-hole", "--offset", "0", "--length", "1MiB", device), check=False
        )
        operator.run("blockdev", "--flushbufs", device)
        found = device.read_bytes()[: 1 << 20]
        assert found == (content if done.returncode else bytes(1 << 20))
    done = operator.strongroom(
        *("open", image, name, *options, "--discard"),
        *("--passphrase-file", operator.passphrase_file),
        check=False,
    )
    assert done.returncode == NoFuseError.exit_code
    assert "nbdfuse does not go with discards" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""The device over a file that the enclave serves by itself."""

import fcntl
import mmap
import os
import random
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import DiskError, MountedError, NoFuseError, NoLoopError, PlatformError
from strongroom.host.attach import Attached, clean_stale, detach, find_orphans, fuse, loop
from tests.harness import open_files

from .conftest import Bench, EnclaveBench, nbdfuses, run, wait_for

pytestmark = pytest.mark.system

MIB: Final = 1 << 20
BLKDISCARD: Final = 0x1277
BLKZEROOUT: Final = 0x127F


def node(attached: Attached) -> Path:
    assert attached.block_device is not None
    return attached.block_device


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


def test_the_enclave_alone_holds_fuse_and_nothing_shows(served: EnclaveBench) -> None:
    attached = served.attach()
    assert attached.reason == "fuse was asked for; the enclave answers FUSE itself"
    assert nbdfuses(str(served.root)) == []
    assert "/dev/fuse" not in open_files(os.getpid())
    assert "strongroom" not in Path("/proc/mounts").read_text()
    assert not (served.runtime / "fuse").exists()
    queue = Path("/sys/block") / node(attached).name
    assert (queue / "loop/dio").read_text().strip() == "1"
    assert (queue / "loop/autoclear").read_text().strip() == "1"
    assert served.counters().connections > 0
    detach(attached, force=False)
    detach(attached, force=False)
    assert served.leftovers() == []
    wait_for(lambda: served.counters().connections == 0, "the threads' end")


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_file_system_lives_on_the_device(served: EnclaveBench, sector: int) -> None:
    attached = served.attach(sector=sector)
    run("mkfs.ext4", "-q", node(attached))
    point = served.mount(attached)
    content = os.urandom(2 * MIB)
    (point / "file").write_bytes(content)
    run("umount", point)
    run("e2fsck", "-f", "-n", node(attached))
    detach(attached, force=False)
    served.end()
    served.start()
    attached = served.attach(sector=sector, read_only=True)
    run("mount", "-o", "ro", node(attached), point)
    assert (point / "file").read_bytes() == content
    run("umount", point)
    assert run("blockdev", "--getro", node(attached)).strip() == "1"
    with pytest.raises(PermissionError):
        node(attached).write_bytes(b"x")
    assert served.counters().writes == 0
    detach(attached, force=False)
    assert served.leftovers() == []


def test_a_flush_reaches_the_disk_and_detaching_makes_one(served: EnclaveBench) -> None:
    attached = served.attach()
    fd = os.open(node(attached), os.O_RDWR)
    os.pwrite(fd, b"x" * MIB, 0)
    before = served.counters()
    os.fsync(fd)
    after = served.counters()
    assert after.flushes > before.flushes
    assert after.written_bytes == MIB
    os.pwrite(fd, b"y" * MIB, 0)
    os.close(fd)
    detach(attached, force=False)
    assert served.counters().written_bytes == 2 * MIB
    assert served.counters().flushes > after.flushes


def zero(fd: int, start: int, size: int) -> None:
    fcntl.ioctl(fd, BLKZEROOUT, struct.pack("=QQ", start, size))


def test_what_is_zeroed_reads_as_zeroes(served: EnclaveBench) -> None:
    attached = served.attach()
    content = bytearray(os.urandom(3 * MIB))
    fd = os.open(node(attached), os.O_RDWR)
    os.pwrite(fd, content, 0)
    os.fsync(fd)
    zero(fd, MIB, MIB)
    content[MIB : 2 * MIB] = bytes(MIB)
    assert read_anew(fd, 3 * MIB) == content
    assert served.counters().trims == 0
    os.close(fd)


def test_a_hole_that_a_file_system_takes_for_zeroes_is_not_punched(served: EnclaveBench) -> None:
    """Told so, the kernel writes zeroes: what was there before must never show."""
    attached = served.attach()
    fd = os.open(node(attached), os.O_RDWR)
    content = os.urandom(MIB)
    os.pwrite(fd, content, 0)
    os.fsync(fd)
    done = subprocess.run(
        ["fallocate", "--punch-hole", "--offset", "0", "--length", str(MIB), node(attached)],
        check=False,
    )
    assert read_anew(fd, MIB) == (content if done.returncode else bytes(MIB))
    assert served.counters().trims == 0
    os.close(fd)


def read_anew(fd: int, size: int) -> bytes:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(fd, size, 0)


def test_discards_are_not_offered(served: EnclaveBench) -> None:
    """A refused discard is no success for the caller, no change and no line in the kernel's log."""
    attached = served.attach()
    queue = Path("/sys/block") / node(attached).name / "queue"
    for limit in ("discard_max_bytes", "discard_max_hw_bytes", "write_zeroes_max_bytes"):
        assert (queue / limit).read_text() == "0\n"
    fd = os.open(node(attached), os.O_RDWR)
    os.pwrite(fd, b"x" * MIB, 0)
    os.fsync(fd)
    before = kernel_log(node(attached).name)
    with pytest.raises(OSError, match=r"not supported"):
        fcntl.ioctl(fd, BLKDISCARD, struct.pack("=QQ", 0, MIB))
    zero(fd, MIB, MIB)
    assert read_anew(fd, 2 * MIB) == b"x" * MIB + bytes(MIB)
    assert served.counters().trims == 0
    assert kernel_log(node(attached).name) == before
    os.close(fd)


def kernel_log(device: str) -> list[str]:
    """Return the errors of a device in the kernel's log."""
    done = subprocess.run(["dmesg"], check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if f"{device}, sector" in line]


def test_direct_input_works_at_the_size_of_a_sector(served: EnclaveBench) -> None:
    attached = served.attach(sector=512)
    fd = os.open(node(attached), os.O_RDWR | os.O_DIRECT)
    os.pwritev(fd, [mmap.mmap(-1, 8192)], 0)
    buffer = mmap.mmap(-1, 4096)
    buffer[:512] = b"z" * 512
    assert os.pwritev(fd, [memoryview(buffer)[:512]], 512) == 512
    found = mmap.mmap(-1, 4096)
    assert os.preadv(fd, [found], 0) == 4096
    assert found[:1536] == bytes(512) + b"z" * 512 + bytes(512)
    os.close(fd)


def test_random_requests_agree_with_a_model(served: EnclaveBench) -> None:
    rng = random.Random(5)
    attached = served.attach(sector=512)
    expected = bytearray(served.size)
    fd = os.open(node(attached), os.O_RDWR | os.O_DIRECT)
    zero(fd, 0, served.size)
    buffer = mmap.mmap(-1, 2 * MIB)
    for _ in range(1500):
        size = rng.choice((512, 4096, 512 * rng.randint(1, 64), 4096 * rng.randint(1, 512)))
        start = 512 * rng.randint(0, (served.size - size) // 512)
        area = slice(start, start + size)
        match rng.randrange(5):
            case 0 | 1:
                buffer[:size] = expected[area] = rng.randbytes(size)
                assert os.pwritev(fd, [memoryview(buffer)[:size]], start) == size
            case 2 | 3:
                assert os.preadv(fd, [memoryview(buffer)[:size]], start) == size
                assert buffer[:size] == expected[area], (start, size)
            case _:
                zero(fd, start, size)
                expected[area] = bytes(size)
    os.close(fd)
    detach(attached, force=False)
    assert served.counters().errors == 0
    served.end()
    served.start()
    attached = served.attach(sector=512, read_only=True)
    assert node(attached).read_bytes() == expected


# --- what it refuses


def test_a_mounted_device_is_kept_without_force_and_detached_with_it(served: EnclaveBench) -> None:
    attached = served.attach()
    run("mkfs.ext4", "-q", node(attached))
    point = served.mount(attached)
    (point / "file").write_bytes(b"kept")
    with pytest.raises(MountedError, match=str(point)):
        detach(attached, force=False)
    assert (point / "file").read_bytes() == b"kept"
    check_left(served, attached, detach(attached, force=True), mounted=True)


def test_a_busy_file_system_is_cut_off_by_force_after_it_was_written_back(
    served: EnclaveBench,
) -> None:
    attached = served.attach()
    run("mkfs.ext4", "-q", node(attached))
    point = served.mount(attached)
    with (point / "file").open("wb", buffering=0) as file:
        file.write(b"written")
        assert detach(attached, force=True) == (str(point),)
        wait_for(lambda: served.counters().connections == 0, "the threads' end")
        with pytest.raises(OSError, match=r"Input/output|Read-only|not connected"):
            write_through(file.fileno(), b"x" * 8192)
    served.ended(attached, point)
    served.end()
    served.start()
    served.mount(served.attach())
    assert (point / "file").read_bytes().startswith(b"written")
    run("umount", point)


def write_through(fd: int, data: bytes) -> None:
    os.write(fd, data)
    os.fsync(fd)


def test_missing_parts_have_their_own_errors(
    served: EnclaveBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CONTROL", tmp_path / "loop-control")
        with pytest.raises(NoLoopError, match="loop-control"):
            served.attach()
    with monkeypatch.context() as patch:
        patch.setattr(fuse, "FUSE_NODE", tmp_path / "fuse")
        with pytest.raises(NoFuseError, match="is missing"):
            served.attach()
    # What is mounted already, and fails then, is gone too; nbdfuse is not missed.
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        patch.setattr(loop, "_CONFIGURE", 0)
        with pytest.raises(PlatformError, match="cannot be bound"):
            served.attach()
    assert served.leftovers() == []


# --- an enclave that dies or hangs


@pytest.mark.parametrize("mounted", [True, False])
def test_a_dead_enclave_gives_errors_and_does_not_hang(
    served: EnclaveBench, *, mounted: bool
) -> None:
    attached = served.attach()
    served.dirty(attached, mounted=mounted)
    served.signal(signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(MountedError if mounted else DiskError):
        detach(attached, force=False)
    left = detach(attached, force=True)
    assert time.monotonic() - began < 10
    check_left(served, attached, left, mounted=mounted)


@pytest.mark.slow
@pytest.mark.parametrize("mounted", [True, False])
def test_a_hanging_enclave_is_cut_off_by_force_in_bounded_time(
    served: EnclaveBench, monkeypatch: pytest.MonkeyPatch, *, mounted: bool
) -> None:
    monkeypatch.setattr("strongroom.host.attach.detaching._FLUSH_SECONDS", 1.0)
    attached = served.attach()
    served.dirty(attached, mounted=mounted)
    served.signal(signal.SIGSTOP)
    if not mounted:
        with pytest.raises(DiskError, match="was not flushed"):
            detach(attached, force=False)
    began = time.monotonic()
    left = detach(attached, force=True, flush_seconds=1.0)
    assert time.monotonic() - began < 12
    check_left(served, attached, left, mounted=mounted)


def test_a_volume_that_was_detached_can_be_attached_again_by_another_enclave(
    served: EnclaveBench,
) -> None:
    attached = served.attach()
    record = attached.record
    detach(attached, force=False)
    assert clean_stale(record) == ()
    served.end()
    served.start()
    again = served.attach()
    assert clean_stale(record) == ()
    assert loop.is_bound(node(again))
    assert find_orphans(served.runtime.parent, served.devices, live=frozenset({"vol"})) == ()

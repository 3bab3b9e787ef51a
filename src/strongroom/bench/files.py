# SPDX-License-Identifier: Apache-2.0
"""Mounted file systems and block devices, side by side."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.bench.clients import dd, fio, hdparm, size_name, timed
from strongroom.bench.comparison import Comparison
from strongroom.bench.place import PACKAGES, Place, find, require, require_root
from strongroom.bench.servers import OURS, make_plain, make_volume, opened
from strongroom.errors import UnavailableError
from strongroom.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strongroom.bench.run import Run

GOCRYPTFS: Final = "gocryptfs"
LOOP: Final = "plain loop"
DD_MIB: Final = 100
DD_DEVICE_BYTES: Final = 256 * MIB
"""What dd writes fits in it, and hdparm has enough to read."""
MKFS: Final = ("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")
"""Nothing is left for the kernel to do later, and the image keeps the space that it has."""
RANDOM_FILE: Final = ("--ioengine=libaio", "--direct=1", "--iodepth=16", "--norandommap")
WHOLE_FILE: Final = ("--ioengine=psync", "--bs=1M", "--fallocate=none")
WRITE: Final = "write and fsync"
READ: Final = "read, not cached"


@dataclass(frozen=True, slots=True)
class Block:
    """A block device."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system that is mounted, and the device below it if there is one."""

    name: str
    point: Path
    device: Path | None


def file_system(run: Run) -> Iterator[Comparison]:
    """Files on ext4 on the device that we attach, on ext4 on a plain loop device, on gocryptfs."""
    require("fio")
    with mounted(run, run.size_bytes) as places:
        run.expect(4 * len(places) * run.rounds)
        size = run.size_bytes // 2
        for verb in (WRITE, READ):
            measure = f"one file of {size_name(size)}, {verb}"
            actions = {one.name: partial(whole_file, run, one, verb, size) for one in places}
            yield Comparison(run.group, measure, "GB/s", run.in_turn(actions))
        for pattern in ("randread", "randwrite"):
            measure = f"4 KiB random {pattern.removeprefix('rand')} in it, QD 16, O_DIRECT"
            actions = {one.name: partial(random_in_file, run, one, pattern) for one in places}
            yield Comparison(run.group, measure, "GB/s", run.in_turn(actions))


def whole_file(run: Run, where: Mounted, verb: str, size_bytes: int) -> float:
    """Write a file anew and make it durable, or read it; return GB/s.

    fio drops the file from the cache of its own file system first.
    """
    path = where.point / "file"
    how: tuple[str, ...] = ("--rw=read",)
    if verb == WRITE:
        path.unlink(missing_ok=True)
        how = ("--rw=write", "--end_fsync=1")
    options = (*WHOLE_FILE, *how, f"--filename={path}", f"--size={size_bytes}", "--name=job")
    return fio(run.place, *options).gigabytes_per_second


def random_in_file(run: Run, where: Mounted, pattern: str) -> float:
    """Read or write anywhere in the file, past the cache; return GB/s."""
    path = where.point / "file"
    options = (*RANDOM_FILE, f"--rw={pattern}", "--bs=4k", *timed(run.seconds))
    target = (f"--filename={path}", f"--size={path.stat().st_size}", "--name=job")
    return fio(run.place, *options, *target).gigabytes_per_second


def device(run: Run) -> Iterator[Comparison]:
    """``dd`` with fdatasync on mounted file systems, ``hdparm -t`` and ``-T`` on devices."""
    require("dd")
    with mounted(run, max(run.size_bytes, DD_DEVICE_BYTES)) as places:
        run.expect(3 * len(places) * run.rounds)
        yield from dd_and_hdparm(run, places)


def dd_and_hdparm(run: Run, places: Sequence[Mounted]) -> Iterator[Comparison]:
    """Measure what is mounted as the old prototypes were."""
    actions = {one.name: partial(dd_once, run.place, one) for one in places}
    measure = f"dd bs=1M count={DD_MIB} conv=fdatasync"
    yield Comparison(run.group, measure, "GB/s", run.in_turn(actions))
    if find("hdparm") is None:
        run.leave_out("hdparm", "it is not installed", "apt-get install hdparm")
        return
    for option, what in (("-t", "from the device"), ("-T", "from the cache")):
        readings = {
            one.name: partial(hdparm, run.place, option, one.device)
            for one in places
            if one.device is not None
        }
        yield Comparison(run.group, f"hdparm {option}, {what}", "GB/s", run.in_turn(readings))


def dd_once(place: Place, where: Mounted) -> float:
    """Write a file as the old prototypes' measurements did."""
    path = where.point / "dd"
    try:
        return dd(place, path, mib=DD_MIB)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def mounted(run: Run, size_bytes: int) -> Iterator[Sequence[Mounted]]:
    """Hold all file systems that can be had; ours, the first, must be among them.

    Raises:
        NoPermissionError: The caller is not root.
        UnavailableError: There is no way to attach and mount here.
    """
    require_root()
    require("mkfs.ext4")
    if not Path("/dev/loop-control").exists():
        raise UnavailableError("there are no loop devices", hint="modprobe loop")
    with ExitStack() as stack:
        blocks = [stack.enter_context(our_device(run.place, size_bytes))]
        blocks.append(stack.enter_context(loop_device(run.place, LOOP, size_bytes)))
        places = [stack.enter_context(ext4_mounted(run.place, block)) for block in blocks]
        if find(GOCRYPTFS) is None:
            hint = f"apt-get install {PACKAGES[GOCRYPTFS]}"
            run.leave_out(GOCRYPTFS, "it is not installed", hint)
        else:
            places.append(stack.enter_context(gocryptfs_mounted(run.place)))
        yield places


@contextmanager
def ext4_mounted(place: Place, block: Block) -> Iterator[Mounted]:
    """Make a file system on a device and mount it."""
    point = place.directory(f"on-{block.path.name}")
    place.run(*MKFS, block.path)
    try:
        place.run("mount", block.path, point)
        yield Mounted(block.name, point, block.path)
    finally:
        unmount(place, point)


@contextmanager
def our_device(place: Place, size_bytes: int) -> Iterator[Block]:
    """Hold a volume of ours open as a block device."""
    image = place.images / f"{place.root.name}.img"
    make_volume(place, image, size_bytes)
    # The name is part of a path in /dev, which the volumes of others share.
    with opened(place, image, image.stem, "--attach", "auto") as facts:
        yield Block(f"{OURS}, {facts['attach']}", Path(facts["device"]))
    image.unlink()


@contextmanager
def loop_device(place: Place, name: str, size_bytes: int) -> Iterator[Block]:
    """Hold a loop device on a file, without encryption."""
    image = place.images / f"{name.replace(' ', '-')}.img"
    make_plain(place, image, size_bytes)
    made = Path(place.run("losetup", "--find", "--show", image).stdout.strip())
    try:
        yield Block(name, made)
    finally:
        place.run("losetup", "--detach", made, check=False)
        image.unlink()


@contextmanager
def gocryptfs_mounted(place: Place) -> Iterator[Mounted]:
    """Mount gocryptfs; its scrypt is as cheap as it can be."""
    store, point = place.images / "store", place.directory("theirs")
    store.mkdir()
    key = ("-q", "-passfile", place.key_file)
    place.run("gocryptfs", "-init", "-scryptn", "10", *key, store)
    try:
        place.run("gocryptfs", *key, store, point)
        yield Mounted(GOCRYPTFS, point, None)
    finally:
        unmount(place, point)


def unmount(place: Place, point: Path) -> None:
    """Unmount if it is mounted; what is still in use goes when it no longer is."""
    if point.is_mount() and place.run("umount", point, check=False).returncode:
        place.run("umount", "--lazy", point, check=False)
    point.rmdir()

# SPDX-License-Identifier: Apache-2.0
"""``--direct``: the image stays out of the page cache, and nothing else is different."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require, require_fuse, require_root, require_tools
from tests.harness import Operator
from tests.interop.nbd import tools

pytestmark = pytest.mark.system

MIB: Final = 1 << 20
DATA_BYTES: Final = 64 * MIB
HEADER_BYTES: Final = 16 * MIB
"""What lies before the data is read as ever."""
USAGE, UNAVAILABLE = 2, 50


@pytest.fixture
def image(operator: Operator) -> Path:
    """Return a volume on a file system that has direct I/O, which the page cache has nothing of."""
    require_tools("nbdcopy", "fincore")
    path = operator.place / "image"
    operator.format(path, size="80M")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as err:
        require(condition=False, reason=f"no direct I/O in {operator.place}: {err.strerror}")
    forget(path)
    return path


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_bytes(operator: Operator, path: Path) -> int:
    """Return how much of a file the page cache has."""
    return int(operator.run("fincore", "-b", "-n", "-o", "RES", path).stdout)


def random_file(operator: Operator) -> Path:
    """Return a file as large as the volume's data."""
    path = operator.place / "plain"
    path.write_bytes(random.Random(5).randbytes(DATA_BYTES))
    return path


def test_the_page_cache_has_nothing_of_the_image(operator: Operator, image: Path) -> None:
    kind = operator.run("stat", "-f", "-c", "%T", image).stdout.strip()
    require(condition=kind != "tmpfs", reason="a tmpfs is nothing but page cache")
    plain, back = random_file(operator), operator.place / "back"
    with operator.opened(image, "direct", "--direct") as facts:
        assert operator.facts("status", "direct")["direct"] is True
        assert ", direct" in operator.strongroom("status", "direct").stdout
        operator.run("nbdcopy", "--flush", plain, str(facts["uri"]))
        operator.run("nbdcopy", str(facts["uri"]), back)
        assert cached_bytes(operator, image) <= HEADER_BYTES
    assert back.read_bytes() == plain.read_bytes()

    forget(image)
    with operator.opened(image, "buffered") as facts:
        assert operator.facts("status", "buffered")["direct"] is False
        operator.run("nbdcopy", str(facts["uri"]), back)
        assert cached_bytes(operator, image) > HEADER_BYTES + DATA_BYTES // 2
        assert back.read_bytes() == plain.read_bytes()
        # What lies in the page cache by now is no obstacle, and is not what is read later.
        changed = plain.read_bytes()[::-1]
        plain.write_bytes(changed)
        operator.run("nbdcopy", plain, str(facts["uri"]))
    with operator.opened(image, "direct", "--direct", "--read-only") as facts:
        operator.run("nbdcopy", str(facts["uri"]), back)
    assert back.read_bytes() == changed


def test_clients_of_all_kinds(operator: Operator, image: Path) -> None:
    require_tools("qemu-io", "fio", tools.SYSTEM_PYTHON)
    with operator.opened(image, "direct", "--direct") as facts:
        uri, size_bytes = str(facts["uri"]), int(facts["size_bytes"])
        tools.check_qemu_io(uri)
        tools.check_libnbd(uri, "odd")
        tools.check_libnbd(uri, "model", "4096", "2000")
        tools.check_fio(uri, size_bytes=size_bytes, jobs=4)
        assert operator.facts("status", "direct")["counters"]["errors"] == 0


def test_a_file_system_on_it(operator: Operator, image: Path) -> None:
    require_root()
    require_fuse()
    point = operator.place / "mnt"
    point.mkdir()
    content = random.Random(7).randbytes(5 * MIB + 77)
    with operator.opened(image, "direct", "--direct", "--attach", "fuse") as facts:
        operator.run("mkfs.ext4", "-q", str(facts["device"]))
        operator.run("mount", str(facts["device"]), point)
        (point / "file").write_bytes(content)
        operator.run("umount", point)
        assert cached_bytes(operator, image) <= HEADER_BYTES
    with operator.opened(image, "buffered", "--attach", "fuse") as facts:
        operator.run("e2fsck", "-fn", str(facts["device"]))
        operator.run("mount", "-o", "ro", str(facts["device"]), point)
        assert (point / "file").read_bytes() == content
        operator.run("umount", point)


def refused(operator: Operator, image: Path, *options: str) -> tuple[int, str]:
    """Open with ``--direct``, which does not work; return the exit code and what was said."""
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    done = operator.strongroom("open", image, "d", "--direct", *key, *options, check=False)
    assert not operator.facts("list")
    return done.returncode, done.stderr


@pytest.mark.parametrize("boundary", ["stdio", "tcp"])
def test_it_needs_an_enclave_that_takes_descriptors(
    operator: Operator, image: Path, boundary: str
) -> None:
    code, said = refused(operator, image, "--boundary", boundary)
    assert code == USAGE
    assert "hint: leave out --direct" in said


@contextlib.contextmanager
def ramfs(operator: Operator) -> Iterator[Path]:
    """Mount a file system without direct I/O."""
    point = operator.place / "ramfs"
    point.mkdir()
    operator.run("mount", "-t", "ramfs", "none", point)
    try:
        yield point
    finally:
        operator.run("umount", "-l", point)


def test_a_file_system_without_direct_transfers(operator: Operator) -> None:
    require_root()
    with ramfs(operator) as point:
        path = point / "image"
        operator.format(path, size="20M")
        code, said = refused(operator, path)
        assert code == UNAVAILABLE
        assert f"the file system of {path} has no direct I/O" in said
        assert "hint: open it without --direct" in said
        with operator.opened(path, "buffered"):
            pass


@contextlib.contextmanager
def loop_device(operator: Operator, file: Path) -> Iterator[Path]:
    """Make a block device with blocks of 4096 bytes."""
    options = ("--find", "--show", "--sector-size", "4096")
    device = operator.run("losetup", *options, file).stdout.strip()
    try:
        yield Path(device)
    finally:
        operator.run("losetup", "--detach", device)


def test_a_device_with_blocks_larger_than_sectors(operator: Operator, image: Path) -> None:
    require_root()
    require_tools("losetup")
    small = operator.place / "small"
    operator.format(small, "--sector-size", "512", size="20M")
    with loop_device(operator, small) as device:
        code, said = refused(operator, device)
        assert code == UNAVAILABLE
        assert "does not take direct transfers of 512 bytes" in said
    with loop_device(operator, image) as device, operator.opened(device, "d", "--direct") as facts:
        operator.run("nbdcopy", random_file(operator), str(facts["uri"]))

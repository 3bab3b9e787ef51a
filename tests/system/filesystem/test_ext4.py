# SPDX-License-Identifier: Apache-2.0
"""A real file system with real files on the device of an open volume."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse, require_tools
from tests.harness import Operator

pytestmark = pytest.mark.system

NAME: Final = "filesystem"
MIB: Final = 1024 * 1024
SECTORS: Final = (512, 4096)
REAL_FILES: Final = (Path("/usr/lib/python3"), Path("/usr/share/doc"), Path("/etc"))
FILES: Final = 1500
LARGEST_FILE_BYTES: Final = 256 * 1024
CHANGED: Final = ("written_bytes", "writes", "flushes", "trims", "zeroes")


@dataclass(frozen=True, slots=True)
class Vault:
    """A volume, and where its device and its file system show."""

    operator: Operator
    image: Path
    mount_point: Path

    @contextlib.contextmanager
    def opened(self, *options: str) -> Iterator[Path]:
        """Give the device of the open volume."""
        with self.operator.opened(self.image, NAME, "--attach", "fuse", *options) as facts:
            assert facts["attach"] == "fuse"
            yield Path(facts["device"])

    @contextlib.contextmanager
    def mounted(self, device: Path) -> Iterator[Path]:
        """Give the mounted file system."""
        self.mount_point.mkdir(exist_ok=True)
        self.operator.run("mount", device, self.mount_point)
        try:
            yield self.mount_point
        finally:
            self.operator.run("umount", self.mount_point)

    def counters(self) -> dict[str, int]:
        """What the volume has done since it was opened."""
        found: dict[str, int] = self.operator.facts("status", NAME)["counters"]
        return found


def vault(operator: Operator, sector: int) -> Vault:
    """Make a volume of 112 MiB."""
    require_fuse()
    require_tools("mkfs.ext4", "e2fsck", "fstrim", "blkdiscard", "blockdev")
    image = operator.place / "image"
    operator.format(image, "--sector-size", str(sector), size="128M")
    return Vault(operator, image, operator.place / "mounted")


def real_files() -> list[Path]:
    """Return files of this machine, of many sizes."""
    found = (
        path
        for root in REAL_FILES
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    )
    small = (path for path in found if path.stat().st_size <= LARGEST_FILE_BYTES)
    return list(islice(small, FILES))


def copy(files: list[Path], directory: Path) -> dict[Path, str]:
    """Copy files below a directory; return the digest of each original."""
    digests = {}
    for file in files:
        target = directory / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        digests[target.relative_to(directory)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def digests_below(directory: Path) -> dict[Path, str]:
    """Return the digest of every file."""
    return {
        path.relative_to(directory): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def allocated(image: Path) -> int:
    """Return how much of an image its file system stores, in bytes."""
    return image.stat().st_blocks * 512


@pytest.mark.parametrize("sector", SECTORS)
def test_real_files_survive_closing(operator: Operator, sector: int) -> None:
    volume = vault(operator, sector)
    files = real_files()
    assert len(files) > FILES // 2
    with volume.opened() as device:
        assert operator.run("blockdev", "--getss", device).stdout.strip() == str(sector)
        operator.run("mkfs.ext4", "-q", device)
        with volume.mounted(device) as place:
            expected = copy(files, place)
        operator.run("e2fsck", "-f", "-n", device)
        operator.close(NAME)
    with volume.opened() as device:
        operator.run("e2fsck", "-f", "-n", device)
        with volume.mounted(device) as place:
            assert digests_below(place) == expected
        operator.close(NAME)
    with volume.opened("--read-only") as device:
        assert operator.run("blockdev", "--getro", device).stdout.strip() == "1"
        operator.run("e2fsck", "-f", "-n", device)


@pytest.mark.parametrize("sector", SECTORS)
def test_a_flush_of_the_file_reaches_the_image(operator: Operator, sector: int) -> None:
    volume = vault(operator, sector)
    with volume.opened() as device:
        operator.run("mkfs.ext4", "-q", device)
        with volume.mounted(device) as place:
            os.sync()
            before = volume.counters()
            data = os.urandom(MIB)
            with (place / "file").open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            after = volume.counters()
            assert after["flushes"] > before["flushes"]
            assert after["written_bytes"] - before["written_bytes"] >= MIB
        before = volume.counters()
        with device.open("r+b", buffering=0) as raw:
            raw.write(bytes(4096))
        operator.run("blockdev", "--flushbufs", device)
        assert volume.counters()["writes"] > before["writes"]


@pytest.mark.parametrize("options", [(), ("--discard",)], ids=["plain", "discard"])
def test_discards_are_not_taken_for_zeroes(operator: Operator, options: tuple[str, ...]) -> None:
    """From the loop device they look the same, so neither is a hole in the image."""
    volume = vault(operator, 4096)
    with volume.opened(*options) as device:
        operator.run("mkfs.ext4", "-q", device)
        with volume.mounted(device) as place:
            os.sync()
            full = allocated(volume.image)
            refused = operator.run("fstrim", place, check=False)
            assert refused.returncode == 1
            assert "not supported" in refused.stderr
            os.sync()
            assert allocated(volume.image) == full
        operator.run("e2fsck", "-f", "-n", device)


@pytest.mark.parametrize("sector", SECTORS)
def test_blkdiscard_zeroes_the_device(operator: Operator, sector: int) -> None:
    volume = vault(operator, sector)
    with volume.opened() as device:
        size = int(operator.run("blockdev", "--getsize64", device).stdout)
        with device.open("r+b", buffering=0) as raw:
            raw.write(os.urandom(4 * MIB))
            os.fsync(raw.fileno())
        start, length = MIB, 2 * MIB
        kept = device.read_bytes()
        operator.run("blkdiscard", "-z", "-o", str(start), "-l", str(length), device)
        expected = kept[:start] + bytes(length) + kept[start + length :]
        assert device.read_bytes() == expected
        operator.run("blkdiscard", "-z", device)
        assert device.read_bytes() == bytes(size)
        operator.close(NAME)
    with volume.opened("--read-only") as device:
        assert device.read_bytes() == bytes(size)

# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import AlreadyOpenError, MountedError, NoSpaceError, TargetInUseError
from strongroom.host.target import (
    HeaderLock,
    OpenLock,
    create_image,
    open_image,
)
from tests.targets import ensure_formattable, ensure_free, signatures

from .conftest import require, run, wait_for

pytestmark = pytest.mark.system

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    require("losetup", "mkfs.ext4", nodes=("/dev/loop-control",))
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, 32 << 20)
    return path


@pytest.fixture
def device(image: Path) -> Iterator[Path]:
    path = Path(run("losetup", "--find", "--show", image).strip())
    yield path
    run("losetup", "--detach", path)


@pytest.fixture
def mounted(device: Path, tmp_path: Path) -> Iterator[Path]:
    run("mkfs.ext4", "-q", device)
    point = tmp_path / "a mount"
    point.mkdir()
    run("mount", device, point)
    yield point
    run("umount", point)


@pytest.fixture
def luks(image: Path) -> Path:
    require("cryptsetup")
    options = (
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "/etc/hostname",
    )
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *options, image)
    return image


def test_a_file_under_a_loop_device_is_in_use(image: Path, device: Path) -> None:
    with pytest.raises(MountedError, match=str(device)):
        ensure_formattable(image, force=True)


def test_a_mounted_device_and_its_file_are_in_use_and_say_where(
    image: Path, device: Path, mounted: Path
) -> None:
    for target in (image, device):
        with pytest.raises(MountedError, match=str(mounted)):
            ensure_formattable(target, force=True)


def test_a_device_that_is_mounted_where_we_cannot_see_is_in_use(
    device: Path, tmp_path: Path
) -> None:
    require("unshare")
    run("mkfs.ext4", "-q", device)
    ready = tmp_path / "ready"
    script = f"mount {device} /mnt && touch {ready} && exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script]) as other:
        try:
            wait_for(ready.exists, "the mount")
            with pytest.raises(MountedError, match="another mount namespace"):
                ensure_free(device)
        finally:
            other.kill()
    wait_for(lambda: is_free(device), "the end of the mount")


def test_a_swap_file_is_in_use(image: Path) -> None:
    require("mkswap", "swapon")
    image.write_bytes(bytes(8 << 20))
    image.chmod(0o600)
    run("mkswap", image)
    assert "swap" in signatures(image)
    with pytest.raises(TargetInUseError, match="swap"):
        ensure_formattable(image, force=False)
    started = subprocess.run(["swapon", str(image)], check=False, capture_output=True, text=True)
    if started.returncode != 0:
        pytest.skip(f"this kernel does not swap here: {started.stderr}")
    try:
        with pytest.raises(MountedError, match="swap on"):
            ensure_formattable(image, force=True)
    finally:
        run("swapoff", image)


def test_a_free_device_with_a_file_system_needs_force(device: Path) -> None:
    run("mkfs.ext4", "-q", device)
    assert signatures(device) == ("ext4",)
    with pytest.raises(TargetInUseError, match="ext4"):
        ensure_formattable(device, force=False)
    ensure_formattable(device, force=True)


def test_cryptsetup_waits_for_our_header_lock_but_not_for_the_open_lock(luks: Path) -> None:
    dump = ["cryptsetup", "luksDump", str(luks)]
    fd = open_image(luks, read_only=False)
    OpenLock(fd, path=luks, read_only=False)
    run(*dump)
    with HeaderLock(fd, path=luks), subprocess.Popen(dump, stdout=subprocess.DEVNULL) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        os.kill(waiting.pid, signal.SIGKILL)
    run(*dump)
    os.close(fd)


def test_on_a_block_device_the_lock_is_cryptsetups_lock_file(luks: Path) -> None:
    path = Path(run("losetup", "--find", "--show", luks).strip())
    dump = ["cryptsetup", "luksDump", str(path)]
    number = path.stat().st_rdev
    lock_file = Path(f"/run/cryptsetup/L_{os.major(number)}:{os.minor(number)}")
    fd = open_image(path, read_only=True)
    try:
        with HeaderLock(fd, path=path):
            assert lock_file.exists()
            with pytest.raises(AlreadyOpenError):
                HeaderLock(fd, path=path, wait_seconds=0.05)
            with subprocess.Popen(dump, stdout=subprocess.DEVNULL) as waiting:
                with pytest.raises(subprocess.TimeoutExpired):
                    waiting.wait(0.5)
                os.kill(waiting.pid, signal.SIGKILL)
        assert not lock_file.exists()
        run(*dump)
    finally:
        os.close(fd)
        run("losetup", "--detach", path)


def test_a_full_file_system_is_no_space_and_stays_clean(tmp_path: Path) -> None:
    require("mount")
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path)
    try:
        with pytest.raises(NoSpaceError), create_image(tmp_path / "new", 8 << 20, sparse=False):
            pass
        assert list(tmp_path.iterdir()) == []
        with create_image(tmp_path / "new", 8 << 20, sparse=True):
            pass
        assert (tmp_path / "new").stat().st_size == 8 << 20
    finally:
        run("umount", tmp_path)


def test_a_kill_while_an_image_is_made_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path\n"
        "from strongroom.host.target import create_image\n"
        f"with create_image(Path({str(tmp_path / 'new')!r}), 8 << 20, sparse=False):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", script], check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def is_free(device: Path) -> bool:
    try:
        ensure_free(device)
    except MountedError:
        return False
    return True

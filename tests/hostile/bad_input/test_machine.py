# SPDX-License-Identifier: Apache-2.0
"""Targets that hold data or are in use, and machines that lack room, rights or devices."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require, require_root, require_tools
from tests.harness import CHEAP_KDF, STRONGROOM
from tests.hostile.bad_input.scene import DATA_OFFSET, MIB, NONE, Scene

pytestmark = pytest.mark.hostile

Opening = tuple[str | Path, ...]
RACES: Final = 10
NOBODY: Final = 65534


def formatting(scene: Scene, image: Path, *options: str) -> tuple[str | Path, ...]:
    key = ("--no-recovery", "--passphrase-file", scene.operator.passphrase_file)
    return ("format", image, *options, *CHEAP_KDF, *key)


# --- the target holds data --------------------------------------------------------------------


HOLDS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "ext4": (("mkfs.ext4", "-q", "-F", "TARGET"), "ext4"),
    "swap": (("mkswap", "-q", "TARGET"), "swap"),
    "partition table": (("sfdisk", "-q", "TARGET"), "dos|gpt"),
    "LUKS": (
        *(("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "TARGET", "KEY"),),
        "crypto_LUKS",
    ),
}


@pytest.mark.parametrize(("maker", "says"), HOLDS.values(), ids=HOLDS.keys())
def test_the_target_holds_data(scene: Scene, maker: tuple[str, ...], says: str) -> None:
    require_tools(maker[0], "wipefs")
    target = scene.path("target", bytes(32 * MIB))
    places = {"TARGET": str(target), "KEY": str(scene.operator.key_file)}
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000") if "KEY" in maker else ()
    words = [places.get(word, word) for word in maker]
    scene.operator.run(*words, *cheap, stdin=",,L\n" if maker[0] == "sfdisk" else None)
    done = scene.refuses(*formatting(scene, target), code=41, says=says)
    assert "--force" in done.stderr


def test_the_target_is_one_of_our_volumes(scene: Scene) -> None:
    scene.refuses(*formatting(scene, scene.image), code=41, says="holds crypto_LUKS")


def test_the_target_exists_and_a_size_was_given(scene: Scene) -> None:
    words = formatting(scene, scene.image, "--size", "32M")
    scene.refuses(*words, code=41, says="exists already")


@pytest.mark.parametrize(("kind", "code"), [("recovery key", 2), ("backup", 41)])
def test_an_output_file_exists(scene: Scene, kind: str, code: int) -> None:
    existing = scene.path("existing", b"precious")
    words: tuple[str | Path, ...] = ("header", "backup", scene.image, existing)
    if kind == "recovery key":
        key = ("--passphrase-file", scene.operator.passphrase_file)
        target = ("format", scene.path("new.img"), "--size", "32M", *CHEAP_KDF)
        words = (*target, "--recovery-key-file", existing, *key)
    scene.refuses(*words, code=code, says="exists")


# --- mounted or open --------------------------------------------------------------------------


def test_open_already(scene: Scene, opening: Opening) -> None:
    with scene.operator.opened(scene.image, "v"):
        for words in (
            opening,
            (*opening[:2], "w", *opening[3:]),
            (*opening[:2], "w", *opening[3:], "--read-only"),
            formatting(scene, scene.image, "--force"),
        ):
            before = scene.state()
            done = scene.operator.strongroom(*words, check=False)
            assert done.returncode == 43, done.stderr
            assert "open already" in done.stderr
            assert scene.state() == before
        assert [item.name for item in scene.operator.runtime.iterdir() if item.is_dir()] == ["v"]
    scene.nothing_is_left()


def test_two_readers_share_a_volume_and_a_writer_waits(scene: Scene, opening: Opening) -> None:
    with scene.operator.opened(scene.image, "v", "--read-only"):
        scene.operator.open(scene.image, "w", "--read-only")
        done = scene.operator.strongroom(*opening[:2], "x", *opening[3:], check=False)
        assert done.returncode == 43
        scene.operator.close("w")
    scene.nothing_is_left()


@pytest.mark.parametrize("names", [("v", "v"), ("v", "w")], ids=["one name", "two names"])
def test_of_two_opens_at_once_one_wins(
    scene: Scene, opening: Opening, names: tuple[str, str]
) -> None:
    environment = {**os.environ, "STRONGROOM_RUNTIME_DIR": str(scene.operator.runtime)}
    for _ in range(RACES // 2):
        racers = [
            subprocess.Popen(
                [str(STRONGROOM), *map(str, (*opening[:2], name, *opening[3:])), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for name in names
        ]
        outputs = [racer.communicate(timeout=60) for racer in racers]
        codes = [racer.returncode for racer in racers]
        assert sorted(codes) == [0, 43], outputs
        winner = json.loads(outputs[codes.index(0)][0])
        assert [item["name"] for item in listed(scene)] == [winner["name"]]
        scene.operator.close(winner["name"])
        scene.nothing_is_left()


def listed(scene: Scene) -> list[dict[str, object]]:
    result: list[dict[str, object]] = json.loads(scene.operator.strongroom("list", "--json").stdout)
    return result


@pytest.fixture
def mounted(scene: Scene) -> Iterator[Path]:
    """An ext4 image that is mounted through a loop device."""
    require_root()
    require_tools("mkfs.ext4", "mount", "umount")
    image, place = scene.path("mounted.img", bytes(32 * MIB)), scene.path("mnt")
    place.mkdir()
    scene.operator.run("mkfs.ext4", "-q", "-F", image)
    done = scene.operator.run("mount", "-o", "loop,ro", image, place, check=False)
    require(condition=done.returncode == 0, reason=f"no loop mount: {done.stderr}")
    try:
        yield image
    finally:
        scene.operator.run("umount", place)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["politely", "by force"])
def test_the_target_is_mounted(scene: Scene, mounted: Path, force: tuple[str, ...]) -> None:
    words = formatting(scene, mounted, *force)
    done = scene.refuses(*words, code=42, says="mounted.img is")
    assert str(scene.path("mnt")) in done.stderr
    key = ("--passphrase-file", scene.operator.passphrase_file)
    scene.refuses("open", mounted, "v", *NONE, *key, code=42, says="mounted.img is")


# --- room -------------------------------------------------------------------------------------


@pytest.fixture
def small(scene: Scene) -> Iterator[Path]:
    """A file system with room for little."""
    require_root()
    place = scene.path("small")
    place.mkdir()
    scene.operator.run("mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", place)
    try:
        yield place
    finally:
        scene.operator.run("umount", place)


@pytest.mark.parametrize("options", [(), ("--sparse",)], ids=["reserved", "sparse"])
def test_no_space_for_a_volume(scene: Scene, small: Path, options: tuple[str, ...]) -> None:
    words = formatting(scene, small / "new.img", "--size", "32M", *options)
    scene.refuses(*words, code=44, says="[Nn]o space left")
    assert list(small.iterdir()) == []


def test_no_space_for_a_backup(scene: Scene, small: Path) -> None:
    words = ("header", "backup", scene.image, small / "backup")
    scene.refuses(*words, code=44, says="[Nn]o space left")
    assert list(small.iterdir()) == []


def test_no_space_for_a_recovery_key(scene: Scene, small: Path) -> None:
    fill(small / "filling")
    key = ("--passphrase-file", scene.operator.passphrase_file)
    target = ("format", scene.path("new.img"), "--size", "32M", *CHEAP_KDF)
    recovery = ("--recovery-key-file", small / "recovery")
    scene.refuses(*target, *recovery, *key, code=44, says="[Nn]o space left")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return


# --- rights -----------------------------------------------------------------------------------


def test_an_image_on_a_read_only_file_system(scene: Scene, opening: Opening) -> None:
    require_root()
    place = scene.path("read-only")
    place.mkdir()
    moved = place / "vault.img"
    shutil.copyfile(scene.image, moved)
    scene.operator.run("mount", "--bind", "-o", "ro", place, place)
    try:
        words = ("open", moved, *opening[2:])
        scene.refuses(*words, code=48, says="[Rr]ead-only file system")
        scene.refuses(*formatting(scene, moved, "--force"), code=48, says="[Rr]ead-only")
        scene.operator.open(moved, "v", "--read-only")
        scene.operator.close("v")
    finally:
        scene.operator.run("umount", place)


def without(device: str) -> tuple[str, ...]:
    """Return a wrapper that runs a command on a machine that lacks a device."""
    script = f'mount --bind /dev/null {device} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


MISSING: Final = {
    "no FUSE": ("/dev/fuse", 45, "FUSE|fuse"),
    "no loop devices": ("/dev/loop-control", 46, "loop"),
}


@pytest.mark.parametrize(("device", "code", "says"), MISSING.values(), ids=MISSING.keys())
def test_a_machine_that_lacks(
    scene: Scene, opening: Opening, *, device: str, code: int, says: str
) -> None:
    require_root()
    require_tools("unshare")
    require(condition=Path(device).exists(), reason=f"no {device}")
    words = tuple("fuse" if word == "none" else word for word in opening)
    scene.refuses(*words, code=code, says=says, wrapper=without(device))
    words = tuple("auto" if word == "none" else word for word in opening)
    done = scene.operator.run(*without(device), STRONGROOM, *words, "--json", check=False)
    scene.operator.close("v", check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    if facts["attach"] != "nbd":
        assert (facts["attach"], facts["device"]) == ("none", None)
        assert re.search(says, facts["attach_reason"])
    scene.nothing_is_left()


def test_no_kernel_nbd(scene: Scene, opening: Opening) -> None:
    require(condition=not Path("/sys/module/nbd").exists(), reason="this kernel has NBD")
    words = tuple("nbd" if word == "none" else word for word in opening)
    scene.refuses(*words, code=47, says="NBD")


# --- an unprivileged user ---------------------------------------------------------------------


@pytest.fixture
def nobody(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A wrapper that runs a command without any right, in a scene that is its own."""
    require_root()
    require_tools("setpriv")
    for path in (scene.operator.place, *scene.operator.place.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")
    state = tmp_path_factory.mktemp("nobody")
    os.chown(state, NOBODY, NOBODY)
    own_state = ("env", f"STRONGROOM_STATE_DIR={state}")
    wrapper = (*reachable_python(), "setpriv", *ids, "--no-new-privs", *own_state)
    launch = "import subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
    probe = scene.operator.run(*wrapper, sys.executable, "-c", launch, check=False)
    require(condition=probe.returncode == 0, reason=f"nobody cannot run it: {probe.stderr}")
    for parent in scene.operator.place.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o711)
    return wrapper


def reachable_python() -> tuple[str, ...]:
    """Return a wrapper that shows Python to everybody when it lies in a home directory."""
    prefix = Path(sys.base_prefix)
    closed = [parent for parent in prefix.parents if not parent.stat().st_mode & 0o001]
    if not closed:
        return ()
    script = (
        'mount --bind "$1" /mnt && mount -t tmpfs -o mode=755 tmpfs "$2" && mkdir -p "$1" && '
        'mount --bind /mnt "$1" && shift 2 && exec "$@"'
    )
    return ("unshare", "--mount", "sh", "-c", script, "sh", str(prefix), str(closed[-1]))


def test_without_root_everything_but_a_device(scene: Scene, nobody: tuple[str, ...]) -> None:
    operator, image = scene.operator, scene.path("mine.img")
    words = formatting(scene, image, "--size", str(DATA_OFFSET + MIB))
    operator.run(*nobody, STRONGROOM, *words)
    assert image.stat().st_uid == NOBODY
    assert image.stat().st_mode & 0o777 == 0o600
    key = ("--passphrase-file", operator.passphrase_file)
    opened = operator.run(*nobody, STRONGROOM, "open", image, "v", *NONE, *key, "--json")
    uri = json.loads(opened.stdout)["uri"]
    assert operator.run(*nobody, "nbdinfo", "--size", uri).stdout.strip() == str(MIB)
    operator.run(*nobody, STRONGROOM, "close", "v")
    scene.nothing_is_left()


def test_without_root_no_device(scene: Scene, opening: Opening, nobody: tuple[str, ...]) -> None:
    words = tuple("fuse" if word == "none" else word for word in opening)
    recovery = ("--passphrase-file", scene.path("recovery"))
    says = "root|permission|rights"
    scene.refuses(*words, *recovery, code=48, says=says, wrapper=nobody)


def test_an_image_of_somebody_else(scene: Scene, opening: Opening, nobody: tuple[str, ...]) -> None:
    os.chown(scene.image, 0, 0)
    scene.image.chmod(0o600)
    scene.refuses(*opening, code=48, says="no permission to use", wrapper=nobody)


def test_a_runtime_directory_of_somebody_else(
    scene: Scene, opening: Opening, nobody: tuple[str, ...]
) -> None:
    scene.operator.runtime.mkdir(mode=0o755)
    scene.refuses(*opening, code=48, says="belongs to user 0, not to user", wrapper=nobody)


def test_an_image_that_is_only_readable(
    scene: Scene, opening: Opening, nobody: tuple[str, ...]
) -> None:
    scene.image.chmod(0o444)
    scene.refuses(*opening, code=48, says="no permission to use", wrapper=nobody)
    # Of another user: another enclave, so not with the passphrase.
    operator, recovery = scene.operator, ("--passphrase-file", scene.path("recovery"))
    operator.run(*nobody, STRONGROOM, *opening, *recovery, "--read-only")
    operator.run(*nobody, STRONGROOM, "close", "v")
    scene.nothing_is_left()


def test_a_wrong_path_variable_weakens_nothing(scene: Scene) -> None:
    """Without wipefs nobody knows what a target holds, so it is not written."""
    target = scene.path("target", bytes(32 * MIB))
    wrapper = ("env", "PATH=/nonexistent")
    words = formatting(scene, target)
    started = time.monotonic()
    scene.refuses(*words, code=50, says="cannot be found out", wrapper=wrapper)
    assert time.monotonic() - started < 30

# SPDX-License-Identifier: Apache-2.0
"""Headers that go back and forth between us and the installed cryptsetup. No root is needed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from strongroom.luks2 import (
    HEADER_COPY_BYTES,
    LoadedHeader,
    Step,
    WriteAt,
    check_backup,
    commit_steps,
    describe,
    load_header,
    recovery_token,
    repair_steps,
    restore_steps,
    with_token,
    without_keyslot,
)
from strongroom.units import ByteCount

from .forge import committed, fresh

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="cryptsetup is not installed"),
]

IMAGE_BYTES = 20 * 1024 * 1024
PBKDF2 = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


def cryptsetup(*words: str | Path) -> str:
    done = subprocess.run(
        ["cryptsetup", "--batch-mode", *map(str, words)],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(image: Path) -> LoadedHeader:
    with image.open("rb") as file:
        data = file.read(HEADER_COPY_BYTES)
    size = ByteCount(image.stat().st_size)
    return load_header(data, image_size_bytes=size, detached=False)


def write(image: Path, steps: tuple[Step, ...]) -> None:
    with image.open("r+b") as file:
        for step in steps:
            if isinstance(step, WriteAt):
                file.seek(step.offset)
                file.write(step.data)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"interop")
    return path


@pytest.fixture
def image(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    cryptsetup("luksFormat", "--type", "luks2", *PBKDF2, "--key-file", key, path)
    return path


def test_our_edit_is_accepted_and_edited_further(image: Path, key: Path) -> None:
    edited = with_token(load(image).header, recovery_token(0) | {"note": '\u2728 "/\\ \x7f'})
    write(image, commit_steps(edited))
    assert "systemd-recovery" in cryptsetup("luksDump", image)
    cryptsetup("open", "--test-passphrase", "--key-file", key, image)
    cryptsetup("luksAddKey", *PBKDF2, "--key-file", key, image, key)
    after = load(image)
    assert after.broken == ()
    assert after.header.unlock_order() == (0, 1)
    assert after.header.binary.seqid > edited.binary.seqid
    assert json.loads(after.header.metadata.json_text)["tokens"]["0"]["note"] == '\u2728 "/\\ \x7f'
    fewer = without_keyslot(after.header, 0)
    write(image, commit_steps(fewer))
    cryptsetup("open", "--test-passphrase", "--key-slot", "1", "--key-file", key, image)
    assert cryptsetup("luksUUID", image).strip() == fewer.binary.uuid


def test_our_own_header_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "ours"
    header = fresh(keyslots=2, label="ours")
    path.write_bytes(committed(header).ljust(IMAGE_BYTES, b"\0"))
    dump = cryptsetup("luksDump", path)
    assert "argon2id" in dump
    assert header.binary.uuid in dump
    assert json.loads(cryptsetup("luksDump", "--dump-json-metadata", path)) == json.loads(
        header.metadata.json_text
    )
    cryptsetup("config", "--priority", "prefer", "--key-slot", "1", path)
    assert load(path).header.unlock_order() == (1, 0)


@pytest.mark.parametrize("start", [0, 16384])
def test_our_repair_is_accepted(image: Path, start: int) -> None:
    before = load(image).header
    with image.open("r+b") as file:
        file.seek(start)
        file.write(bytes(4096))
    loaded = load(image)
    assert len(loaded.broken) == 1
    write(image, repair_steps(loaded))
    assert load(image).broken == ()
    assert load(image).header.metadata == before.metadata
    assert "wrong" not in cryptsetup("luksDump", "--debug", image).lower()


def test_repair_by_cryptsetup_is_accepted(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(512))
    cryptsetup("repair", image)
    assert load(image).broken == ()


def test_backups_both_ways(image: Path, key: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    cryptsetup("luksHeaderBackup", "--header-backup-file", file, image)
    backup = check_backup(load(image).header, file.read_bytes())
    with image.open("r+b") as disk:
        disk.write(bytes(1024 * 1024))
    write(image, restore_steps(backup))
    cryptsetup("open", "--test-passphrase", "--key-file", key, image)
    assert load(image).header == backup.loaded.header


def test_a_converted_luks1_volume(tmp_path: Path, key: Path) -> None:
    path = tmp_path / "old"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    iterations = ("--pbkdf-force-iterations", "1000")
    cryptsetup("luksFormat", "--type", "luks1", *iterations, "--key-file", key, path)
    cryptsetup("convert", "--type", "luks2", path)
    header = load(path).header
    assert len(header.digests[0].digest) == 20
    write(path, commit_steps(with_token(header, {"type": "x", "keyslots": []})))
    cryptsetup("open", "--test-passphrase", "--key-file", key, path)


def test_describe_agrees_with_luks_dump(image: Path) -> None:
    loaded = load(image)
    facts = describe(loaded.header, loaded=loaded)
    dump = cryptsetup("luksDump", image)
    assert f"Epoch:         \t{facts['seqid']}" in dump
    assert f"UUID:          \t{facts['uuid']}" in dump

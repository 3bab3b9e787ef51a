# SPDX-License-Identifier: Apache-2.0
"""What we write, another reader decrypts; what others encrypt, we decrypt: equal SHA-256."""

import hashlib
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.harness import STOCK, Operator
from tests.interop.cryptsetup.foreign import (
    DATA_BYTES,
    DEFAULT_OFFSET_BYTES,
    MIB,
    OUR_ARGON2_COST,
    Cryptsetup,
    Volume,
    random_file,
    read_through_nbd,
    secret,
    sha256,
    write_through_nbd,
)
from tests.interop.dissect.reader import encrypt_cbc_essiv, encrypt_xts, read_independently

pytestmark = pytest.mark.interop

SECTORS = (512, 1024, 2048, 4096)
KEYS = (256, 512)
IMAGE_SIZE = str(DEFAULT_OFFSET_BYTES + DATA_BYTES)


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("cryptsetup", "nbdcopy")


def place(volume: Volume, data: bytes, *, offset: int) -> None:
    with volume.image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("key_bits", KEYS, ids="key {} bits".format)
@pytest.mark.parametrize("sector", SECTORS, ids="sector {}".format)
def test_it_decrypts_what_we_wrote(operator: Operator, sector: int, key_bits: int) -> None:
    volume = Volume(operator.place / "ours.img")
    options = ("--sector-size", str(sector), "--key-bits", str(key_bits))
    operator.format(volume.image, *STOCK, *options, size=IMAGE_SIZE)
    data = random_file(operator.place / "data", DATA_BYTES, seed=sector + key_bits)
    key = operator.key_file
    write_through_nbd(operator, volume, key, data)
    assert data.read_bytes()[:4096] not in volume.image.read_bytes()
    assert read_independently(volume, key) == sha256(data)
    volume_key = Cryptsetup(operator).volume_key(volume, key)
    with volume.image.open("rb") as image:
        image.seek(DEFAULT_OFFSET_BYTES)
        expected = encrypt_xts(data.read_bytes(), volume_key, sector_bytes=sector)
        assert hashlib.file_digest(image, "sha256").digest() == hashlib.sha256(expected).digest()


@pytest.mark.parametrize("kdf", ["argon2id", "argon2i"])
def test_it_derives_our_keys(operator: Operator, kdf: str) -> None:
    volume = Volume(operator.place / "ours.img")
    operator.format(volume.image, *STOCK, "--kdf", kdf, *OUR_ARGON2_COST, size=IMAGE_SIZE)
    data = random_file(operator.place / "data", DATA_BYTES)
    write_through_nbd(operator, volume, operator.key_file, data)
    assert read_independently(volume, operator.key_file) == sha256(data)


def test_it_opens_with_our_recovery_key_and_without_our_header_in_the_image(
    operator: Operator,
) -> None:
    volume = Volume(operator.place / "ours.img", operator.place / "ours.header")
    recovery = operator.place / "recovery"
    named = ("--header", operator.place / "ours.header", "--recovery-key-file", recovery)
    facts = operator.format(volume.image, *STOCK, *named, size=str(DATA_BYTES))
    data = random_file(operator.place / "data", facts["data_size_bytes"])
    write_through_nbd(operator, volume, recovery, data)
    bare = secret(operator, "recovery", recovery.read_text().rstrip("\n"))
    slot = facts["recovery_keyslot"]
    assert read_independently(volume, bare, keyslot=slot) == sha256(data)
    assert read_independently(volume, operator.key_file, keyslot=0) == sha256(data)


def test_it_decrypts_a_larger_volume(operator: Operator) -> None:
    volume = Volume(operator.place / "ours.img")
    operator.format(volume.image, *STOCK, size="20M")
    data = random_file(operator.place / "data", 4 * MIB)
    write_through_nbd(operator, volume, operator.key_file, data)
    assert read_independently(volume, operator.key_file) == sha256(data)


def test_it_still_reads_after_we_changed_the_keyslots(operator: Operator) -> None:
    volume = Volume(operator.place / "ours.img")
    operator.format(volume.image, *STOCK, size=IMAGE_SIZE)
    data = random_file(operator.place / "data", DATA_BYTES)
    write_through_nbd(operator, volume, operator.key_file, data)
    first, second = operator.key_file, secret(operator, "second", "another one")
    cost = ("--kdf", "pbkdf2", "--kdf-iterations", "1000")
    keys = ("--passphrase-file", first, "--new-passphrase-file", second)
    operator.strongroom("slot", "add", volume.image, "--keyslot", "9", *keys, *cost)
    third = secret(operator, "third", "the third")
    keys = ("--passphrase-file", first, "--new-passphrase-file", third)
    operator.strongroom("slot", "change", volume.image, *keys, *cost)
    assert read_independently(volume, second, keyslot=9) == sha256(data)
    assert read_independently(volume, third, keyslot=0) == sha256(data)


@pytest.mark.parametrize("key_bits", KEYS, ids="key {} bits".format)
@pytest.mark.parametrize("sector", SECTORS, ids="sector {}".format)
def test_we_decrypt_what_others_encrypted(operator: Operator, sector: int, key_bits: int) -> None:
    volume, cryptsetup = Volume(operator.place / "theirs.img"), Cryptsetup(operator)
    key = operator.key_file
    cryptsetup.format(volume, key, "--sector-size", str(sector), "--key-size", str(key_bits))
    data = random_file(operator.place / "data", seed=sector + key_bits)
    volume_key = cryptsetup.volume_key(volume, key)
    assert len(volume_key) * 8 == key_bits
    encrypted = encrypt_xts(data.read_bytes(), volume_key, sector_bytes=sector)
    place(volume, encrypted, offset=DEFAULT_OFFSET_BYTES)
    assert read_independently(volume, key) == sha256(data)
    assert read_through_nbd(operator, volume, key) == sha256(data)


@pytest.mark.parametrize("key_bits", [128, 256], ids="key {} bits".format)
@pytest.mark.parametrize("sector", [512, 4096], ids="sector {}".format)
def test_we_decrypt_cbc_essiv_and_never_write_it(
    operator: Operator, sector: int, key_bits: int
) -> None:
    volume, cryptsetup = Volume(operator.place / "theirs.img"), Cryptsetup(operator)
    key = operator.key_file
    cipher = ("--cipher", "aes-cbc-essiv:sha256", "--key-size", str(key_bits))
    cryptsetup.format(volume, key, *cipher, "--sector-size", str(sector))
    data = random_file(operator.place / "data")
    encrypted = encrypt_cbc_essiv(
        data.read_bytes(), cryptsetup.volume_key(volume, key), sector_bytes=sector
    )
    place(volume, encrypted, offset=DEFAULT_OFFSET_BYTES)
    assert read_independently(volume, key) == sha256(data)
    assert read_through_nbd(operator, volume, key) == sha256(data)
    before = sha256(volume.image)
    done = operator.strongroom(
        *("open", volume.image, "v", "--attach", "none", "--passphrase-file", key), check=False
    )
    assert done.returncode == 15
    assert "aes-cbc-essiv:sha256 is supported for reading only" in done.stderr
    assert sha256(volume.image) == before


def test_the_segments_end_and_first_sector_number_are_respected(
    operator: Operator, tmp_path: Path
) -> None:
    """A volume whose data starts elsewhere and whose sectors are counted from elsewhere."""
    volume, cryptsetup = Volume(tmp_path / "theirs.img"), Cryptsetup(operator)
    key, offset_sectors = operator.key_file, 40960
    cryptsetup.format(volume, key, "--offset", str(offset_sectors), "--sector-size", "512")
    data = random_file(tmp_path / "data", DATA_BYTES)
    volume_key = cryptsetup.volume_key(volume, key)
    encrypted = encrypt_xts(data.read_bytes(), volume_key, sector_bytes=512)
    place(volume, encrypted, offset=offset_sectors * 512)
    assert read_independently(volume, key) == sha256(data)
    assert read_through_nbd(operator, volume, key) == sha256(data)

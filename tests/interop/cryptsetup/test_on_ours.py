# SPDX-License-Identifier: Apache-2.0
"""Stock cryptsetup on volumes that we made: it reads them, opens them and changes their keyslots.

Every change it makes is followed by an open of ours, and every change of ours by one of its own.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.interop.cryptsetup.foreign import (
    DATA_BYTES,
    DEFAULT_OFFSET_BYTES,
    OUR_ARGON2_COST,
    PBKDF2,
    Cryptsetup,
    Volume,
    random_file,
    secret,
    sha256,
    we_open,
    we_refuse,
    write_through_nbd,
)
from tests.interop.dissect.reader import read_independently

pytestmark = pytest.mark.interop

IMAGE_SIZE: Final = str(DEFAULT_OFFSET_BYTES + DATA_BYTES)
RECOVERY: Final = "recovery key"
FORMATS: Final = {
    **{
        f"sector {sector}, key {bits} bits": ("--sector-size", str(sector), "--key-bits", str(bits))
        for sector in (512, 1024, 2048, 4096)
        for bits in (256, 512)
    },
    "argon2id": ("--kdf", "argon2id", *OUR_ARGON2_COST),
    "argon2i": ("--kdf", "argon2i", *OUR_ARGON2_COST),
    "pbkdf2": ("--kdf", "pbkdf2", "--kdf-iterations", "1234"),
    "label": ("--label", "vault \u2728 of ours"),
    "detached header": ("--header",),
    "passphrase and recovery key": (RECOVERY,),
    "detached header and recovery key": ("--header", RECOVERY),
    "all at once": (
        *("--sector-size", "512", "--key-bits", "256", "--label", "all"),
        *("--kdf", "argon2id", *OUR_ARGON2_COST, "--header", RECOVERY),
    ),
}


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("cryptsetup", "nbdcopy")


@pytest.fixture
def cryptsetup(operator: Operator) -> Cryptsetup:
    return Cryptsetup(operator)


def made(operator: Operator, *options: str) -> tuple[Volume, Path | None]:
    """Make a volume of ours; return it and the recovery key, as cryptsetup reads it, if any."""
    header = operator.place / "ours.header" if "--header" in options else None
    volume = Volume(operator.place / "ours.img", header)
    plain = [word for word in options if word not in {"--header", RECOVERY}]
    recovery = operator.place / "recovery"
    wanted = ("--recovery-key-file", recovery) if RECOVERY in options else ()
    size = str(DATA_BYTES) if header else IMAGE_SIZE
    passphrase = ("--factors", "passphrase")
    operator.format(volume.image, *passphrase, *plain, *wanted, *volume.header_option, size=size)
    if not wanted:
        return volume, None
    return volume, secret(operator, "recovery", recovery.read_text().rstrip("\n"))


def option(options: tuple[str, ...], name: str, otherwise: str) -> str:
    return options[options.index(name) + 1] if name in options else otherwise


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_it_describes_and_opens(
    operator: Operator, cryptsetup: Cryptsetup, options: tuple[str, ...]
) -> None:
    volume, recovery = made(operator, *options)
    shown, metadata = cryptsetup.dump(volume), cryptsetup.metadata(volume)
    key_bytes = int(option(options, "--key-bits", "512")) // 8
    segment, keyslot = metadata["segments"]["0"], metadata["keyslots"]["0"]
    assert segment["encryption"] == "aes-xts-plain64"
    assert segment["sector_size"] == int(option(options, "--sector-size", "4096"))
    assert int(segment["offset"]) == (0 if volume.header else DEFAULT_OFFSET_BYTES)
    assert keyslot["kdf"]["type"] == option(options, "--kdf", "pbkdf2")
    assert (keyslot["key_size"], keyslot["area"]["key_size"]) == (key_bytes, key_bytes)
    assert f"Label:         \t{option(options, '--label', '(no label)')}\n" in shown
    assert f"Key:        {key_bytes * 8} bits" in shown

    assert cryptsetup.opens(volume, operator.key_file)
    assert not cryptsetup.opens(volume, secret(operator, "wrong", "not the passphrase"))
    assert len(cryptsetup.volume_key(volume, operator.key_file)) == key_bytes
    if recovery is not None:
        assert cryptsetup.opens(volume, recovery, "--key-slot", "1")
        assert metadata["tokens"]["0"] == {"type": "systemd-recovery", "keyslots": ["1"]}


def test_it_adds_a_key_that_we_open(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, recovery = made(operator, RECOVERY)
    assert recovery is not None
    kinds = {"argon2id": ("5", operator.key_file), "argon2i": ("1", recovery)}
    for kdf, (expected, existing) in {"pbkdf2": ("31", recovery), **kinds}.items():
        added = secret(operator, kdf, f"added with {kdf}")
        cost = PBKDF2 if kdf == "pbkdf2" else ("--pbkdf", kdf, "--pbkdf-force-iterations", "4")
        memory = () if kdf == "pbkdf2" else ("--pbkdf-memory", "64")
        slot = ("--key-slot", expected) if expected != "1" else ("--key-slot", "2")
        named = ("--key-file", existing, volume.image, added)
        cryptsetup.run("luksAddKey", *cost, *memory, *slot, *named)
        assert we_open(operator, volume, added)["keyslot"] == int(slot[1])
    assert we_open(operator, volume, operator.key_file)["keyslot"] == 0
    assert we_open(operator, volume, recovery)["keyslot"] == 1


def test_it_changes_a_key_and_we_open_with_the_new_one(
    operator: Operator, cryptsetup: Cryptsetup
) -> None:
    volume, _ = made(operator)
    new = secret(operator, "new", "changed by cryptsetup")
    named = ("--key-file", operator.key_file, volume.image, new)
    cryptsetup.run("luksChangeKey", *PBKDF2, *named)
    we_open(operator, volume, new)
    we_refuse(operator, volume, operator.key_file)


def test_it_kills_a_keyslot_and_we_no_longer_open_with_it(
    operator: Operator, cryptsetup: Cryptsetup
) -> None:
    volume, recovery = made(operator, RECOVERY)
    assert recovery is not None
    cryptsetup.run("luksKillSlot", "--key-file", recovery, volume.image, "0")
    we_refuse(operator, volume, operator.key_file)
    assert we_open(operator, volume, recovery)["keyslot"] == 1


def test_we_change_keyslots_and_it_follows(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, recovery = made(operator, RECOVERY)
    assert recovery is not None
    first, second = operator.key_file, secret(operator, "second", "the second")
    third = secret(operator, "third", "the third")
    keys = ("--passphrase-file", recovery, "--new-passphrase-file", second)
    argon2 = ("--kdf", "argon2id", *OUR_ARGON2_COST)
    operator.strongroom("slot", "add", volume.image, "--keyslot", "31", *keys, *argon2)
    assert cryptsetup.opens(volume, second, "--key-slot", "31")
    keys = ("--passphrase-file", second, "--new-passphrase-file", third)
    operator.strongroom("slot", "change", volume.image, *keys, *CHEAP_KDF)
    assert cryptsetup.opens(volume, third, "--key-slot", "31")
    assert not cryptsetup.opens(volume, second)
    operator.strongroom(
        *("slot", "remove", volume.image, "--keyslot", "0", "--passphrase-file", third)
    )
    assert not cryptsetup.opens(volume, first)
    assert cryptsetup.opens(volume, recovery)
    assert sorted(cryptsetup.metadata(volume)["keyslots"]) == ["1", "31"]


@pytest.mark.parametrize(
    ("options", "saver", "restorer"),
    [
        pytest.param((), "cryptsetup", "strongroom", id="theirs, restored by us"),
        pytest.param((), "strongroom", "cryptsetup", id="ours, restored by them"),
        pytest.param(("--header",), "cryptsetup", "strongroom", id="detached, theirs, by us"),
        pytest.param(("--header",), "strongroom", "cryptsetup", id="detached, ours, by them"),
    ],
)
def test_header_backups_cross(
    operator: Operator, *, options: tuple[str, ...], saver: str, restorer: str
) -> None:
    cryptsetup, (volume, _) = Cryptsetup(operator), made(operator, *options)
    data = random_file(operator.place / "data")
    write_through_nbd(operator, volume, operator.key_file, data)
    backup = operator.place / "backup"
    if saver == "cryptsetup":
        cryptsetup.run("luksHeaderBackup", volume.metadata_file, "--header-backup-file", backup)
    else:
        operator.strongroom("header", "backup", *volume.header_option, volume.image, backup)
    with volume.metadata_file.open("r+b") as file:
        file.write(bytes(DEFAULT_OFFSET_BYTES))
    assert operator.run("cryptsetup", "isLuks", volume.metadata_file, check=False).returncode
    if restorer == "cryptsetup":
        cryptsetup.run("luksHeaderRestore", volume.metadata_file, "--header-backup-file", backup)
    else:
        operator.strongroom("header", "restore", *volume.header_option, volume.image, backup)
    assert cryptsetup.opens(volume, operator.key_file)
    we_open(operator, volume, operator.key_file)
    assert read_independently(volume, operator.key_file) == sha256(data)


def test_both_make_the_same_backup(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, _ = made(operator, RECOVERY)
    theirs, ours = operator.place / "theirs", operator.place / "ours"
    cryptsetup.run("luksHeaderBackup", volume.image, "--header-backup-file", theirs)
    operator.strongroom("header", "backup", volume.image, ours)
    assert sha256(theirs) == sha256(ours)


def test_its_tokens_outlive_our_changes(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, recovery = made(operator, RECOVERY)
    assert recovery is not None
    foreign = '{"type":"acme-vault","keyslots":["0"],"nested":{"a":[1,"\u00e9",null]},"z":1}'
    cryptsetup.run("token", "import", "--token-id", "7", volume.image, stdin=foreign)
    cryptsetup.run("token", "add", "--key-description", "of tests", volume.image)
    before = cryptsetup.run("token", "export", "--token-id", "7", volume.image)
    second = secret(operator, "second", "the second")
    keys = ("--passphrase-file", recovery, "--new-passphrase-file", second)
    operator.strongroom("slot", "add", volume.image, *keys, *CHEAP_KDF)
    operator.strongroom(
        *("slot", "remove", volume.image, "--keyslot", "2", "--passphrase-file", recovery)
    )
    assert we_open(operator, volume, operator.key_file)["keyslot"] == 0
    assert cryptsetup.run("token", "export", "--token-id", "7", volume.image) == before
    assert cryptsetup.metadata(volume)["tokens"]["1"]["key_description"] == "of tests"

    done = operator.strongroom(
        *("slot", "remove", volume.image, "--keyslot", "0", "--passphrase-file", recovery),
        check=False,
    )
    assert done.returncode == 17
    assert 'token 7 of the unknown type "acme-vault" uses keyslot 0' in done.stderr
    cryptsetup.run("token", "remove", "--token-id", "7", volume.image)
    operator.strongroom(
        *("slot", "remove", volume.image, "--keyslot", "0", "--passphrase-file", recovery)
    )
    assert sorted(cryptsetup.metadata(volume)["keyslots"]) == ["1"]


def test_its_settings_are_respected(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, recovery = made(operator, RECOVERY)
    assert recovery is not None
    cryptsetup.run("config", "--label", "given later", "--subsystem", "tests", volume.image)
    cryptsetup.run("config", "--priority", "ignore", "--key-slot", "0", volume.image)
    assert operator.facts("dump", volume.image)["label"] == "given later"
    we_refuse(operator, volume, operator.key_file)
    we_open(operator, volume, recovery)
    uuid = "01234567-89ab-4cde-8f01-23456789abcd"
    cryptsetup.run("luksUUID", "--uuid", uuid, volume.image)
    assert operator.facts("dump", volume.image)["uuid"] == uuid


def test_it_repairs_nothing_of_ours(operator: Operator, cryptsetup: Cryptsetup) -> None:
    """cryptsetup rewrites a header that it does not like: on ours it finds nothing to do."""
    volume, _ = made(operator, RECOVERY)
    before = sha256(volume.image)
    cryptsetup.run("repair", volume.image)
    assert cryptsetup.opens(volume, operator.key_file)
    assert sha256(volume.image) == before

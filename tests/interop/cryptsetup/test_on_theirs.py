# SPDX-License-Identifier: Apache-2.0
"""Strongroom on volumes that cryptsetup made: it opens them, and what it writes others read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import KeyslotStateError
from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.interop.cryptsetup.foreign import (
    ARGON2_COST,
    PBKDF2,
    Cryptsetup,
    Volume,
    random_file,
    read_through_nbd,
    secret,
    sha256,
    we_open,
    we_refuse,
    write_through_nbd,
)
from tests.interop.dissect.reader import read_independently

pytestmark = pytest.mark.interop

DETACHED: Final = "detached header"
KINDS: Final[dict[str, tuple[str, ...]]] = {
    **{
        f"sector {sector}, key {bits} bits": ("--sector-size", str(sector), "--key-size", str(bits))
        for sector in (512, 1024, 2048, 4096)
        for bits in (256, 512)
    },
    "argon2id": ("--pbkdf", "argon2id", *ARGON2_COST),
    "argon2id, 4 lanes": ("--pbkdf", "argon2id", *ARGON2_COST, "--pbkdf-parallel", "4"),
    "argon2id, 32 KiB": (
        *("--pbkdf", "argon2id", "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4"),
        *("--pbkdf-parallel", "1"),
    ),
    "argon2i": ("--pbkdf", "argon2i", *ARGON2_COST),
    **{f"pbkdf2, {name}": ("--hash", name) for name in ("sha1", "sha256", "sha512")},
    "argon2id, AF sha512": ("--pbkdf", "argon2id", *ARGON2_COST, "--hash", "sha512"),
    "argon2i, AF sha1": ("--pbkdf", "argon2i", *ARGON2_COST, "--hash", "sha1"),
    "detached header": (DETACHED,),
    "detached header, argon2id, sector 512, key 256 bits": (
        *(DETACHED, "--pbkdf", "argon2id", *ARGON2_COST),
        *("--sector-size", "512", "--key-size", "256"),
    ),
    "label and subsystem": ("--label", "of theirs \u2728", "--subsystem", "tests"),
    "metadata 64k": ("--luks2-metadata-size", "64k"),
    "metadata 4m": ("--luks2-metadata-size", "4m"),
    "keyslots 512k": ("--luks2-keyslots-size", "512k"),
    "metadata 128k, keyslots 1m": (
        *("--luks2-metadata-size", "128k", "--luks2-keyslots-size", "1m"),
    ),
    "offset 20 MiB": ("--offset", "40960"),
    "offset 2 MiB": ("--offset", "4096"),
    "keyslot key 512 bits": (
        *("--key-size", "256"),
        *("--keyslot-cipher", "aes-xts-plain64", "--keyslot-key-size", "512"),
    ),
    "keyslot cipher aes-cbc-essiv": (
        *("--keyslot-cipher", "aes-cbc-essiv:sha256", "--keyslot-key-size", "256"),
    ),
}
BEYOND_DISSECT: Final = {"keyslot key 512 bits", "keyslot cipher aes-cbc-essiv"}
"""dissect.fve derives as many bytes as the volume key has, and so opens no such keyslot."""


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("cryptsetup", "nbdcopy")


@pytest.fixture
def cryptsetup(operator: Operator) -> Cryptsetup:
    return Cryptsetup(operator)


def made(cryptsetup: Cryptsetup, *options: str) -> Volume:
    place = cryptsetup.operator.place
    header = place / "theirs.header" if DETACHED in options else None
    volume = Volume(place / "theirs.img", header)
    plain = [word for word in options if word != DETACHED]
    cryptsetup.format(volume, cryptsetup.operator.key_file, *plain)
    return volume


@pytest.mark.parametrize(("name", "options"), KINDS.items(), ids=KINDS.keys())
def test_we_open_write_and_others_read(
    operator: Operator, cryptsetup: Cryptsetup, name: str, options: tuple[str, ...]
) -> None:
    volume, key = made(cryptsetup, *options), operator.key_file
    header = sha256(volume.header) if volume.header else cryptsetup.metadata(volume)
    data = random_file(operator.place / "data")
    assert write_through_nbd(operator, volume, key, data)["keyslot"] == 0
    assert header == (sha256(volume.header) if volume.header else cryptsetup.metadata(volume))
    assert cryptsetup.opens(volume, key)
    if name in BEYOND_DISSECT:
        assert read_through_nbd(operator, volume, key) == sha256(data)
    else:
        assert read_independently(volume, key) == sha256(data)


@dataclass(frozen=True, slots=True)
class Extra:
    """One more keyslot: how cryptsetup makes it."""

    slot: int
    options: tuple[str, ...]

    @property
    def passphrase(self) -> str:
        return f"passphrase of slot {self.slot}"


EXTRAS: Final = (
    Extra(1, ("--pbkdf", "argon2id", *ARGON2_COST)),
    Extra(7, (*PBKDF2, "--hash", "sha1")),
    Extra(12, ("--pbkdf", "argon2i", *ARGON2_COST)),
    Extra(31, (*PBKDF2, "--hash", "sha512")),
)


def with_extras(cryptsetup: Cryptsetup) -> tuple[Volume, dict[int, Path]]:
    volume, first = made(cryptsetup), cryptsetup.operator.key_file
    keys = {0: first}
    for extra in EXTRAS:
        keys[extra.slot] = secret(cryptsetup.operator, f"slot{extra.slot}", extra.passphrase)
        slot = ("--key-slot", str(extra.slot), "--key-file", first)
        cryptsetup.run("luksAddKey", *slot, *extra.options, volume.image, keys[extra.slot])
    return volume, keys


def test_every_keyslot_opens(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, keys = with_extras(cryptsetup)
    for slot, key in keys.items():
        assert we_open(operator, volume, key)["keyslot"] == slot
    listed = json.loads(operator.strongroom("slot", "list", volume.image, "--json").stdout)
    assert [entry["keyslot"] for entry in listed] == sorted(keys)


def test_priorities_mean_what_they_say(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, keys = with_extras(cryptsetup)
    same = secret(operator, "same", "in two keyslots")
    for slot in ("20", "21"):
        named = ("--key-slot", slot, "--key-file", keys[0], volume.image, same)
        cryptsetup.run("luksAddKey", *PBKDF2, *named)
    assert we_open(operator, volume, same)["keyslot"] == 20
    cryptsetup.run("config", "--priority", "prefer", "--key-slot", "21", volume.image)
    assert we_open(operator, volume, same)["keyslot"] == 21
    cryptsetup.run("config", "--priority", "ignore", "--key-slot", "7", volume.image)
    assert not cryptsetup.opens(volume, keys[7])
    we_refuse(operator, volume, keys[7])


def test_an_unbound_keyslot_opens_nothing(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume = made(cryptsetup)
    unbound = secret(operator, "unbound", "bound to no segment")
    options = ("--unbound", "--key-size", "512", "--key-slot", "3", *PBKDF2)
    cryptsetup.run("luksAddKey", *options, volume.image, unbound)
    assert not cryptsetup.opens(volume, unbound)
    we_refuse(operator, volume, unbound)
    # Its passphrase opens it, and what it holds is not the key of this volume.
    before = volume.image.read_bytes()
    done = operator.strongroom(
        *("slot", "change", volume.image, "--keyslot", "3", "--passphrase-file", unbound),
        *("--new-passphrase-file", operator.passphrase_file),
        check=False,
    )
    assert done.returncode == KeyslotStateError.exit_code, done.stderr
    assert volume.image.read_bytes() == before
    assert we_open(operator, volume, operator.key_file)["keyslot"] == 0


def test_our_slot_commands_work_on_theirs(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume, keys = with_extras(cryptsetup)
    new, changed = secret(operator, "new", "added by us"), secret(operator, "changed", "by us")
    added = ("--passphrase-file", keys[1], "--new-passphrase-file", new, *CHEAP_KDF)
    assert operator.facts("slot", "add", volume.image, *added)["keyslot"] == 2
    assert cryptsetup.opens(volume, new, "--key-slot", "2")
    replaced = ("--passphrase-file", keys[31], "--new-passphrase-file", changed, *CHEAP_KDF)
    operator.strongroom("slot", "change", volume.image, *replaced)
    assert cryptsetup.opens(volume, changed, "--key-slot", "31")
    assert not cryptsetup.opens(volume, keys[31])
    operator.strongroom(
        *("slot", "remove", volume.image, "--keyslot", "12", "--passphrase-file", new)
    )
    assert not cryptsetup.opens(volume, keys[12])
    for slot in (0, 1, 7):
        assert cryptsetup.opens(volume, keys[slot], "--key-slot", str(slot))


def test_the_cipher_that_we_only_read(operator: Operator, cryptsetup: Cryptsetup) -> None:
    volume = made(cryptsetup, "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256")
    before = sha256(volume.image)
    assert we_open(operator, volume, operator.key_file, "--read-only")["read_only"]
    assert read_independently(volume, operator.key_file) == read_through_nbd(
        operator, volume, operator.key_file
    )
    assert sha256(volume.image) == before

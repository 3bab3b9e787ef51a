# SPDX-License-Identifier: Apache-2.0
"""A volume that stock cryptsetup reencrypted: a recovery key and its operator's word lead back in.

``spec/unlock.md``, "An exchanged volume key".
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.hostile.enrolled.scene import both_resummed, rewritten, tree_of
from tests.interop.cryptsetup.foreign import (
    PBKDF2,
    Cryptsetup,
    Volume,
    random_file,
    read_through_nbd,
    secret,
    sha256,
    write_through_nbd,
)

pytestmark = pytest.mark.interop

ACCEPT: Final = "--accept-header-change"
EXCHANGED: Final = "the volume key was exchanged"
AREA_BYTES: Final = 16 << 20
COPY_BYTES: Final = 16384
DATA_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """A volume with data, reencrypted with its recovery key, and its header from before."""

    operator: Operator
    cryptsetup: Cryptsetup
    image: Path
    recovery: Path
    older: bytes
    data: str

    @property
    def volume(self) -> Volume:
        return Volume(self.image)

    @property
    def backup(self) -> Path:
        return self.operator.place / "backup"

    def reencrypt(self, *options: str, key: Path | None = None, keyslot: int = 1) -> None:
        how = ("reencrypt", "--force-offline-reencrypt", "--key-slot", str(keyslot), *PBKDF2)
        self.cryptsetup.run(*how, "--key-file", key or self.recovery, *options, self.image)

    def open(self, key: Path, *options: str, by: Operator | None = None) -> tuple[int, str]:
        """Return the exit code of ``open``, and what it said."""
        operator = by or self.operator
        named = ("open", self.image, "reencrypted", "--attach", "none", "--passphrase-file", key)
        done = operator.strongroom(*named, *options, check=False)
        operator.close("reencrypted", "--force", check=False)
        return done.returncode, done.stdout + done.stderr

    def put_header(self, header: bytes) -> None:
        whole = self.image.read_bytes()
        self.image.write_bytes(header + whole[len(header) :])

    def rewrite(self, tree: dict[str, Any], *, newer: int = 1) -> None:
        """Write a tree of JSON as other programs do: whole, and of a higher sequence number."""
        forged = bytearray(rewritten(self.image.read_bytes(), tree))
        number = int.from_bytes(forged[16:24], "big") + newer
        for copy in (0, COPY_BYTES):
            forged[copy + 16 : copy + 24] = number.to_bytes(8, "big")
        self.image.write_bytes(both_resummed(bytes(forged)))


@pytest.fixture
def volume(operator: Operator) -> Reencrypted:
    require_tools("cryptsetup", "nbdcopy")
    image, key = operator.place / "volume.img", operator.place / "recovery"
    operator.format(image, "--sparse", "--recovery-key-file", key, size="20M")
    operator.strongroom("header", "backup", image, operator.place / "backup")
    data = random_file(operator.place / "data", DATA_BYTES)
    write_through_nbd(operator, Volume(image), operator.passphrase_file, data)
    recovery = secret(operator, "recovery", key.read_text().rstrip("\n"))
    older = image.read_bytes()[:AREA_BYTES]
    return Reencrypted(operator, Cryptsetup(operator), image, recovery, older, sha256(data))


@pytest.mark.parametrize("times", [1, 2])
def test_the_whole_way(volume: Reencrypted, times: int) -> None:
    it, operator = volume, volume.operator
    for number in range(times):
        it.reencrypt(keyslot=(1, 2)[number])
    state = operator.facts("dump", it.image)["authentication"]
    assert (state["state"], EXCHANGED in state["findings"][0]) == ("changed", True)
    code, said = it.open(it.recovery)
    assert (code, EXCHANGED in said) == (22, True), said
    assert it.open(it.recovery, "--read-only", ACCEPT)[0] == 0
    assert it.open(it.recovery)[0] == 22
    assert it.open(it.recovery, ACCEPT)[0] == 0
    assert read_through_nbd(operator, it.volume, it.recovery) == it.data
    assert it.cryptsetup.opens(it.volume, it.recovery)
    keys = ("--passphrase-file", it.recovery, "--new-passphrase-file", operator.passphrase_file)
    operator.strongroom("slot", "add", it.image, *keys, *CHEAP_KDF)
    assert read_through_nbd(operator, it.volume, operator.passphrase_file) == it.data
    facts = operator.facts("dump", it.image)
    assert facts["authentication"] == {"state": "verified", "epoch": 3, "findings": []}
    assert it.cryptsetup.opens(it.volume, it.recovery)
    now = it.image.read_bytes()[:AREA_BYTES]
    it.put_header(it.older)
    for key in (it.recovery, operator.passphrase_file):
        assert it.open(key, ACCEPT)[0] == 20
    it.put_header(now)
    assert it.open(it.recovery)[0] == 0


def test_a_change_of_the_header_accepts_it_too(volume: Reencrypted) -> None:
    it, operator = volume, volume.operator
    it.reencrypt()
    keys = ("--passphrase-file", it.recovery, "--new-passphrase-file", operator.passphrase_file)
    adding = ("slot", "add", it.image, *keys, *CHEAP_KDF)
    assert operator.strongroom(*adding, check=False).returncode == 22
    operator.strongroom(*adding, ACCEPT)
    assert read_through_nbd(operator, it.volume, operator.passphrase_file) == it.data


@pytest.mark.parametrize(
    ("options", "now"),
    [
        (("--sector-size", "512"), "aes-xts-plain64 in sectors of 512 bytes"),
        (("--key-size", "256"), ""),
        (("--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"), "aes-cbc-essiv:sha256"),
        (("--resilience", "journal"), ""),
    ],
    ids=["sectors", "key size", "cipher", "journal"],
)
def test_what_else_it_changes_is_named(
    volume: Reencrypted, options: tuple[str, ...], now: str
) -> None:
    it = volume
    it.reencrypt(*options)
    code, said = it.open(it.recovery, "--read-only")
    assert (code, EXCHANGED in said, now in said) == (22, True, True), said
    assert it.open(it.recovery, "--read-only", ACCEPT)[0] == 0
    if "--cipher" not in options:
        assert it.open(it.recovery, ACCEPT)[0] == 0
        assert read_through_nbd(it.operator, it.volume, it.recovery) == it.data


def test_a_passphrase_proves_nothing(volume: Reencrypted) -> None:
    """Others may know one, and make a header that opens with it, over data of theirs."""
    it, operator = volume, volume.operator
    plain = secret(operator, "plain", "an ordinary passphrase")
    keys = ("--passphrase-file", it.recovery, "--new-passphrase-file", plain)
    operator.strongroom("slot", "add", it.image, *keys, "--factors", "passphrase", *CHEAP_KDF)
    it.reencrypt(key=plain, keyslot=2)
    for key in (plain, operator.passphrase_file, it.recovery):
        for options in ((), (ACCEPT,)):
            code, said = it.open(key, *options)
            assert (code, "header restore" in said) == (21, False), said
    # The hint of the error: a recovery key that the owner of the passphrase adds is a proof.
    adding = ("luksAddKey", *PBKDF2, "--key-file", plain, it.image, it.recovery)
    it.cryptsetup.run(*adding)
    assert it.open(it.recovery)[0] == 22
    assert it.open(it.recovery, ACCEPT)[0] == 0
    assert read_through_nbd(operator, it.volume, it.recovery) == it.data


def forge_digest(it: Reencrypted) -> None:
    tree = tree_of(it.image.read_bytes())
    tree["digests"]["0"]["digest"] = "A" * 43 + "="
    it.rewrite(tree)


def forge_another_digest(it: Reencrypted) -> None:
    """A second one, to which segment and keyslots are moved."""
    tree = tree_of(it.image.read_bytes())
    tree["digests"]["1"] = {**tree["digests"].pop("0"), "salt": "A" * 43 + "="}
    it.rewrite(tree)


def renumber_digest(it: Reencrypted) -> None:
    tree = tree_of(it.image.read_bytes())
    tree["digests"]["1"] = tree["digests"].pop("0")
    it.rewrite(tree)


def add_to_digest(it: Reencrypted) -> None:
    """Its text is another one, and its key the same."""
    tree = tree_of(it.image.read_bytes())
    tree["digests"]["0"]["x"] = 1
    it.rewrite(tree)


@pytest.mark.parametrize(
    "forge", [forge_digest, forge_another_digest, renumber_digest, add_to_digest]
)
def test_a_digest_that_is_forged_is_tampering(
    forge: Callable[[Reencrypted], None], volume: Reencrypted
) -> None:
    it = volume
    forge(it)
    for key in (it.recovery, it.operator.passphrase_file):
        for options in ((), (ACCEPT,)):
            assert it.open(key, *options)[0] == 21, options


def test_a_forged_token_over_a_new_key_is_tampering(volume: Reencrypted) -> None:
    it = volume
    it.reencrypt()
    tree = tree_of(it.image.read_bytes())
    token = next(value for value in tree["tokens"].values() if value["type"] == "strongroom")
    token["epoch"] = 7
    it.rewrite(tree)
    for options in ((), (ACCEPT,)):
        assert it.open(it.recovery, *options)[0] == 21


def test_the_key_before_does_not_come_back_under_the_new_token(volume: Reencrypted) -> None:
    it = volume
    it.reencrypt()
    assert it.open(it.recovery, ACCEPT)[0] == 0
    new, old = tree_of(it.image.read_bytes()), tree_of(it.older)
    tokens = {key: value for key, value in old["tokens"].items() if value["type"] != "strongroom"}
    ours = {key: value for key, value in new["tokens"].items() if value["type"] == "strongroom"}
    area = it.older[2 * COPY_BYTES :]
    whole = it.image.read_bytes()
    it.image.write_bytes(whole[: 2 * COPY_BYTES] + area + whole[AREA_BYTES:])
    it.rewrite({**old, "tokens": {**tokens, **ours}, "keyslots": {"1": old["keyslots"]["1"]},
                "digests": {"0": {**old["digests"]["0"], "keyslots": ["1"]}}})  # fmt: skip
    for options in ((), (ACCEPT,)):
        code, said = it.open(it.recovery, *options)
        assert code == 21, said


def test_what_no_reencryption_does_is_tampering_still(volume: Reencrypted) -> None:
    it = volume
    it.reencrypt()
    tree = tree_of(it.image.read_bytes())
    it.rewrite({**tree, "unknown": {}})
    code, said = it.open(it.recovery, ACCEPT)
    assert (code, "restore a backup" in said) == (21, False), said


def test_a_backup_from_before_does_not_take_the_key_of_the_data(volume: Reencrypted) -> None:
    it, restore = volume, ("header", "restore", volume.image, volume.backup)
    it.reencrypt()
    before = it.image.read_bytes()
    refused = it.operator.strongroom(*restore, check=False)
    assert (refused.returncode, "another volume key" in refused.stderr) == (20, True)
    assert it.image.read_bytes() == before
    assert it.open(it.recovery, ACCEPT)[0] == 0
    assert it.operator.strongroom(*restore, check=False).returncode == 20
    assert read_through_nbd(it.operator, it.volume, it.recovery) == it.data


def test_another_machine_adopts_it(volume: Reencrypted) -> None:
    it, place = volume, volume.operator.place
    it.reencrypt()
    other = Operator(place, environment={"STRONGROOM_STATE_DIR": str(place / "elsewhere")})
    assert it.open(it.recovery, by=other)[0] == 22
    code, said = it.open(it.recovery, "--read-only", ACCEPT, by=other)
    assert (code, "authenticated, epoch" in said) == (0, False), said
    adopting = ("reseal", it.image, "--adopt", "--passphrase-file", it.recovery)
    assert other.strongroom(*adopting, check=False).returncode == 22
    other.strongroom(*adopting, ACCEPT)
    assert it.open(it.recovery, by=other)[0] == 0
    assert other.facts("dump", it.image)["authentication"]["state"] == "verified"
    assert read_through_nbd(other, it.volume, it.recovery) == it.data
    # The machine before sees a header that its volume key authenticates.
    assert it.open(it.recovery)[0] == 0


def test_a_restored_whole_image_from_before_is_an_older_one(volume: Reencrypted) -> None:
    it, copy = volume, volume.operator.place / "copy.img"
    shutil.copy(it.image, copy)
    it.reencrypt()
    assert it.open(it.recovery, ACCEPT)[0] == 0
    shutil.copy(copy, it.image)
    assert it.open(it.operator.passphrase_file, ACCEPT)[0] == 20

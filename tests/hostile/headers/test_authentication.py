# SPDX-License-Identifier: Apache-2.0
"""Changes to an authenticated header: those of stock tools, and those of an attacker."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import FormatError
from strongroom.luks2 import (
    HEADER_COPY_BYTES,
    Differences,
    Header,
    authenticated_bytes,
    differences,
    load_header,
    repair_steps,
    sealed_slots,
    segment_digest_salt,
    strongroom_token,
    with_authentication,
    without_keyslot,
    without_token,
)
from strongroom.luks2.binary import BinaryHeader, HeaderCopy, build_copy
from strongroom.luks2.commit import WriteAt
from strongroom.units import ByteCount
from tests.conftest import require_tools

from .enrolled import (
    HDR,
    Areas,
    codes,
    enrolled,
    load,
    material,
    sealed_slot,
    token_body,
    verdict,
    written,
)

pytestmark = pytest.mark.hostile

Tree = dict[str, Any]


def forged(change: Callable[[Tree], object], *, header: Header | None = None) -> bytes:
    """Return an image whose metadata somebody changed, in both copies, with right checksums."""
    header = header or enrolled()
    tree: Tree = json.loads(header.metadata.json_text)
    change(tree)
    return image_of(header.binary, json.dumps(tree, separators=(",", ":")).encode())


def image_of(binary: BinaryHeader, text: bytes) -> bytes:
    copies = b"".join(build_copy(binary, text, copy) for copy in HeaderCopy)
    return copies + written(enrolled())[2 * HDR :]


TAMPERING: dict[str, Callable[[Tree], object]] = {
    "null cipher": lambda tree: tree["segments"]["0"].update(encryption="cipher_null-ecb"),
    "other cipher": lambda tree: tree["segments"]["0"].update(encryption="aes-cbc-essiv:sha256"),
    "segment moved": lambda tree: tree["segments"]["0"].update(offset=str(528384)),
    "segment cut": lambda tree: tree["segments"]["0"].update(size="4096"),
    "sector size": lambda tree: tree["segments"]["0"].update(sector_size=512),
    "tweak": lambda tree: tree["segments"]["0"].update(iv_tweak="8"),
    "segment flag": lambda tree: tree["segments"]["0"].update(flags=["x"]),
    "digest salt": lambda tree: tree["digests"]["0"].update(salt="B" * 42 + "A="),
    "digest value": lambda tree: tree["digests"]["0"].update(digest="B" * 42 + "A="),
    "digest hash": lambda tree: tree["digests"]["0"].update(hash="sha512"),
    "digest cost": lambda tree: tree["digests"]["0"].update(iterations=1001),
    "digest renamed": lambda tree: tree["digests"].update({"1": tree["digests"].pop("0")}),
    "foreign digest": lambda tree: tree["digests"].update(
        {"1": {"type": "x", "keyslots": [], "segments": []}}
    ),
    "token removed": lambda tree: tree["tokens"].pop("0"),
    "token doubled": lambda tree: tree["tokens"].update({"2": tree["tokens"]["0"]}),
    "token moved": lambda tree: tree["tokens"].update({"2": tree["tokens"].pop("0")}),
    "epoch": lambda tree: tree["tokens"]["0"].update(epoch=2),
    "factors": lambda tree: tree["tokens"]["0"]["slots"]["0"].update(factors=["passphrase"]),
    "policy": lambda tree: tree["tokens"]["0"]["enclave"].update(policy="measurement"),
    "digest unlisted": lambda tree: tree["tokens"]["0"]["header"].pop("segments/0"),
    "sealed slot unlinked": lambda tree: tree["digests"]["0"].update(keyslots=["1"]),
    "recovery slot unlinked": lambda tree: tree["digests"]["0"].update(keyslots=["0"]),
    "requirement": lambda tree: tree["config"].update(requirements={"mandatory": ["x"]}),
    "empty requirement": lambda tree: tree["config"].update(requirements={"mandatory": []}),
    "keyslots size": lambda tree: tree["config"].update(keyslots_size=str(512 * 1024 - 36864)),
    "section": lambda tree: tree.update(more={}),
}


DAMAGE: dict[str, Callable[[Tree], object]] = {
    "sealed slot's cost": lambda tree: tree["keyslots"]["0"]["kdf"].update(iterations=1),
    "sealed slot's cipher": lambda tree: tree["keyslots"]["0"]["area"].update(encryption="x"),
    "recovery slot's cost": lambda tree: tree["keyslots"]["1"]["kdf"].update(iterations=1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_with_one_keyslot_is_said_of_that_one(name: str) -> None:
    """It is never tried, and decides over nothing else."""
    assert verdict(forged(DAMAGE[name])) == "damaged"


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering(name: str) -> None:
    assert verdict(forged(TAMPERING[name])) in {"tampered", "refused", "wrong code", "no token"}


def freed(seqid_raise: int) -> Header:
    """Return a header whose token refers to no keyslot."""
    header = enrolled()
    binary = replace(header.binary, seqid=header.binary.seqid + seqid_raise)
    tree: Tree = json.loads(header.metadata.json_text)
    tree["tokens"]["0"]["keyslots"] = []
    return load(image_of(binary, json.dumps(tree, separators=(",", ":")).encode())).header


def test_a_keyslot_that_is_taken_from_its_token_stays_sealed() -> None:
    """As ``cryptsetup token unassign`` leaves it."""
    header = freed(1)
    token = strongroom_token(header)
    assert token is not None
    areas = material(header)
    found = differences(header, token, areas)
    assert found == Differences((), found.changes)
    words = ("keyslot 0 was taken from its token", "the header was written again")
    assert found.foreign_changes == words
    assert sealed_slots(header, token, areas) == {0: sealed_slot(1)}
    assert sealed_slots(header, token, {**areas, 0: b""}) == {0: sealed_slot(1)}


def test_a_keyslot_in_the_place_of_a_sealed_one_is_not_sealed() -> None:
    """As ``cryptsetup luksKillSlot`` and ``luksAddKey`` leave it."""
    header = freed(1)
    token = strongroom_token(header)
    assert token is not None
    areas = material(header)
    areas[0] = bytes(len(areas[0]))
    found = differences(header, token, areas)
    assert found == Differences((), found.changes)
    words = "keyslot 0 was changed, and it is no longer sealed to an enclave"
    assert found.foreign_changes == (words, "the header was written again")
    assert sealed_slots(header, token, areas) == {}


@pytest.mark.parametrize("damaged", [False, True])
def test_no_stock_tool_takes_a_keyslot_from_its_token_in_a_header_that_it_does_not_write(
    *, damaged: bool
) -> None:
    header = freed(0)
    token = strongroom_token(header)
    assert token is not None
    areas = material(header)
    if damaged:
        areas[0] = bytes(len(areas[0]))
    found = differences(header, token, areas)
    assert found.tampered == ("keyslot 0 was taken from its token",)
    assert found.changes == ()
    assert list(found.damaged) == [0] * damaged
    assert sealed_slots(header, token, areas) == {0: sealed_slot(1)}


@pytest.mark.parametrize("form", [b'"tokens": ', b'"tok\\u0065ns":'])
def test_another_form_of_the_metadata_is_a_foreign_change(form: bytes) -> None:
    header = enrolled()
    image = image_of(header.binary, header.metadata.json_text.replace(b'"tokens":', form))
    assert load(image).rewritten == ("the metadata was written in another form",)
    assert verdict(image) == "foreign change"


def test_salts_of_another_program_are_a_foreign_change() -> None:
    header = enrolled()
    binary = replace(header.binary, salt=bytes(64), secondary_salt=b"1" * 64)
    image = image_of(binary, header.metadata.json_text)
    assert load(image).rewritten == ("the salt of the primary header was changed",)
    assert load(image).broken == ()
    assert verdict(image) == "foreign change"


@pytest.mark.parametrize("copy", list(HeaderCopy), ids=lambda copy: copy.title)
def test_of_two_copies_the_one_with_the_right_bytes_decides(copy: HeaderCopy) -> None:
    """As cryptsetup leaves it that repaired one from the other: the salt is its own."""
    header = enrolled()
    binary = (
        replace(header.binary, salt=bytes(64))
        if copy is HeaderCopy.PRIMARY
        else replace(header.binary, secondary_salt=bytes(64))
    )
    loaded = load(image_of(binary, header.metadata.json_text))
    assert (loaded.used, loaded.broken) == (copy.other, (copy,))
    assert (loaded.canonical, loaded.rewritten) == (True, ())
    assert f"rewrote the {copy.title} header" in loaded.notices[0]
    written = bytearray(image_of(binary, header.metadata.json_text))
    for step in repair_steps(loaded):
        if isinstance(step, WriteAt):
            written[step.offset : step.offset + len(step.data)] = step.data
    assert bytes(written) == image_of(header.binary, header.metadata.json_text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seqid": 1}, "tampered"),
        ({"checksum_alg": "sha1"}, "unnoticed"),  # not on the disk: sha256 is what is written
        ({"uuid": "01234567-89ab-4cde-8f01-23456789abce"}, "foreign change"),
        ({"label_bytes": b"play"}, "foreign change"),
        ({"subsystem_bytes": b"play"}, "foreign change"),
        ({"seqid": 99}, "foreign change"),
    ],
)
def test_binary_fields(change: dict[str, Any], expected: str) -> None:
    header = enrolled()
    binary = replace(header.binary, **change)
    assert verdict(image_of(binary, header.metadata.json_text)) == expected


def test_swapped_sealed_slots() -> None:
    def swap(tree: Tree) -> None:
        slots = tree["keyslots"]
        slots["0"], slots["1"] = slots["1"], slots["0"]

    assert verdict(forged(swap, header=enrolled(0, 1, keyslots=3))) == "damaged"


def test_authenticating_again_makes_it_authentic() -> None:
    header = enrolled(0, 1, keyslots=3)
    token = strongroom_token(header)
    assert token is not None
    changed = without_keyslot(header, 0)
    assert verdict(written(changed)) == "wrong code"
    body = strongroom_token(changed)
    assert body is not None
    again = with_authentication(changed, body, material(changed), codes)
    assert again.binary.seqid == header.binary.seqid + 2
    assert verdict(written(again)) == "unnoticed"


def test_both_codes_are_over_the_token_and_the_uuid() -> None:
    messages: list[bytes] = []

    def record(message: bytes) -> tuple[bytes, bytes]:
        messages.append(message)
        return codes(message)

    header = without_token(enrolled(), 0)
    header = with_authentication(header, token_body(0), material(header), record)
    token = strongroom_token(header)
    assert token is not None
    assert messages == [authenticated_bytes(header.binary.uuid, token)]
    value = json.loads(messages[0])
    assert set(value) == {"token", "uuid"}
    assert "mac" not in value["token"]
    assert segment_digest_salt(header) == bytes(32)


def test_a_second_token_is_refused() -> None:
    header = enrolled()
    with pytest.raises(FormatError, match="already"):
        with_authentication(header, token_body(0, number=5), material(header), codes)


# --- stock cryptsetup -----------------------------------------------------------------------------

PBKDF2 = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


class Stock:
    """A volume that cryptsetup made, authenticated by us, for cryptsetup to change."""

    def __init__(self, place: Path) -> None:
        self.image, self.key, self.token = place / "image", place / "key", place / "token"
        self.key.write_bytes(b"key")
        self.token.write_text('{"type":"note","keyslots":["1"]}')
        with self.image.open("wb") as file:
            file.truncate(20 * 1024 * 1024)
        self.run("luksFormat", "--type", "luks2", *PBKDF2, "--key-file", self.key, self.image)
        self.add_key()
        header = self.header()
        header = with_authentication(header, token_body(0), self.areas(header), codes)
        with self.image.open("r+b") as file:
            for copy in HeaderCopy:
                file.seek(header.binary.offset_of(copy))
                file.write(build_copy(header.binary, header.metadata.json_text, copy))

    def run(self, *words: str | Path) -> None:
        command = ["cryptsetup", "--batch-mode", *map(str, words)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)

    def add_key(self) -> None:
        self.run("luksAddKey", *PBKDF2, "--key-file", self.key, self.image, self.key)

    def header(self) -> Header:
        size = ByteCount(self.image.stat().st_size)
        data = self.image.read_bytes()[:HEADER_COPY_BYTES]
        return load_header(data, image_size_bytes=size, detached=False).header

    def areas(self, header: Header) -> Areas:
        data = self.image.read_bytes()
        return {
            number: data[slot.area.offset_bytes :][: slot.area.size_bytes]
            for number, slot in header.keyslots.items()
        }

    def differences(self) -> Differences:
        header = self.header()
        token = strongroom_token(header)
        assert token is not None
        # No code breaks, whatever cryptsetup does to the token of a keyslot that it removes.
        message = authenticated_bytes(header.binary.uuid, token)
        assert (token.enclave_code, token.volume_code) == codes(message)
        return differences(header, token, self.areas(header))


STOCK: dict[str, tuple[Callable[[Stock], None], set[str]]] = {
    "add": (Stock.add_key, {"keyslot 2 was added"}),
    "unbound": (
        lambda it: it.run(
            "luksAddKey", "--unbound", "--key-size", "256", *PBKDF2, it.image, it.key
        ),
        {"keyslot 2 was added", "digest 1 was added"},
    ),
    "kill": (
        lambda it: it.run("luksKillSlot", it.image, "1"),
        {"keyslot 1 was removed"},
    ),
    "kill sealed": (
        lambda it: it.run("luksKillSlot", it.image, "0"),
        {"keyslot 0 was removed"},
    ),
    "change": (
        lambda it: it.run(
            "luksChangeKey", *PBKDF2, "--key-slot", "1", "--key-file", it.key, it.image, it.key
        ),
        {"keyslot 1 was changed"},
    ),
    "label": (
        lambda it: it.run("config", "--label", "mine", "--subsystem", "s", it.image),
        {"the label was changed", "the subsystem was changed"},
    ),
    "priority": (
        lambda it: it.run("config", "--priority", "prefer", "--key-slot", "0", it.image),
        {"the priority of a keyslot was changed"},
    ),
    "token": (
        lambda it: it.run("token", "import", "--json-file", it.token, it.image),
        {"token 1 was added"},
    ),
}


@pytest.mark.interop
@pytest.mark.parametrize("name", STOCK)
def test_what_cryptsetup_does_is_a_foreign_change(name: str, tmp_path: Path) -> None:
    require_tools("cryptsetup")
    stock = Stock(tmp_path)
    assert stock.differences() == Differences((), ())
    change, expected = STOCK[name]
    change(stock)
    found = stock.differences()
    assert found.tampered == ()
    assert set(found.foreign_changes) == {"the header was written again", *expected}


@pytest.mark.interop
def test_a_sealed_key_that_cryptsetup_changes_is_never_tried(tmp_path: Path) -> None:
    require_tools("cryptsetup")
    stock = Stock(tmp_path)
    key = ("--key-slot", "0", "--key-file", stock.key)
    stock.run("luksChangeKey", *PBKDF2, *key, stock.image, stock.key)
    found = stock.differences()
    assert found.tampered == ()
    assert found.foreign_changes == ("the header was written again",)
    assert list(found.damaged) == [0]
    assert found.damaged[0].startswith("keyslot 0 is damaged")

# SPDX-License-Identifier: Apache-2.0
"""Images that are no volume, damaged or forged: each refused in its own words, none changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF
from tests.hostile.bad_input.scene import (
    BINARY,
    DATA_OFFSET,
    HDR,
    MIB,
    NONE,
    Scene,
    Tree,
    damage,
    edit,
    metadata_of,
    rewrite,
)

pytestmark = pytest.mark.hostile

Opening = tuple[str | Path, ...]


# --- no volume --------------------------------------------------------------------------------


NOT_LUKS: Final[dict[str, bytes]] = {
    "empty": b"",
    "one byte": b"L",
    "zeros": bytes(MIB),
    "random": bytes(range(251)) * 4096,
    "text": b"LUKS is what this file is about\n",
}


@pytest.mark.parametrize("content", NOT_LUKS.values(), ids=NOT_LUKS.keys())
def test_not_a_volume(scene: Scene, opening: Opening, content: bytes) -> None:
    scene.image.write_bytes(content)
    scene.refuses(*opening, code=11, says="no LUKS header")


def test_a_file_system_is_not_a_volume(scene: Scene, opening: Opening) -> None:
    require_tools("mkfs.ext4")
    scene.image.unlink()
    scene.operator.run("mkfs.ext4", "-q", scene.image, "4M")
    scene.refuses(*opening, code=11, says="no LUKS header")


@pytest.mark.parametrize("kind", ["directory", "character device", "pipe", "socket"])
def test_neither_a_file_nor_a_disk(scene: Scene, opening: Opening, kind: str) -> None:
    scene.image.unlink()
    match kind:
        case "directory":
            scene.image.mkdir()
        case "pipe":
            os.mkfifo(scene.image)
        case "socket":
            os.mknod(scene.image, 0o140600)
        case _:
            scene.image.symlink_to("/dev/null")
    scene.refuses(*opening, code=2, says="neither a regular file nor a block device")


@pytest.mark.parametrize("command", ["open", "dump", "slot list", "header backup"])
def test_a_missing_image(scene: Scene, command: str) -> None:
    scene.image.unlink()
    further = {"open": "v", "header backup": str(scene.path("backup"))}
    rest = (further[command],) if command in further else ()
    scene.refuses(*command.split(), scene.image, *rest, code=3, says="vault.img does not exist")


def test_a_dangling_link_and_a_loop_of_links(scene: Scene, opening: Opening) -> None:
    scene.image.unlink()
    scene.image.symlink_to("nowhere")
    scene.refuses(*opening, code=3, says="does not exist")
    scene.image.unlink()
    scene.image.symlink_to("vault.img")
    scene.refuses(*opening, code=51, says="[Tt]oo many levels of symbolic links")


@pytest.mark.parametrize("command", ["open", "dump"])
def test_luks1_is_called_so(scene: Scene, opening: Opening, command: str) -> None:
    require_tools("cryptsetup")
    scene.image.write_bytes(bytes(4 * MIB))
    scene.operator.run(
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", scene.image),
        *("--pbkdf-force-iterations", "1000", scene.operator.key_file),
    )
    words = opening if command == "open" else ("dump", scene.image)
    done = scene.refuses(*words, code=12, says="LUKS1")
    assert "cryptsetup convert --type luks2" in done.stderr


# --- truncated and damaged --------------------------------------------------------------------


CUTS: Final = {
    "inside the binary header": 100,
    "inside the primary JSON": HDR - 1,
    "inside the secondary header": HDR + 4096,
    "behind the headers": 2 * HDR,
    "inside a keyslot": 2 * HDR + 5000,
    "one byte before the data": DATA_OFFSET - 1,
    "at the data": DATA_OFFSET,
    "inside the first sector": DATA_OFFSET + 4095,
}


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS.keys())
def test_truncated(scene: Scene, opening: Opening, size: int) -> None:
    os.truncate(scene.image, size)
    scene.refuses(*opening, code=13, says="image")


def test_one_byte_short_loses_the_last_sector_and_nothing_else(scene: Scene) -> None:
    """A segment of dynamic size reaches to the last whole sector, as it does for dm-crypt."""
    os.truncate(scene.image, 17 * MIB - 1)
    before = scene.state()
    assert scene.operator.open(scene.image, "v")["size_bytes"] == MIB - 4096
    scene.operator.close("v")
    assert scene.state() == before
    scene.nothing_is_left()


def test_one_byte_short_of_a_fixed_size(scene: Scene, opening: Opening) -> None:
    edit(scene.image, setting(str(MIB), "segments", "0", "size"))
    os.truncate(scene.image, 17 * MIB - 1)
    scene.refuses(*opening, code=13, says="image")


@pytest.mark.parametrize("command", ["open", "dump", "slot list"])
def test_both_headers_broken(scene: Scene, opening: Opening, command: str) -> None:
    damage(scene.image, 200, HDR + 200)
    words: Opening = opening if command == "open" else (*command.split(), scene.image)
    done = scene.refuses(*words, code=14, says="both header copies are damaged: the primary")
    assert "restore a backup of the header" in done.stderr


BROKEN: Final = {"primary": (0, "secondary"), "secondary": (HDR, "primary")}


@pytest.mark.parametrize(("offset", "other"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("where", [200, BINARY + 50], ids=["binary header", "JSON"])
def test_one_header_broken_opens_and_is_repaired_and_said(
    scene: Scene, sound_image: Path, *, offset: int, other: str, where: int
) -> None:
    operator = scene.operator
    damage(scene.image, offset + where)
    damaged = scene.state()
    said = f"the {other} one is used"

    reading = operator.open(scene.image, "v", "--read-only")
    operator.close("v")
    assert any(said in notice for notice in reading["notices"])
    assert scene.state() == damaged

    scene.refuses(
        *("open", scene.image, "v", *NONE, "--read-only", "--passphrase-file"),
        scene.path("recovery.txt", b"wrong"),
        code=31,
        says="no keyslot opens",
    )
    scene.path("recovery.txt").unlink()

    key = ("--passphrase-file", operator.passphrase_file)
    done = operator.strongroom("open", scene.image, "v", *NONE, *key)
    operator.close("v")
    assert said in done.stderr
    assert "the damaged header copy was repaired from the good one" in done.stderr
    again = operator.open(scene.image, "v")
    operator.close("v")
    assert again["notices"] == []
    assert metadata_of(scene.image) == metadata_of(sound_image)
    scene.nothing_is_left()


def test_a_header_of_another_volume_in_the_second_copy(scene: Scene, opening: Opening) -> None:
    other = scene.path("other.img")
    scene.operator.format(other, size="17M")
    with other.open("rb") as source, scene.image.open("r+b") as target:
        source.seek(HDR)
        target.seek(HDR)
        target.write(source.read(HDR))
    scene.refuses(*opening, code=10, says="the header copies belong to different volumes")


# --- forged -----------------------------------------------------------------------------------


def setting(value: object, *path: str) -> Callable[[Tree], None]:
    """Return an edit that sets one value of the JSON tree."""

    def change(tree: Tree) -> None:
        *parents, last = path
        for name in parents:
            tree = tree[name]
        tree[last] = value

    return change


SEGMENT: Final = ("segments", "0")
AREA: Final = ("keyslots", "0", "area")
KDF: Final = ("keyslots", "0", "kdf")
DAMAGED: Final = "written in another form; keyslot 0 is damaged"
"""Such a keyslot keeps no other one from opening, and the form of the rest has to be accepted."""
FORGED: Final[dict[str, tuple[Callable[[Tree], None], int, str]]] = {
    "unknown cipher": (setting("serpent-xts-plain64", *SEGMENT, "encryption"), 15, "serpent-xts"),
    "unknown mode": (setting("aes-ecb", *SEGMENT, "encryption"), 15, "aes-ecb"),
    "unknown cipher of a keyslot": (setting("twofish-ecb", *AREA, "encryption"), 22, DAMAGED),
    "null cipher": (setting("cipher_null-ecb", *SEGMENT, "encryption"), 15, "does not encrypt"),
    "null cipher of a keyslot": (
        setting("cipher_null-ecb", *AREA, "encryption"),
        15,
        "keyslot.*does not encrypt",
    ),
    "unknown KDF": (setting("scrypt", *KDF, "type"), 22, DAMAGED),
    "unknown hash": (setting("md5", *KDF, "hash"), 22, DAMAGED),
    "unknown requirement": (
        setting({"mandatory": ["acme-v9"]}, "config", "requirements"),
        16,
        "acme-v9",
    ),
    "reencryption": (
        setting({"mandatory": ["online-reencrypt-v2"]}, "config", "requirements"),
        16,
        "online-reencrypt-v2",
    ),
    "unknown segment": (setting("linear", *SEGMENT, "type"), 16, "linear"),
    "keyslot outside its area": (setting("16777216", *AREA, "offset"), 18, "outside"),
    "keyslot far outside the file": (setting(str(2**63), *AREA, "offset"), 18, "outside"),
    "keyslot over the header": (setting("4096", *AREA, "offset"), 18, "outside|overlap"),
    "overlapping keyslots": (setting("290816", *AREA, "offset"), 18, "overlap"),
    "keyslot off the grid": (setting("32769", *AREA, "offset"), 18, "grid"),
    "keyslot too small": (setting("4096", *AREA, "size"), 18, "needs"),
    "keyslot of no size": (setting("0", *AREA, "size"), 18, "needs|empty"),
    "data over the header": (setting("4096", *SEGMENT, "offset"), 18, "inside the header"),
    "data outside the file": (setting(str(2**62), *SEGMENT, "offset"), 13, "image"),
    "data longer than the file": (setting(str(2**40), *SEGMENT, "size"), 13, "image"),
    "data size of a wrong unit": (setting("4097", *SEGMENT, "size"), 18, "whole sectors"),
    "sector of 8192": (setting(8192, *SEGMENT, "sector_size"), 10, "8192"),
    "JSON size that lies": (setting(str(2**32), "config", "json_size"), 10, "4294967296"),
    "keyslots size that lies": (
        setting(str(2**40), "config", "keyslots_size"),
        19,
        "1099511627776",
    ),
    "costs for years": (setting(2**32 - 1, *KDF, "iterations"), 22, DAMAGED),
    "digest without a keyslot": (setting(["9"], "digests", "0", "keyslots"), 10, "9"),
    "negative number": (setting("-1", *AREA, "offset"), 10, "offset"),
    "number as text of 400 digits": (setting("9" * 400, *AREA, "size"), 19, "longer"),
    "wrong type": (setting([], "keyslots"), 10, "keyslots"),
}


@pytest.mark.parametrize(("change", "code", "says"), FORGED.values(), ids=FORGED.keys())
def test_forged(
    scene: Scene, opening: Opening, *, change: Callable[[Tree], None], code: int, says: str
) -> None:
    edit(scene.image, change)
    scene.refuses(*opening, code=code, says=says)


def test_a_header_that_claims_4_gib(scene: Scene, opening: Opening) -> None:
    text = json.dumps(metadata_of(scene.image)).encode()
    rewrite(scene.image, text, claimed_header_bytes=2**32)
    scene.refuses(*opening, code=14, says="claims a size of 4294967296 bytes")


DEEP: Final = {
    "arrays": b"[" * 12000,
    "closed arrays": b"[" * 6000 + b"]" * 6000,
    "objects": b'{"a":' * 2400,
    "in a token": b'{"tokens":{"0":{"type":"x","keyslots":[],"x":' + b"[" * 5000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_deep_nesting(scene: Scene, opening: Opening, text: bytes) -> None:
    rewrite(scene.image, text)
    scene.refuses(*opening, code=19, says="deep|nest|depth")


NOT_JSON: Final = {
    "nothing": b"",
    "text": b"hello",
    "half": b'{"keyslots":',
    "utf-16": b"\xff\xfe{",
}


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_not_json(scene: Scene, opening: Opening, text: bytes) -> None:
    rewrite(scene.image, text)
    scene.refuses(*opening, code=10, says="JSON|json|UTF-8")


def test_a_name_from_the_disk_cannot_reach_the_terminal(scene: Scene, opening: Opening) -> None:
    edit(scene.image, setting("\x1b]0;owned\x07\u202e", *SEGMENT, "encryption"))
    done = scene.refuses(*opening, code=15, says="not supported")
    assert done.stderr.replace("\n", "").isprintable()


# --- tokens that are not understood -----------------------------------------------------------


def test_an_unknown_token_is_left_alone_and_guards_its_keyslot(scene: Scene) -> None:
    operator, key = scene.operator, ("--passphrase-file", scene.operator.passphrase_file)
    token = {"type": "acme", "keyslots": ["0"], "x": {"y": [1, None, "\u00e9"]}}
    edit(scene.image, lambda tree: tree["tokens"].update({"9": token}))
    assert operator.open(scene.image, "v", "--accept-header-change")["keyslot"] == 0
    operator.close("v")
    recovery = ("--passphrase-file", scene.path("recovery"))
    says = 'token 9 of the unknown type "acme" uses keyslot 0'
    scene.refuses("slot", "remove", scene.image, "--keyslot", "0", *recovery, code=17, says=says)
    new = ("--new-passphrase-file", scene.path("new", b"new"))
    scene.refuses("slot", "change", scene.image, *key, *new, *CHEAP_KDF, code=17, says=says)
    operator.strongroom("slot", "add", scene.image, *key, *new, *CHEAP_KDF)
    assert metadata_of(scene.image)["tokens"]["9"] == token

# SPDX-License-Identifier: Apache-2.0
"""Attacks on the metadata of an enrolled volume, by name, and how both ways in refuse them.

The first outcome is that of the passphrase on the enclave that the volume is sealed to; the second
that of the recovery key elsewhere, where a keyslot is opened before the volume's code can be
checked, so an attack on what opens it ends in not opening.
"""

import base64
import json
from collections.abc import Callable
from typing import Final

from .scene import AREA_BYTES, ROOMY_OFFSET_BYTES, Tree

SALT: Final = base64.b64encode(bytes(range(32))).decode()
TAMPERED: Final = "HeaderTamperedError"
CHANGED: Final = "HeaderChangedError"
WRONG: Final = "WrongPassphraseError"
FORM: Final = "FormatError"
FACTOR: Final = "EnclaveFactorError"
CIPHER: Final = "UnsupportedCipherError"
REQUIREMENT: Final = "UnsupportedRequirementError"
BOUNDS: Final = "BoundsError"
NO_WAY_IN: Final = "KeyslotStateError"
READ_ONLY: Final = "read only"
"""Not refused: another keyslot opened, for reading, and the one under attack was named."""


def own_token(tree: Tree) -> Tree:
    tokens: dict[str, Tree] = tree["tokens"]
    return next(value for value in tokens.values() if value["type"] == "strongroom")


def own_number(tree: Tree) -> str:
    tokens: dict[str, Tree] = tree["tokens"]
    return next(key for key, value in tokens.items() if value["type"] == "strongroom")


Change = Callable[[Tree], object]

SEGMENT: dict[str, tuple[Change, tuple[str, str]]] = {
    "null cipher": (
        lambda it: it.update(encryption="cipher_null-ecb"),
        (CIPHER, CIPHER),
    ),
    "weaker cipher": (
        lambda it: it.update(encryption="aes-cbc-essiv:sha256"),
        (CIPHER, CIPHER),
    ),
    "moved": (
        lambda it: it.update(offset=str(ROOMY_OFFSET_BYTES + 4096)),
        (TAMPERED, TAMPERED),
    ),
    "moved into the header": (
        lambda it: it.update(offset="32768"),
        (BOUNDS, BOUNDS),
    ),
    "shortened": (
        lambda it: it.update(size="4096"),
        (TAMPERED, TAMPERED),
    ),
    "tweaked": (
        lambda it: it.update(iv_tweak="8"),
        (TAMPERED, TAMPERED),
    ),
    "sector size": (
        lambda it: it.update(sector_size=512),
        (TAMPERED, TAMPERED),
    ),
    "flag": (
        lambda it: it.update(flags=["backup-final"]),
        (TAMPERED, TAMPERED),
    ),
    "linear": (
        lambda it: it.update(type="linear"),
        (REQUIREMENT, REQUIREMENT),
    ),
    "integrity": (
        lambda it: it.update(integrity={"type": "none"}),
        (REQUIREMENT, REQUIREMENT),
    ),
}


def in_segment(change: Change) -> Change:
    return lambda tree: change(tree["segments"]["0"])


def reencrypting(tree: Tree) -> None:
    """What a header looks like in the middle of ``cryptsetup reencrypt --encrypt``."""
    tree["config"]["requirements"] = {"mandatory": ["online-reencrypt-v2"]}
    reencryption(tree)
    tree["segments"]["1"] = {**tree["segments"]["0"], "encryption": "cipher_null-ecb"}
    tree["segments"]["2"] = {**tree["segments"]["0"], "flags": ["backup-previous"]}
    tree["digests"]["1"] = {**tree["digests"]["0"], "keyslots": [], "segments": ["1", "2"]}


def reencryption(tree: Tree) -> None:
    area = {
        "type": "none",
        "offset": str(ROOMY_OFFSET_BYTES - AREA_BYTES),
        "size": str(AREA_BYTES),
    }
    tree["keyslots"]["5"] = {
        "type": "reencrypt",
        "key_size": 1,
        "mode": "encrypt",
        "direction": "forward",
        "area": area,
    }


def added_keyslot(tree: Tree, *, digest: str) -> None:
    number, offset = "7", str(ROOMY_OFFSET_BYTES - AREA_BYTES)
    keyslot = json.loads(json.dumps(tree["keyslots"]["1"]))
    keyslot["area"]["offset"] = offset
    tree["keyslots"][number] = keyslot
    if digest == "1":
        keyslots = {"keyslots": [number], "segments": []}
        tree["digests"]["1"] = {**tree["digests"]["0"], **keyslots}
    else:
        tree["digests"][digest]["keyslots"].append(number)


def unhooked_digest(tree: Tree) -> None:
    """The true digest keeps the keyslots, and the segment gets one of the attacker's."""
    tree["digests"]["1"] = {
        **tree["digests"]["0"],
        "keyslots": [],
        "salt": SALT,
        "digest": SALT,
    }
    tree["digests"]["0"]["segments"] = []


def with_token_gone(change: Change) -> Change:
    def both(tree: Tree) -> None:
        change(tree)
        tree["tokens"].pop(own_number(tree))

    return both


def swapped(tree: Tree, *path: str) -> None:
    """Exchange a member of keyslots 0 and 1."""
    first, second = tree["keyslots"]["0"], tree["keyslots"]["1"]
    for key in path[:-1]:
        first, second = first[key], second[key]
    first[path[-1]], second[path[-1]] = second[path[-1]], first[path[-1]]


def freed(tree: Tree) -> None:
    own_token(tree)["keyslots"] = []


def renumbered_segment(tree: Tree) -> None:
    tree["segments"] = {"1": tree["segments"]["0"]}
    tree["digests"]["0"]["segments"] = ["1"]


def cut_digest(tree: Tree) -> None:
    digest = tree["digests"]["0"]
    digest["digest"] = base64.b64encode(base64.b64decode(digest["digest"])[:20]).decode()


def made_plain(tree: Tree) -> None:
    """A sealed keyslot made one that a passphrase alone should open: a downgrade."""
    freed(tree)
    own_token(tree)["slots"] = {}


METADATA: dict[str, tuple[Change, tuple[str, str]]] = {
    **{f"segment {name}": (in_segment(change), how) for name, (change, how) in SEGMENT.items()},
    "segment renumbered": (
        renumbered_segment,
        (TAMPERED, TAMPERED),
    ),
    "keyslot null cipher": (
        lambda it: it["keyslots"]["1"]["area"].update(encryption="cipher_null-ecb"),
        (CIPHER, CIPHER),
    ),
    "sealed keyslot null cipher": (
        lambda it: it["keyslots"]["0"]["area"].update(encryption="cipher_null-ecb"),
        (CIPHER, CIPHER),
    ),
    "reencryption": (
        reencrypting,
        (REQUIREMENT, REQUIREMENT),
    ),
    "reencryption's keyslot alone": (
        reencryption,
        (TAMPERED, TAMPERED),
    ),
    "requirement": (
        lambda it: it["config"].update(requirements={"mandatory": ["inline-hw-tags"]}),
        (REQUIREMENT, REQUIREMENT),
    ),
    "empty requirements": (
        lambda it: it["config"].update(requirements={}),
        (TAMPERED, TAMPERED),
    ),
    "digest's value": (
        lambda it: it["digests"]["0"].update(digest=SALT),
        (TAMPERED, FACTOR),
    ),
    "digest's salt": (
        lambda it: it["digests"]["0"].update(salt=SALT),
        (TAMPERED, FACTOR),
    ),
    "digest cut short": (
        cut_digest,
        (TAMPERED, TAMPERED),
    ),
    "digest's cost": (
        lambda it: it["digests"]["0"].update(iterations=1),
        (TAMPERED, FACTOR),
    ),
    "digest of the attacker's key": (
        unhooked_digest,
        (TAMPERED, NO_WAY_IN),
    ),
    "token removed": (
        lambda it: it["tokens"].pop(own_number(it)),
        (WRONG, TAMPERED),
    ),
    "token renamed": (
        lambda it: own_token(it).update(type="strongroon"),
        (WRONG, TAMPERED),
    ),
    "token removed, segment tweaked": (
        with_token_gone(lambda it: it["segments"]["0"].update(iv_tweak="8")),
        (WRONG, TAMPERED),
    ),
    "token removed, digest unhooked": (
        with_token_gone(unhooked_digest),
        (NO_WAY_IN, NO_WAY_IN),
    ),
    "token twice": (
        lambda it: it["tokens"].update({"9": own_token(it)}),
        (FORM, FORM),
    ),
    "token moved": (
        lambda it: it["tokens"].update({"9": it["tokens"].pop(own_number(it))}),
        (TAMPERED, TAMPERED),
    ),
    "token's keyslots emptied": (
        freed,
        (TAMPERED, TAMPERED),
    ),
    "sealed keyslot made plain": (
        made_plain,
        (TAMPERED, TAMPERED),
    ),
    "token's factors": (
        lambda it: own_token(it)["slots"]["0"].update(factors=["passphrase"]),
        (TAMPERED, TAMPERED),
    ),
    "token's epoch": (
        lambda it: own_token(it).update(epoch=9),
        (TAMPERED, TAMPERED),
    ),
    "token's policy": (
        lambda it: own_token(it)["enclave"].update(policy="measurement"),
        (FACTOR, TAMPERED),
    ),
    "token's key id": (
        lambda it: own_token(it)["enclave"].update(key_id="00" * 16),
        (FACTOR, TAMPERED),
    ),
    "token's security version": (
        lambda it: own_token(it)["enclave"].update(security_version=0),
        (FACTOR, TAMPERED),
    ),
    "enclave's code": (
        lambda it: own_token(it)["mac"].update(enclave=SALT),
        (TAMPERED, TAMPERED),
    ),
    "volume's code": (
        lambda it: own_token(it)["mac"].update(volume=SALT),
        (TAMPERED, TAMPERED),
    ),
    "keyslots' areas swapped": (
        lambda it: swapped(it, "area"),
        (TAMPERED, TAMPERED),
    ),
    "keyslots' salts swapped": (
        lambda it: swapped(it, "kdf", "salt"),
        (TAMPERED, TAMPERED),
    ),
    "keyslots swapped": (
        lambda it: it["keyslots"].update({"0": it["keyslots"]["1"], "1": it["keyslots"]["0"]}),
        (TAMPERED, TAMPERED),
    ),
    "keyslot unlinked": (
        lambda it: it["digests"]["0"].update(keyslots=["1", "2"]),
        (TAMPERED, TAMPERED),
    ),
    "sealed keyslot's KDF lowered": (
        lambda it: it["keyslots"]["0"]["kdf"].update(iterations=1),
        (TAMPERED, READ_ONLY),
    ),
    "recovery keyslot's KDF lowered": (
        lambda it: it["keyslots"]["1"]["kdf"].update(iterations=1),
        (READ_ONLY, FACTOR),
    ),
    "sealed keyslot's cipher unknown": (
        lambda it: it["keyslots"]["0"]["area"].update(encryption="serpent-xts-plain64"),
        (TAMPERED, READ_ONLY),
    ),
    "recovery keyslot's hash unknown": (
        lambda it: it["keyslots"]["1"]["af"].update(hash="sha3-256"),
        (CHANGED, FACTOR),
    ),
    "keyslot's priority": (
        lambda it: it["keyslots"]["1"].update(priority=2),
        (CHANGED, CHANGED),
    ),
    "keyslot ignored": (
        lambda it: it["keyslots"]["2"].update(priority=0),
        (CHANGED, CHANGED),
    ),
    "keyslot's unknown member": (
        lambda it: it["keyslots"]["1"].update(more=1),
        (READ_ONLY, FACTOR),
    ),
    "keyslot of the attacker's": (
        lambda it: added_keyslot(it, digest="0"),
        (CHANGED, CHANGED),
    ),
    "keyslot of another key": (
        lambda it: added_keyslot(it, digest="1"),
        (CHANGED, CHANGED),
    ),
    "discards allowed": (
        lambda it: it["config"].update(flags=["allow-discards"]),
        (CHANGED, CHANGED),
    ),
    "token of another program": (
        lambda it: it["tokens"].update({"9": {"type": "x", "keyslots": ["0"]}}),
        (CHANGED, CHANGED),
    ),
    "unknown section": (
        lambda it: it.update(more={}),
        (TAMPERED, TAMPERED),
    ),
}

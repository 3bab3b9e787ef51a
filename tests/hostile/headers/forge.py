# SPDX-License-Identifier: Apache-2.0
"""An independent writer of LUKS2 headers, right or wrong, that shares no code with the product."""

import copy
import hashlib
import json
import struct
from typing import Any

MIB = 1024 * 1024
HDR = 16384
IMAGE_BYTES = 17 * MIB
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
SALT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

# JSON trees are edited freely here, so their type is of no use.
Tree = dict[str, Any]


def tree() -> Tree:
    """Return the metadata of a volume with one keyslot; the caller may change it."""
    return copy.deepcopy(_TREE)


def keyslot(offset: int = 32768, size: int = 258048) -> Tree:
    result: Tree = copy.deepcopy(_TREE["keyslots"]["0"])
    result["area"] |= {"offset": str(offset), "size": str(size)}
    return result


def text_of(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def forge_copy(
    text: bytes,
    *,
    secondary: bool = False,
    hdr_size: int = HDR,
    seqid: int = 3,
    uuid: str = UUID,
    algorithm: str = "sha256",
    label: bytes = b"",
    version: int = 2,
    offset: int | None = None,
) -> bytes:
    """Return one header copy with a right checksum over whatever it holds."""
    where = (hdr_size if secondary else 0) if offset is None else offset
    fields = struct.pack(
        ">6sHQQ48s32s64s40s48sQ",
        b"SKUL\xba\xbe" if secondary else b"LUKS\xba\xbe",
        version,
        hdr_size,
        seqid,
        label,
        algorithm.encode(),
        (b"2" if secondary else b"1") * 64,
        uuid.encode(),
        b"",
        where,
    )
    whole = bytearray(fields.ljust(4096, b"\0") + text.ljust(HDR - 4096, b"\0"))
    name = algorithm if algorithm in hashlib.algorithms_available else "sha256"
    digest = hashlib.new(name, whole).digest()
    whole[448 : 448 + len(digest)] = digest[:64]
    return bytes(whole)


def forge(
    value: object = None,
    *,
    text: bytes | None = None,
    size: int = IMAGE_BYTES,
    algorithm: str = "sha256",
    label: bytes = b"",
) -> bytes:
    """Return the first 8 MiB of an image whose two copies hold the same JSON."""
    if text is None:
        text = text_of(_TREE if value is None else value)
    primary = forge_copy(text, algorithm=algorithm, label=label)
    secondary = forge_copy(text, secondary=True, algorithm=algorithm, label=label)
    return (primary + secondary).ljust(8 * MIB, b"\0")[: min(size, 8 * MIB)]


_TREE: Tree = {
    "keyslots": {
        "0": {
            "type": "luks2",
            "key_size": 64,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {
                "type": "raw",
                "offset": "32768",
                "size": "258048",
                "encryption": "aes-xts-plain64",
                "key_size": 64,
            },
            "kdf": {"type": "argon2id", "time": 4, "memory": 1024, "cpus": 2, "salt": SALT},
        }
    },
    "tokens": {},
    "segments": {
        "0": {
            "type": "crypt",
            "offset": "16777216",
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": "aes-xts-plain64",
            "sector_size": 4096,
        }
    },
    "digests": {
        "0": {
            "type": "pbkdf2",
            "keyslots": ["0"],
            "segments": ["0"],
            "hash": "sha256",
            "iterations": 1000,
            "salt": SALT,
            "digest": SALT,
        }
    },
    "config": {"json_size": "12288", "keyslots_size": "16744448"},
}

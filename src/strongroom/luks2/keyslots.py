# SPDX-License-Identifier: Apache-2.0
"""Keyslots between JSON and values, in both directions.

Spec: LUKS2 on-disk format 1.1, 3.2.
"""

from strongroom.errors import BoundsError, FormatError, UnsupportedCipherError
from strongroom.luks2._json import JsonObject, JsonValue, encode_base64, parse_json
from strongroom.luks2._text import shown
from strongroom.luks2.canonical import canonical_json
from strongroom.luks2.limits import (
    ARGON2_BLOCKS_PER_LANE,
    CIPHER_KEY_BYTES,
    MAX_ARGON2_LANES,
    MAX_ARGON2_MEMORY_KIB,
    MAX_ARGON2_WORK_KIB,
    MAX_PBKDF2_ITERATIONS,
    MAX_SALT_BYTES,
    MIN_SALT_BYTES,
    SECTOR_BYTES,
    STRIPES,
)
from strongroom.luks2.model import (
    AntiForensic,
    Area,
    Argon2,
    ForeignKeyslot,
    Keyslot,
    Pbkdf2,
    Priority,
    Refusal,
    area_bytes,
)
from strongroom.luks2.names import check_cipher, check_cost, check_hash
from strongroom.units import ByteCount, ByteOffset


def parse_keyslot(keyslot: JsonObject) -> Keyslot:
    """Check a keyslot of type ``luks2``; where its area lies is checked later, with the others.

    Raises:
        UnsupportedCipherError: Cipher, hash or KDF is not on the list.
        LimitError: The KDF costs too much.
        BoundsError: The area is off the grid or too small for what it holds.
        FormatError: Anything else.
    """
    key_bytes = keyslot.uint32("key_size")
    area = _area(keyslot.child("area"))
    af = _anti_forensic(keyslot.child("af"))
    kdf = _kdf(keyslot.child("kdf"))
    if key_bytes == 0:
        raise keyslot.fail("key_size", "is 0")
    needed = area_bytes(key_bytes, af.stripes)
    if area.size_bytes < needed:
        raise BoundsError(
            f"{keyslot.name} has an area of {area.size_bytes} bytes and needs {needed}"
        )
    return Keyslot(key_bytes, kdf, area, af, _priority(keyslot))


def parse_foreign_keyslot(keyslot: JsonObject, refusal: Refusal) -> ForeignKeyslot:
    """Check as much of an unsupported keyslot as all types share: where its area lies.

    The rest is for people to read, and is left empty where it is of no known form.
    """
    area = keyslot.child("area")
    kdf = keyslot.part("kdf")
    key_bytes = keyslot.members.get("key_size")
    priority = keyslot.members.get("priority")
    return ForeignKeyslot(
        kind=keyslot.text("type"),
        offset_bytes=ByteOffset(area.uint64("offset")),
        size_bytes=ByteCount(area.uint64("size")),
        refusal=refusal,
        kdf=kdf.words("type"),
        hash_name=kdf.words("hash"),
        cipher=area.words("encryption"),
        key_bytes=key_bytes if type(key_bytes) is int and 0 < key_bytes < 2**16 else 0,
        priority=next((it for it in Priority if it == priority), Priority.NORMAL),
    )


def keyslot_json(keyslot: Keyslot) -> dict[str, JsonValue]:
    """Return the JSON of a keyslot, its members in cryptsetup's order."""
    result: dict[str, JsonValue] = {
        "type": "luks2",
        "key_size": keyslot.key_bytes,
        "af": {
            "type": "luks1",
            "stripes": keyslot.af.stripes,
            "hash": keyslot.af.hash_name,
        },
        "area": {
            "type": "raw",
            "offset": str(keyslot.area.offset_bytes),
            "size": str(keyslot.area.size_bytes),
            "encryption": keyslot.area.cipher,
            "key_size": keyslot.area.key_bytes,
        },
        "kdf": kdf_json(keyslot.kdf),
    }
    if keyslot.priority is not Priority.NORMAL:
        result["priority"] = int(keyslot.priority)
    return result


def _priority(keyslot: JsonObject) -> Priority:
    if not keyslot.has("priority"):
        return Priority.NORMAL
    value = keyslot.uint32("priority")
    if value not in tuple(Priority):
        raise keyslot.fail("priority", f"is {value}, not 0 to 2")
    return Priority(value)


def _area(area: JsonObject) -> Area:
    _check_type(area, "raw")
    cipher = area.text("encryption")
    check_cipher(area.name, cipher)
    key_bytes = area.uint32("key_size")
    if key_bytes not in CIPHER_KEY_BYTES[cipher]:
        raise UnsupportedCipherError(
            f"{area.name} has a key of {key_bytes} bytes, which {cipher} cannot use",
            hint=f"supported lengths are {CIPHER_KEY_BYTES[cipher]}",
        )
    offset_bytes = area.uint64("offset")
    size_bytes = area.uint64("size")
    if offset_bytes % SECTOR_BYTES or size_bytes % SECTOR_BYTES:
        raise BoundsError(f"{area.name} is not on the grid of {SECTOR_BYTES} bytes")
    return Area(ByteOffset(offset_bytes), ByteCount(size_bytes), cipher, key_bytes)


def _anti_forensic(af: JsonObject) -> AntiForensic:
    _check_type(af, "luks1")
    stripes = af.uint32("stripes")
    if stripes != STRIPES:
        # cryptsetup uses 4000 whatever is written here, so obeying would mean to disagree with it.
        raise af.fail("stripes", f"is {stripes}, and only {STRIPES} is in use")
    hash_name = af.text("hash")
    check_hash(af.name, hash_name)
    return AntiForensic(stripes, hash_name)


def _kdf(kdf: JsonObject) -> Pbkdf2 | Argon2:
    kind = kdf.text("type")
    salt = kdf.base64("salt", minimum_bytes=MIN_SALT_BYTES, maximum_bytes=MAX_SALT_BYTES)
    if kind == "pbkdf2":
        hash_name = kdf.text("hash")
        check_hash(kdf.name, hash_name)
        iterations = kdf.uint32("iterations")
        check_cost(kdf.name, "iterations", iterations, highest=MAX_PBKDF2_ITERATIONS)
        return Pbkdf2(hash_name, iterations, salt)
    if kind in {"argon2i", "argon2id"}:
        return _argon2(kdf, kind, salt)
    raise UnsupportedCipherError(
        f"{kdf.name} is of the type {shown(kind)}, which is not supported",
        hint="supported types are pbkdf2, argon2i and argon2id",
    )


def _argon2(kdf: JsonObject, variant: str, salt: bytes) -> Argon2:
    iterations = kdf.uint32("time")
    memory_kib = kdf.uint32("memory")
    lanes = kdf.uint32("cpus")
    check_cost(kdf.name, "cpus", lanes, highest=MAX_ARGON2_LANES)
    check_cost(
        kdf.name,
        "memory",
        memory_kib,
        lowest=lanes * ARGON2_BLOCKS_PER_LANE,
        highest=MAX_ARGON2_MEMORY_KIB,
    )
    check_cost(kdf.name, "time", iterations, highest=MAX_ARGON2_WORK_KIB // memory_kib)
    return Argon2(variant, iterations, memory_kib, lanes, salt)


def parse_kdf_text(text: bytes) -> Pbkdf2 | Argon2:
    """Return the KDF that a JSON object of its own describes, in its canonical form.

    Raises:
        UnsupportedCipherError: An unknown KDF or hash.
        LimitError: A cost is beyond its limit.
        FormatError: Anything else that is wrong, another form of the same JSON included.
    """
    kdf = _kdf(JsonObject("kdf", parse_json(text)))
    if canonical_json({**kdf_json(kdf)}) != text:
        raise FormatError("a KDF is not in its canonical form")
    return kdf


def kdf_json(kdf: Pbkdf2 | Argon2) -> dict[str, JsonValue]:
    """Return the members of a ``kdf`` object."""
    if isinstance(kdf, Pbkdf2):
        return {
            "type": "pbkdf2",
            "hash": kdf.hash_name,
            "iterations": kdf.iterations,
            "salt": encode_base64(kdf.salt),
        }
    return {
        "type": kdf.variant,
        "time": kdf.iterations,
        "memory": kdf.memory_kib,
        "cpus": kdf.lanes,
        "salt": encode_base64(kdf.salt),
    }


def _check_type(object_: JsonObject, expected: str) -> None:
    kind = object_.text("type")
    if kind != expected:
        raise FormatError(f"{object_.name} is of the unknown type {shown(kind)}")

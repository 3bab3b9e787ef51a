# SPDX-License-Identifier: Apache-2.0
"""The secrets of a volume, found out with stock tools and by the definitions of LUKS2."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.harness import Operator
from tests.hostile.memory.needles import Secrets

_AREA_SECTOR_BYTES: Final = 512
_ARGON2_VERSION: Final = 0x13
_ARGON2ID: Final = 2


def volume_key_of(operator: Operator, image: Path, passphrase: bytes) -> bytes:
    """Let cryptsetup tell the volume key of a LUKS1 or LUKS2 volume."""
    key_file, output = operator.place / "its passphrase", operator.place / "its volume key"
    key_file.write_bytes(passphrase)
    output.unlink(missing_ok=True)
    operator.run(
        *("cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key"),
        *("--volume-key-file", output, "--key-file", key_file, image),
    )
    return output.read_bytes()


def secrets_of(operator: Operator, image: Path, passphrases: dict[int, bytes]) -> Secrets:
    """Return the secrets of a LUKS2 volume.

    Args:
        operator: Runs cryptsetup.
        image: The volume.
        passphrases: By keyslot.
    """
    metadata = json.loads(
        operator.run("cryptsetup", "luksDump", "--dump-json-metadata", image).stdout
    )
    secrets = Secrets({}, {}, {})
    for number, passphrase in passphrases.items():
        keyslot = metadata["keyslots"][str(number)]
        volume_key = volume_key_of(operator, image, passphrase)
        secret = keyslot_secret(keyslot["kdf"], passphrase, int(keyslot["area"]["key_size"]))
        assert _opened(image, keyslot, secret) == volume_key, "the keyslot secret is not the one"
        secrets.passphrases[f"passphrase {number}"] = passphrase
        secrets.keys["volume key"] = volume_key
        secrets.keys[f"keyslot secret {number}"] = secret
        if keyslot["kdf"]["type"] == "argon2id":
            digest = argon2_digest(keyslot["kdf"], passphrase, len(secret))
            secrets.others[f"argon2 digest {number}"] = digest
    return secrets


def keyslot_secret(kdf: dict[str, Any], passphrase: bytes, length: int) -> bytes:
    """Return the key that encrypts a keyslot's area. Spec: RFC 8018, 5.2; RFC 9106."""
    salt = base64.b64decode(kdf["salt"])
    if kdf["type"] == "pbkdf2":
        return hashlib.pbkdf2_hmac(kdf["hash"], passphrase, salt, kdf["iterations"], length)
    return Argon2id(
        salt=salt,
        length=length,
        iterations=kdf["time"],
        lanes=kdf["cpus"],
        memory_cost=kdf["memory"],
    ).derive(passphrase)


def argon2_digest(kdf: dict[str, Any], passphrase: bytes, length: int) -> bytes:
    """Return the digest from which Argon2 goes on without the passphrase. Spec: RFC 9106, 3.2."""
    numbers = (kdf["cpus"], length, kdf["memory"], kdf["time"], _ARGON2_VERSION, _ARGON2ID)
    digest = hashlib.blake2b(b"".join(_le32(number) for number in numbers))
    for field in (passphrase, base64.b64decode(kdf["salt"]), b"", b""):
        digest.update(_le32(len(field)) + field)
    return digest.digest()


def _opened(image: Path, keyslot: dict[str, Any], secret: bytes) -> bytes:
    """Return what is in a keyslot's area."""
    area, af = keyslot["area"], keyslot["af"]
    size, stripes = keyslot["key_size"], af["stripes"]
    with image.open("rb") as file:
        file.seek(int(area["offset"]))
        encrypted = file.read(size * stripes)
    merged = 0
    plain = b"".join(
        _sector(secret, number, encrypted[at : at + _AREA_SECTOR_BYTES])
        for number, at in enumerate(range(0, len(encrypted), _AREA_SECTOR_BYTES))
    )
    for at in range(0, size * (stripes - 1), size):
        merged ^= int.from_bytes(plain[at : at + size], "big")
        merged = int.from_bytes(_diffused(merged.to_bytes(size, "big"), af["hash"]), "big")
    return (merged ^ int.from_bytes(plain[-size:], "big")).to_bytes(size, "big")


def _sector(key: bytes, number: int, encrypted: bytes) -> bytes:
    mode = modes.XTS(number.to_bytes(16, "little"))
    return Cipher(algorithms.AES(key), mode).decryptor().update(encrypted)


def _diffused(block: bytes, hash_name: str) -> bytes:
    width = hashlib.new(hash_name).digest_size
    return b"".join(
        hashlib.new(hash_name, number.to_bytes(4, "big") + block[at : at + width]).digest()[
            : len(block) - at
        ]
        for number, at in enumerate(range(0, len(block), width))
    )


def _le32(number: int) -> bytes:
    return number.to_bytes(4, "little")

# SPDX-License-Identifier: Apache-2.0
"""The secrets of a volume, found out with stock tools and by the definitions of LUKS2."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.harness import Operator
from tests.hostile.memory.enrolled import (
    SHARE_BYTES,
    derive,
    header_secrets,
    machine_secrets,
    slot_secrets,
    strongroom_token,
)
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


def metadata_of(operator: Operator, image: Path) -> dict[str, Any]:
    """Let cryptsetup tell the metadata of a LUKS2 volume."""
    dump = ("cryptsetup", "luksDump", "--dump-json-metadata", image)
    metadata: dict[str, Any] = json.loads(operator.run(*dump).stdout)
    return metadata


def uuid_of(operator: Operator, image: Path) -> str:
    """Let cryptsetup tell the UUID of a volume."""
    return operator.run("cryptsetup", "luksUUID", image).stdout.strip()


def secrets_of(operator: Operator, image: Path, passphrases: dict[int, bytes]) -> Secrets:
    """Return the secrets of a LUKS2 volume, and of the machine where it is sealed to an enclave.

    Args:
        operator: Runs cryptsetup.
        image: The volume.
        passphrases: By keyslot.
    """
    metadata, volume = metadata_of(operator, image), uuid_of(operator, image)
    token, secrets, seal = strongroom_token(metadata), Secrets({}, {}, {}), b""
    if token is not None:
        secrets |= machine_secrets(state_of(operator), token["enclave"])
        seal = secrets.keyed[f"seal key, {token['enclave']['policy']}"]
    for number, passphrase in passphrases.items():
        kdf, opener = metadata["keyslots"][str(number)]["kdf"], passphrase
        secrets.passphrases[f"passphrase {number}"] = passphrase
        if token is not None and str(number) in token["slots"]:
            own, kdf = slot_secrets(token, seal, volume, keyslot=number, passphrase=passphrase)
            secrets |= own
            opener = own.passphrases[f"slot passphrase {number}"]
        keyslot = metadata["keyslots"][str(number)]
        secrets |= _opened_by(operator, image, keyslot, passphrase=opener, number=number)
        if kdf["type"] == "argon2id":
            length = 64 if opener is passphrase else SHARE_BYTES
            secrets.others[f"argon2 digest {number}"] = argon2_digest(kdf, passphrase, length)
    if token is not None:
        secrets |= header_secrets(token, seal, volume, secrets.keys["volume key"])
    return secrets


def state_of(operator: Operator) -> Path:
    """Return the state directory of an operator."""
    name = "STRONGROOM_STATE_DIR"
    return Path(operator.environment.get(name) or os.environ[name])


def _opened_by(
    operator: Operator, image: Path, keyslot: dict[str, Any], *, passphrase: bytes, number: int
) -> Secrets:
    """Return the volume key and the key of a keyslot, each of which gives the other."""
    volume_key = volume_key_of(operator, image, passphrase)
    secret = derive(keyslot["kdf"], passphrase, int(keyslot["area"]["key_size"]))
    assert _opened(image, keyslot, secret) == volume_key, "the keyslot secret is not the one"
    return Secrets({}, {"volume key": volume_key, f"keyslot secret {number}": secret}, {})


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

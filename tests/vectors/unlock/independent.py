# SPDX-License-Identifier: Apache-2.0
"""``spec/unlock.md`` once more, from its text alone: nothing of Strongroom is imported here.

``python independent.py make`` prints the vectors; ``check FILE`` reproduces them.
"""

import base64
import hashlib
import hmac
import json
import sys
import uuid
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ORDER = ("enclave", "passphrase", "tpm")


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt or None, info).derive(key)


def combine(shares: list[bytes], info: bytes) -> bytes:
    return hkdf(b"".join(len(one).to_bytes(8, "big") + one for one in shares), b"", info)


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def place(volume: str, keyslot: int) -> bytes:
    return uuid.UUID(volume).bytes + keyslot.to_bytes(4, "big")


def slot_secret(shares: dict[str, bytes], volume: str, keyslot: int) -> bytes:
    factors = [name for name in ORDER if name in shares]
    policy = hashlib.sha256(canonical({"factors": factors, "version": 1})).digest()
    info = b"strongroom/1 slot secret\0" + place(volume, keyslot) + policy
    return combine([shares[name] for name in factors], info)


def enclave_share(sealed: bytes, volume: str, keyslot: int) -> bytes:
    return combine([sealed], b"strongroom/1 enclave share\0" + place(volume, keyslot))


def seal(what: str, content: bytes, key: bytes, *, salt: bytes, aad: bytes) -> bytes:
    one_time = hkdf(key, salt, f"strongroom/1 sealed {what}".encode())
    return b"\x01" + salt + ChaCha20Poly1305(one_time).encrypt(bytes(12), content, aad)


def header_codes(
    token: dict[str, object], volume: str, seal_key: bytes, volume_key: bytes
) -> dict[str, str]:
    message, number = canonical({"token": token, "uuid": volume}), uuid.UUID(volume).bytes
    enclave = combine([seal_key], b"strongroom/1 header key of the enclave\0" + number)
    header = combine([volume_key], b"strongroom/1 header key\0" + number)
    code, mark = hmac.digest(enclave, message, "sha256"), b"strongroom/1 header mark"
    return {
        "enclave": code.hex(),
        "volume": hmac.digest(header, message + code, "sha256").hex(),
        "key_id": hmac.digest(enclave, b"strongroom/1 enclave", "sha256").hex()[:32],
        "mark": hmac.digest(
            combine([volume_key], mark), b"strongroom/1 authenticated", "sha256"
        ).hex(),
    }


def vector(number: int, factors: list[str]) -> dict[str, object]:
    def fixed(label: str, size: int = 32) -> bytes:
        return hashlib.shake_128(f"strongroom vector {number} {label}".encode()).digest(size)

    volume, keyslot = str(uuid.UUID(bytes=fixed("uuid", 16))), number % 32
    sealed, salt = fixed("sealed"), fixed("salt")
    kdf: dict[str, object] = {"type": "argon2id", "time": 2, "memory": 64, "cpus": 2}
    kdf["salt"] = base64.b64encode(salt).decode()
    passphrase = f"passphrase {number}".encode()
    argon2 = Argon2id(salt=salt, length=32, iterations=2, lanes=2, memory_cost=64)
    derived, unsealed = argon2.derive(passphrase), enclave_share(sealed, volume, keyslot)
    every = {"enclave": unsealed, "passphrase": derived, "tpm": fixed("tpm")}
    shares = {name: every[name] for name in factors}
    secret = slot_secret(shares, volume, keyslot)
    enclave = {
        "tee": "process", "simulated": True, "policy": "signer", "measurement": fixed("m").hex(),
        "signer": fixed("s").hex(), "product_id": 1, "security_version": number, "debug": False,
        "key_id": fixed("key id", 16).hex(),
    }  # fmt: skip
    bound = {"enclave": enclave, "factors": factors, "keyslot": keyslot, "uuid": volume}
    aad = canonical({**bound, "version": 1})
    seal_key, volume_key = fixed("seal key"), fixed("volume key", 64)
    first, second = {"salt": fixed("salt 1"), "aad": aad}, {"salt": fixed("salt 2"), "aad": aad}
    token: dict[str, object] = {"type": "strongroom", "keyslots": [str(keyslot)], "epoch": number}
    return {
        "uuid": volume, "keyslot": keyslot, "factors": factors, "passphrase": passphrase.decode(),
        "kdf": kdf, "sealed": sealed.hex(), "tpm": every["tpm"].hex(), "aad": aad.decode(),
        "seal_key": seal_key.hex(), "volume_key": volume_key.hex(), "token": token,
        "enclave_share": every["enclave"].hex(), "passphrase_share": derived.hex(),
        "slot_secret": secret.hex(), "luks_passphrase": base64.b64encode(secret).decode(),
        "share_blob": seal("secret", sealed, seal_key, **first).hex(),
        "parameters_blob": seal("parameters", canonical(kdf), seal_key, **second).hex(),
        "codes": header_codes(token, volume, seal_key, volume_key),
    }  # fmt: skip


def vectors() -> list[dict[str, object]]:
    choices = ("enclave passphrase", "passphrase", "enclave passphrase tpm", "enclave tpm")
    return [vector(number, factors.split()) for number, factors in enumerate(choices)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        print(json.dumps(vectors(), indent=1))
    elif json.loads(Path(sys.argv[2]).read_text()) != vectors():
        sys.exit("the vectors are not reproduced")

# SPDX-License-Identifier: Apache-2.0
"""The secrets of a volume that is sealed to an enclave, by ``spec/unlock.md`` and nothing of ours.

``python -m tests.hostile.memory.enrolled STATE UUID`` reads metadata and the passphrase of keyslot
0 from standard input, derives all of them, and holds them until it is killed.
"""

import base64
import functools
import hashlib
import hmac
import json
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.hostile.memory.needles import Secrets
from tests.vectors.unlock.independent import canonical, combine, enclave_share, hkdf, slot_secret

SHARE_BYTES: Final = 32
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SEED_BYTES: Final = 32


def strongroom_token(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the token of a volume that is sealed to an enclave."""
    found = [token for token in metadata["tokens"].values() if token["type"] == "strongroom"]
    return found[0] if found else None


def extracted(shares: list[bytes], salt: bytes = bytes(32)) -> bytes:
    """Return what all output of HKDF is computed from. Spec: RFC 5869, 2.2."""
    joined = b"".join(len(one).to_bytes(8, "big") + one for one in shares)
    return hmac.digest(salt, joined, "sha256")


def derive(kdf: dict[str, Any], passphrase: bytes, length: int) -> bytes:
    """Return what a KDF of LUKS2 makes of a passphrase. Spec: RFC 8018, 5.2; RFC 9106."""
    return _derived(canonical(kdf), passphrase, length)


@functools.cache
def _derived(text: bytes, passphrase: bytes, length: int) -> bytes:
    kdf: dict[str, Any] = json.loads(text)
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


def machine_secrets(state: Path, enclave: dict[str, Any]) -> Secrets:
    """Return what a machine keeps, and what its enclaves derive from that."""
    root, seed = ((state / "process" / name).read_bytes() for name in ("root", "signer"))
    boot = uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    expanded = hashlib.sha512(seed).digest()
    clamped = bytes([expanded[0] & 248]) + expanded[1:31] + bytes([expanded[31] & 127 | 64])
    return Secrets(
        passphrases={},
        keys={},
        others={
            "signer": seed,
            "signer, prefix": expanded[_SEED_BYTES:],
            "signer, scalar": expanded[:_SEED_BYTES],
            "signer, clamped scalar": clamped,
        },
        keyed={
            "platform root": root,
            "platform root, extracted": extracted([root]),
            "report key": combine([root], b"strongroom/1 report key\0" + boot),
            **{
                f"seal key, {policy}": seal_key(root, enclave, policy)
                for policy in ("signer", "measurement")
            },
        },
    )


def seal_key(root: bytes, enclave: dict[str, Any], policy: str) -> bytes:
    """Return the seal key of a policy for the enclave that a token names."""
    numbers = (enclave["product_id"], enclave["security_version"], enclave["debug"])
    bound = bytes.fromhex(enclave[policy]) + struct.pack(">HHB", *numbers)
    return combine([root], b"strongroom/1 seal key\0" + policy.encode() + b"\0" + bound)


def slot_secrets(
    token: dict[str, Any], key: bytes, volume: str, *, keyslot: int, passphrase: bytes
) -> tuple[Secrets, dict[str, Any]]:
    """Return what a sealed keyslot is made of, and the KDF that its passphrase goes through.

    The passphrase that LUKS2 sees is ``slot passphrase N`` of it.
    """
    slot = token["slots"][str(keyslot)]
    bound = {"enclave": token["enclave"], "factors": slot["factors"], "version": 1}
    aad = canonical({**bound, "keyslot": keyslot, "uuid": volume})
    sealed, one = _opened(slot["share"], key, "secret", aad)
    parameters, other = _opened(slot["parameters"], key, "parameters", aad)
    kdf: dict[str, Any] = json.loads(parameters)
    shares = {
        "enclave": enclave_share(sealed, volume, keyslot),
        "passphrase": derive(kdf, passphrase, SHARE_BYTES),
    }
    assert slot["factors"] == list(shares)
    combined = slot_secret(shares, volume, keyslot)
    return Secrets(
        passphrases={f"slot passphrase {keyslot}": base64.b64encode(combined)},
        keys={},
        others={},
        keyed={
            f"sealed secret {keyslot}": sealed,
            f"sealed secret {keyslot}, extracted": extracted([sealed]),
            f"enclave share {keyslot}": shares["enclave"],
            f"passphrase share {keyslot}": shares["passphrase"],
            f"shares {keyslot}, extracted": extracted(list(shares.values())),
            f"slot secret {keyslot}": combined,
            f"blob key {keyslot}, secret": one,
            f"blob key {keyslot}, parameters": other,
        },
    ), kdf


def header_secrets(token: dict[str, Any], seal: bytes, volume: str, volume_key: bytes) -> Secrets:
    """Return the keys under which a header is authenticated, with what they come from."""
    number = uuid.UUID(volume).bytes
    enclave = combine([seal], b"strongroom/1 header key of the enclave\0" + number)
    identifier = hmac.digest(enclave, b"strongroom/1 enclave", "sha256")[:16]
    assert identifier.hex() == token["enclave"]["key_id"], "the seal key is not the one"
    return Secrets(
        passphrases={},
        keys={},
        others={},
        keyed={
            "seal key, extracted": extracted([seal]),
            "header key of the enclave": enclave,
            "header key": combine([volume_key], b"strongroom/1 header key\0" + number),
            "header mark key": combine([volume_key], b"strongroom/1 header mark"),
            "volume key, extracted": extracted([volume_key]),
        },
    )


def _opened(text: str, key: bytes, what: str, aad: bytes) -> tuple[bytes, bytes]:
    blob = base64.b64decode(text)
    assert blob[0] == 1
    one_time = hkdf(key, blob[1:33], f"strongroom/1 sealed {what}".encode())
    return ChaCha20Poly1305(one_time).decrypt(bytes(12), blob[33:], aad), one_time


def main() -> None:
    """Derive, say so, and stay."""
    state, volume = Path(sys.argv[1]), sys.argv[2]
    given = json.load(sys.stdin)
    token = given["token"]
    machine = machine_secrets(state, token["enclave"])
    seal = machine.keyed[f"seal key, {token['enclave']['policy']}"]
    held = slot_secrets(token, seal, volume, keyslot=0, passphrase=given["passphrase"].encode())
    print(len(held), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()

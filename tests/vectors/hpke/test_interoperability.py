# SPDX-License-Identifier: Apache-2.0
"""The core's HPKE against a foreign implementation, in both directions.

Secrets cannot be read back: what was opened is compared with a secret that holds the same bytes.

Spec: RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.
"""

import hashlib
import hmac
import os
from typing import Final

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from strongroom import _core
from strongroom.boundary.sealed import sealed_info
from strongroom.errors import FormatError
from tests.hostile.boundary.evil import secret

pytestmark = pytest.mark.vectors

FOREIGN: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
ENCAPSULATED_BYTES: Final = 32
INFO: Final = sealed_info("unlock")
PLAINTEXTS: Final = (b"x", b"correct horse battery staple", bytes(range(1, 256)), b"p" * 65536)


@pytest.mark.parametrize("plaintext", PLAINTEXTS, ids=len)
def test_we_open_what_a_foreign_sender_sealed(plaintext: bytes) -> None:
    receiver = _core.HpkeReceiver()
    message = FOREIGN.encrypt(
        plaintext, X25519PublicKey.from_public_bytes(receiver.public_key), info=INFO
    )

    opened = receiver.open(
        message[:ENCAPSULATED_BYTES], message[ENCAPSULATED_BYTES:], info=INFO, aad=b""
    )

    assert opened.length_bytes == len(plaintext)
    assert opened.equals(secret(plaintext))
    assert not opened.equals(secret(b"y" * len(plaintext)))


@pytest.mark.parametrize("plaintext", PLAINTEXTS, ids=len)
def test_a_foreign_receiver_opens_what_we_sealed(plaintext: bytes) -> None:
    private = X25519PrivateKey.generate()
    encapsulated, ciphertext = secret(plaintext).seal_to(
        private.public_key().public_bytes_raw(), info=INFO, aad=b""
    )

    assert len(ciphertext) == len(plaintext) + 16
    assert FOREIGN.decrypt(encapsulated + ciphertext, private, info=INFO) == plaintext
    with pytest.raises(InvalidTag):
        FOREIGN.decrypt(encapsulated + ciphertext, private, info=INFO + b" ")


def test_the_additional_data_is_authenticated_as_the_standard_says() -> None:
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    encapsulated, ciphertext = secret(b"passphrase").seal_to(public, info=INFO, aad=public)

    key, nonce = base_mode(private, encapsulated, INFO)

    assert ChaCha20Poly1305(key).decrypt(nonce, ciphertext, public) == b"passphrase"
    with pytest.raises(InvalidTag):
        ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"")


def test_the_key_schedule_written_here_is_the_standard_s() -> None:
    # RFC 9180, A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.
    recipient = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    )
    encapsulated = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")

    key, nonce = base_mode(recipient, encapsulated, info)

    assert key.hex() == "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"
    assert nonce.hex() == "5c4d98150661b848853b547f"
    plaintext = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
    assert ChaCha20Poly1305(key).encrypt(nonce, plaintext, b"Count-0").hex() == (
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )


@pytest.mark.parametrize("which", ["encapsulated", "ciphertext", "info", "aad"])
def test_a_receiver_opens_once_and_only_its_own(which: str) -> None:
    receiver = _core.HpkeReceiver()
    public = receiver.public_key
    encapsulated, ciphertext = secret(b"passphrase").seal_to(public, info=INFO, aad=public)
    parts = {"encapsulated": encapsulated, "ciphertext": ciphertext, "info": INFO, "aad": public}
    changed = {**parts, which: bytes([parts[which][0] ^ 1]) + parts[which][1:]}

    for attempt in (changed, parts):
        with pytest.raises(FormatError):
            receiver.open(
                attempt["encapsulated"],
                attempt["ciphertext"],
                info=attempt["info"],
                aad=attempt["aad"],
            )


def test_two_messages_to_one_key_share_nothing() -> None:
    public = _core.HpkeReceiver().public_key
    one = secret(b"passphrase").seal_to(public, info=INFO, aad=public)
    other = secret(b"passphrase").seal_to(public, info=INFO, aad=public)
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_a_recovery_key_goes_to_a_descriptor_only() -> None:
    receiver = _core.HpkeReceiver()
    public = receiver.public_key
    encapsulated, ciphertext = secret(b"recovery").seal_to(public, info=INFO, aad=public)
    reader, writer = os.pipe()
    receiver.open_to_fd(encapsulated, ciphertext, info=INFO, aad=public, fd=writer, ending=b"\n")
    os.close(writer)
    assert os.read(reader, 100) == b"recovery\n"
    os.close(reader)


def base_mode(private: X25519PrivateKey, encapsulated: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Return the key and the first nonce of a message. Spec: RFC 9180, 4.1 and 5.1."""
    kem_suite = b"KEM\x00\x20"
    suite = b"HPKE\x00\x20\x00\x01\x00\x03"
    shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + private.public_key().public_bytes_raw()
    prk = _extract(b"", b"eae_prk", shared, kem_suite)
    secret_ = _expand(prk, b"shared_secret", context, kem_suite, length=32)
    schedule = (
        b"\x00"
        + _extract(b"", b"psk_id_hash", b"", suite)
        + _extract(b"", b"info_hash", info, suite)
    )
    key_prk = _extract(secret_, b"secret", b"", suite)
    return (
        _expand(key_prk, b"key", schedule, suite, length=32),
        _expand(key_prk, b"base_nonce", schedule, suite, length=12),
    )


def _extract(salt: bytes, label: bytes, material: bytes, suite: bytes) -> bytes:
    labeled = b"HPKE-v1" + suite + label + material
    return hmac.digest(salt or bytes(32), labeled, hashlib.sha256)


def _expand(prk: bytes, label: bytes, info: bytes, suite: bytes, *, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", hashlib.sha256)[:length]

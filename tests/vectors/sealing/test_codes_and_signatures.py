# SPDX-License-Identifier: Apache-2.0
"""The core's HMAC and Ed25519 against foreign implementations of the same standards.

Spec: RFC 2104; RFC 8032, 5.1.
"""

import hashlib
import hmac
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom import _core
from strongroom.errors import InternalError, LimitError
from tests.vectors.sealing.known import known

pytestmark = pytest.mark.vectors

MESSAGES: Final = (b"", b"\0", b"message", bytes(range(256)) * 300)
SEED: Final = bytes(range(100, 132))


@pytest.mark.parametrize("message", MESSAGES, ids=len)
@pytest.mark.parametrize("length", [1, 31, 32, 63, 64, 65, 200])
def test_hmac_is_the_standard_library_s(message: bytes, length: int) -> None:
    key = bytes(range(1, 1 + length))
    expected = hmac.digest(key, message, hashlib.sha256)

    assert _core.hmac_sha256(known(key), message) == expected
    assert _core.hmac_sha256_matches(known(key), message, expected)
    assert not _core.hmac_sha256_matches(known(key), message + b"?", expected)
    assert not _core.hmac_sha256_matches(known(b"?" + key), message, expected)


def test_no_other_code_matches() -> None:
    key = known(SEED)
    code = hmac.digest(SEED, b"message", hashlib.sha256)
    number = int.from_bytes(code, "big")
    for bit in range(256):
        other = (number ^ 1 << bit).to_bytes(32, "big")
        assert not _core.hmac_sha256_matches(key, b"message", other), bit
    for length in range(32):
        assert not _core.hmac_sha256_matches(key, b"message", code[:length]), length
    assert not _core.hmac_sha256_matches(key, b"message", code + b"\0")


@pytest.mark.parametrize("message", MESSAGES, ids=len)
@pytest.mark.parametrize("seed", [SEED, bytes(32), b"\xff" * 32], ids=["usual", "zeros", "ones"])
def test_ed25519_is_openssl_s(message: bytes, seed: bytes) -> None:
    foreign = Ed25519PrivateKey.from_private_bytes(seed)
    public = foreign.public_key().public_bytes_raw()

    signature = _core.ed25519_sign(known(seed), message)

    assert _core.ed25519_public_key(known(seed)) == public
    assert signature == foreign.sign(message)
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    assert _core.ed25519_verifies(public, message, signature)
    assert not _core.ed25519_verifies(public, message + b"?", signature)


def test_no_other_signature_or_key_verifies() -> None:
    public = _core.ed25519_public_key(known(SEED))
    signature = _core.ed25519_sign(known(SEED), b"message")
    for bit in range(8 * len(signature)):
        other = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
        assert not _core.ed25519_verifies(public, b"message", other), bit
    for bit in range(8 * len(public)):
        other = (int.from_bytes(public, "big") ^ 1 << bit).to_bytes(32, "big")
        assert not _core.ed25519_verifies(other, b"message", signature), bit
    for key, code in ((b"", b""), (public[1:], signature), (public, signature[1:])):
        assert not _core.ed25519_verifies(key, b"message", code)
    for key, code in ((public + b"\0", signature), (public, signature + b"\0")):
        assert not _core.ed25519_verifies(key, b"message", code)


def test_a_key_that_fits_every_message_is_refused_where_openssl_takes_it() -> None:
    # The neutral element as key and point, and the scalar zero: no seed is needed for this.
    neutral = b"\x01" + bytes(31)
    forged = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"any message")
    assert not _core.ed25519_verifies(neutral, b"any message", forged)


def test_a_signature_has_one_encoding() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    public = _core.ed25519_public_key(known(SEED))
    signature = _core.ed25519_sign(known(SEED), b"message")
    scalar = int.from_bytes(signature[32:], "little") + order
    other = signature[:32] + scalar.to_bytes(32, "little")
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(other, b"message")
    assert not _core.ed25519_verifies(public, b"message", other)


@pytest.mark.parametrize("length", [1, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(LimitError):
        _core.ed25519_public_key(known(bytes(length)))
    with pytest.raises(LimitError):
        _core.ed25519_sign(known(bytes(length)), b"message")


def test_an_erased_key_is_never_an_empty_one() -> None:
    key = known(SEED)
    key.erase()
    with pytest.raises(InternalError):
        _core.hmac_sha256(key, b"message")
    with pytest.raises(InternalError):
        _core.ed25519_sign(key, b"message")
    with pytest.raises(InternalError):
        _core.seal_parameters(b"content", key, aad=b"")
    with pytest.raises(InternalError):
        key.base64()

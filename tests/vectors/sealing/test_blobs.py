# SPDX-License-Identifier: Apache-2.0
"""Sealed blobs, made and opened by code that knows the format and shares nothing with the core.

Spec: RFC 5869, RFC 8439; ``_core.seal_secret``.
"""

import os
from typing import Final

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom import _core
from strongroom.errors import LimitError, SealedBlobError
from tests.vectors.sealing.known import known

pytestmark = pytest.mark.vectors

KEY: Final = bytes(range(32))
AAD: Final = b"strongroom test\0place of the blob"
CONTENTS: Final = (b"\n", bytes(range(32)), b"p" * 65536)
SALT_BYTES: Final = 32
OVERHEAD_BYTES: Final = 49
PURPOSES: Final = ("secret", "parameters")


@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("key", [KEY[:16], KEY, KEY * 2], ids=len)
def test_a_foreign_program_opens_what_we_sealed(content: bytes, key: bytes) -> None:
    secret = _core.seal_secret(known(content), known(key), aad=AAD)
    parameters = _core.seal_parameters(content, known(key), aad=AAD)

    assert len(secret) == len(parameters) == len(content) + OVERHEAD_BYTES
    assert foreign_open(secret, key, "secret") == content
    assert foreign_open(parameters, key, "parameters") == content
    with pytest.raises(InvalidTag):
        foreign_open(secret, key, "parameters")


@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("key", [KEY[:16], KEY, KEY * 2], ids=len)
def test_we_open_what_a_foreign_program_sealed(content: bytes, key: bytes) -> None:
    secret = foreign_seal(content, key, "secret")
    parameters = foreign_seal(content, key, "parameters")

    opened = _core.unseal_secret(secret, known(key), aad=AAD)

    assert opened.equals(known(content))
    assert not opened.equals(known(content[:-1] + b"?"))
    assert _core.unseal_parameters(parameters, known(key), aad=AAD) == content


def test_empty_parameters_are_parameters() -> None:
    blob = _core.seal_parameters(b"", known(KEY), aad=b"")
    assert _core.unseal_parameters(blob, known(KEY), aad=b"") == b""


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_changed_bit_is_refused(purpose: str) -> None:
    blob, key = foreign_seal(bytes(32), KEY, purpose), known(KEY)
    number = int.from_bytes(blob, "big")
    for bit in range(8 * len(blob)):
        refuse((number ^ 1 << bit).to_bytes(len(blob), "big"), key, AAD, purpose)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_other_length_is_refused(purpose: str) -> None:
    blob, key = foreign_seal(bytes(32), KEY, purpose), known(KEY)
    for length in range(len(blob)):
        refuse(blob[:length], key, AAD, purpose)
    refuse(blob + b"\0", key, AAD, purpose)
    refuse(b"\x01" + bytes(65536 + OVERHEAD_BYTES), key, AAD, purpose)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_another_key_place_or_purpose_is_refused(purpose: str) -> None:
    blob = foreign_seal(b"content", KEY, purpose)
    other = PURPOSES[1 - PURPOSES.index(purpose)]
    refuse(blob, known(KEY[:-1] + b"?"), AAD, purpose)
    refuse(blob, known(KEY + b"\0"), AAD, purpose)
    for aad in (b"", AAD[:-1], AAD + b"\0"):
        refuse(blob, known(KEY), aad, purpose)
    refuse(blob, known(KEY), AAD, other)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_parts_of_two_blobs_do_not_fit_together(purpose: str) -> None:
    one, other = (foreign_seal(b"content", KEY, purpose) for _ in range(2))
    for cut in range(2, len(one)):
        mixed = one[:cut] + other[cut:]
        # Two random bytes may be equal.
        if mixed not in {one, other}:
            refuse(mixed, known(KEY), AAD, purpose)


def test_blobs_never_repeat() -> None:
    secret, key = known(bytes(32)), known(KEY)
    blobs = [_core.seal_secret(secret, key, aad=AAD) for _ in range(100)]
    blobs += [_core.seal_parameters(bytes(32), key, aad=AAD) for _ in range(100)]
    for start, end in ((1, 33), (33, 65), (65, 81)):
        assert len({blob[start:end] for blob in blobs}) == len(blobs)


def test_an_opened_secret_is_a_copy_of_its_own() -> None:
    secret = known(b"secret")
    blob = _core.seal_secret(secret, known(KEY), aad=AAD)
    secret.erase()
    opened = _core.unseal_secret(blob, known(KEY), aad=AAD)
    assert opened.equals(known(b"secret"))


def test_lengths_out_of_range_are_our_own_fault_and_not_the_blob_s() -> None:
    blob = _core.seal_parameters(b"content", known(KEY), aad=AAD)
    for key in (known(KEY[:15]), known(KEY * 16 + b"?")):
        with pytest.raises(LimitError):
            _core.seal_secret(known(b"content"), key, aad=AAD)
        with pytest.raises(LimitError):
            _core.unseal_parameters(blob, key, aad=AAD)
    with pytest.raises(LimitError):
        _core.seal_parameters(bytes(65537), known(KEY), aad=AAD)


def refuse(blob: bytes, key: _core.Secret, aad: bytes, purpose: str) -> None:
    """Assert that a blob does not open."""
    unseal = _core.unseal_secret if purpose == "secret" else _core.unseal_parameters
    with pytest.raises(SealedBlobError):
        unseal(blob, key, aad=aad)


def foreign_seal(content: bytes, key: bytes, purpose: str) -> bytes:
    """Return a blob, from the words of the contract alone."""
    salt = os.urandom(SALT_BYTES)
    return b"\x01" + salt + blob_cipher(key, salt, purpose).encrypt(bytes(12), content, AAD)


def foreign_open(blob: bytes, key: bytes, purpose: str) -> bytes:
    """Return what a blob holds, from the words of the contract alone."""
    version, salt, sealed = blob[:1], blob[1 : 1 + SALT_BYTES], blob[1 + SALT_BYTES :]
    assert version == b"\x01"
    return blob_cipher(key, salt, purpose).decrypt(bytes(12), sealed, AAD)


def blob_cipher(key: bytes, salt: bytes, purpose: str) -> ChaCha20Poly1305:
    """Return the cipher of one blob."""
    info = f"strongroom/1 sealed {purpose}".encode()
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key))

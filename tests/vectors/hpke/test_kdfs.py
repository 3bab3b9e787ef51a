# SPDX-License-Identifier: Apache-2.0
"""The core's key derivation against foreign implementations of the same standards."""

import hashlib

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2i, Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom import _core
from strongroom.errors import LimitError
from tests.hostile.boundary.evil import secret

pytestmark = pytest.mark.vectors

PASSPHRASES = (b"x", b"correct horse battery staple", b"p" * 200)
SALT = bytes(range(32))


@pytest.mark.parametrize("hash_name", ["sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("passphrase", PASSPHRASES, ids=len)
@pytest.mark.parametrize(("iterations", "length"), [(1, 32), (1000, 64), (7, 1), (3, 129)])
def test_pbkdf2_is_the_standard_library_s(
    hash_name: str, passphrase: bytes, iterations: int, length: int
) -> None:
    derived = _core.pbkdf2(
        secret(passphrase), SALT, hash_name=hash_name, iterations=iterations, length_bytes=length
    )
    expected = hashlib.pbkdf2_hmac(hash_name, passphrase, SALT, iterations, length)

    assert derived.length_bytes == length
    assert derived.equals(exact(expected))


@pytest.mark.parametrize("variant", ["argon2i", "argon2id"])
@pytest.mark.parametrize(("memory", "iterations", "lanes"), [(8, 1, 1), (64, 3, 2), (1024, 4, 4)])
@pytest.mark.parametrize("length", [16, 32, 64])
def test_argon2_is_openssl_s(  # noqa: PLR0917 - parametrized
    variant: str, memory: int, iterations: int, lanes: int, length: int
) -> None:
    derived = _core.argon2(
        secret(PASSPHRASES[1]),
        SALT,
        variant=variant,
        memory_kib=memory,
        iterations=iterations,
        lanes=lanes,
        length_bytes=length,
    )
    foreign = Argon2i if variant == "argon2i" else Argon2id
    expected = foreign(
        salt=SALT, length=length, iterations=iterations, lanes=lanes, memory_cost=memory
    ).derive(PASSPHRASES[1])

    assert derived.equals(exact(expected))


@pytest.mark.parametrize(("memory", "lanes"), [(7, 1), (15, 2)])
def test_argon2_with_too_little_memory_is_refused(memory: int, lanes: int) -> None:
    with pytest.raises(LimitError):
        _core.argon2(
            secret(),
            SALT,
            variant="argon2id",
            memory_kib=memory,
            iterations=1,
            lanes=lanes,
            length_bytes=32,
        )


def test_hkdf_is_that_of_rfc_5869_over_shares_behind_their_lengths() -> None:
    shares = (b"first", b"second share")
    derived = _core.hkdf_sha256(
        [secret(share) for share in shares], salt=SALT, info=b"info", length_bytes=42
    )
    material = b"".join(len(share).to_bytes(8, "big") + share for share in shares)
    expected = HKDF(algorithm=SHA256(), length=42, salt=SALT, info=b"info").derive(material)

    assert derived.equals(exact(expected))


def exact(data: bytes) -> _core.Secret:
    """Return a secret with these bytes: a newline at the end is not dropped from them."""
    return secret(data + b"\n")

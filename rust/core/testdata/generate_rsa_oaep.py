# SPDX-License-Identifier: Apache-2.0
"""Print ``rsa-oaep.txt``: messages that OpenSSL encrypted to RSA keys, with the seeds it used.

Keys and seeds are new with each run. A seed is found again with the private key, by taking the
mask off as RFC 8017, 7.1.2 says; then key and all are thrown away. Run it with Python 3.11 or
later and the package ``cryptography``.
"""

import hashlib
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP

LABEL = b"SECRET\0"
HASHES: dict[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


def mask(seed: bytes, length: int, name: str) -> bytes:
    """Return MGF1 of a seed."""
    blocks = (hashlib.new(name, seed + n.to_bytes(4, "big")).digest() for n in range(length))
    return b"".join(blocks)[:length]


def xor(left: bytes, right: bytes) -> bytes:
    """Return the bitwise difference of two strings of one length."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def seed_of(block: bytes, name: str) -> bytes:
    """Return the seed of a padded message."""
    size = hashlib.new(name).digest_size
    return xor(block[1 : 1 + size], mask(block[1 + size :], size, name))


def main() -> None:
    """Print a line for each length of key and each hash."""
    for bits in (2048, 3072, 4096):
        private = rsa.generate_private_key(65537, bits)
        n, d = private.public_key().public_numbers().n, private.private_numbers().d
        for name, algorithm in HASHES.items():
            message = os.urandom(algorithm.digest_size)
            padding = OAEP(MGF1(algorithm), algorithm, LABEL)
            encrypted = private.public_key().encrypt(message, padding)
            block = pow(int.from_bytes(encrypted, "big"), d, n).to_bytes(bits // 8, "big")
            seed = seed_of(block, name)
            modulus = n.to_bytes(bits // 8, "big")
            print(name, *(part.hex() for part in (modulus, seed, message, encrypted)))


if __name__ == "__main__":
    main()

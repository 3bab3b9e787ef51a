# SPDX-License-Identifier: Apache-2.0
"""Print known answers for ``src/known_answers.rs``, from other implementations than ours.

The anti-forensic merge is written here a second time, from the LUKS1 on-disk format 1.2.3, section
2.4, on Python's ``hashlib``; PBKDF2 is Python's; Argon2 is the reference implementation's, through
its command ``argon2``; sealed blobs are made with the package ``cryptography``. Run it with Python
3.11 or later, that package, and Debian's package ``argon2``.
"""

import hashlib
import subprocess
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ANTI_FORENSIC: Final = (
    ("sha1", 32, 3),
    ("sha224", 64, 5),
    ("sha256", 16, 1),
    ("sha256", 32, 4000),
    ("sha256", 64, 4000),
    ("sha384", 64, 10),
    ("sha512", 96, 4000),
)
ARGON2: Final = (
    ("argon2i", 3, 64, 1, 32),
    ("argon2i", 4, 128, 4, 64),
    ("argon2id", 3, 64, 1, 32),
    ("argon2id", 4, 1024, 4, 64),
    ("argon2id", 2, 100, 3, 16),
)


def diffuse(block: bytes, hash_name: str) -> bytes:
    """Return the block with each digest-sized part replaced by its numbered hash."""
    size = hashlib.new(hash_name).digest_size
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    return b"".join(
        hashlib.new(hash_name, number.to_bytes(4, "big") + part).digest()[: len(part)]
        for number, part in enumerate(parts)
    )


def xor(left: bytes, right: bytes) -> bytes:
    """Return the bitwise difference of two strings of one length."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def merge(area: bytes, key_bytes: int, hash_name: str) -> bytes:
    """Return the key that the stripes in ``area`` hold."""
    stripes = [area[at : at + key_bytes] for at in range(0, len(area), key_bytes)]
    running = bytes(key_bytes)
    for stripe in stripes[:-1]:
        running = diffuse(xor(running, stripe), hash_name)
    return xor(running, stripes[-1])


def counting_bytes(length: int) -> bytes:
    """Return the low bytes of ``n + n / 256``, so that no two stripes are alike."""
    return bytes((n + n // 256) % 256 for n in range(length))


def argon2(variant: str, iterations: int, memory_kib: int, lanes: int, length: int) -> str:  # noqa: PLR0917 - the parameters of the function it describes
    """Return the tag of ``password`` with the salt ``somesalt``, in hex."""
    flag = {"argon2i": "-i", "argon2id": "-id"}[variant]
    command = ["argon2", "somesalt", flag, "-v", "13", "-r", "-t", str(iterations)]
    command += ["-k", str(memory_kib), "-p", str(lanes), "-l", str(length)]
    result = subprocess.run(command, input=b"password", capture_output=True, check=True)
    return result.stdout.decode().strip()


def sealed(purpose: str) -> bytes:
    """Return a blob with the content 40 to 5f, key 00 to 1f, salt 80 to 9f and aad ``context``."""
    salt = bytes(range(0x80, 0xA0))
    info = b"strongroom/1 sealed " + purpose.encode()
    key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(bytes(range(32)))
    content = bytes(range(0x40, 0x60))
    return b"\x01" + salt + ChaCha20Poly1305(key).encrypt(bytes(12), content, b"context")


def main() -> None:
    """Print one line for each known answer."""
    for hash_name, key_bytes, stripes in ANTI_FORENSIC:
        key = merge(counting_bytes(key_bytes * stripes), key_bytes, hash_name)
        print("anti-forensic", hash_name, key_bytes, stripes, key.hex())
    for case in ARGON2:
        print("argon2", *case, argon2(*case))
    for hash_name in ("sha1", "sha224", "sha256", "sha384", "sha512"):
        key = hashlib.pbkdf2_hmac(hash_name, b"password", b"somesalt", 1000, 80)
        print("pbkdf2", hash_name, 1000, key.hex())
    for purpose in ("secret", "parameters"):
        print("sealed", purpose, sealed(purpose).hex())


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Two implementations that are not ours: dissect.fve reads, pyca/cryptography writes."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.interop.cryptsetup.foreign import Volume

_TOOL: Final = Path(__file__).with_name("decrypt.py")
_TOOL_SECONDS: Final = 120
_IV_UNIT_BYTES: Final = 512
"""LUKS2 counts initialisation vectors in 512 bytes, whatever the sector size."""


def read_independently(volume: Volume, key: Path, *, keyslot: int | None = None) -> str:
    """Return the SHA-256 of the plaintext as dissect.fve sees it."""
    header = () if volume.header is None else ("--header", str(volume.header))
    slot = () if keyslot is None else ("--keyslot", str(keyslot))
    done = subprocess.run(
        [sys.executable, "-I", str(_TOOL), str(volume.image), str(key), *header, *slot],
        check=False,
        capture_output=True,
        timeout=_TOOL_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    return hashlib.sha256(done.stdout).hexdigest()


def encrypt_xts(plaintext: bytes, volume_key: bytes, *, sector_bytes: int, tweak: int = 0) -> bytes:
    """Encrypt sectors with aes-xts-plain64."""
    encrypted = bytearray()
    for offset in range(0, len(plaintext), sector_bytes):
        number = tweak + offset // _IV_UNIT_BYTES
        mode = modes.XTS(number.to_bytes(16, "little"))
        encryptor = Cipher(algorithms.AES(volume_key), mode).encryptor()
        encrypted += encryptor.update(plaintext[offset : offset + sector_bytes])
    return bytes(encrypted)


def encrypt_cbc_essiv(plaintext: bytes, volume_key: bytes, *, sector_bytes: int) -> bytes:
    """Encrypt sectors with aes-cbc-essiv:sha256."""
    salt = algorithms.AES(hashlib.sha256(volume_key).digest())
    encrypted = bytearray()
    for offset in range(0, len(plaintext), sector_bytes):
        number = (offset // _IV_UNIT_BYTES).to_bytes(16, "little")
        vector = Cipher(salt, modes.ECB()).encryptor().update(number)  # noqa: S305  # it is ESSIV
        encryptor = Cipher(algorithms.AES(volume_key), modes.CBC(vector)).encryptor()
        encrypted += encryptor.update(plaintext[offset : offset + sector_bytes])
    return bytes(encrypted)

# SPDX-License-Identifier: Apache-2.0
"""What an image holds, worked out without any of our code: cryptsetup's key, pyca's AES-XTS."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.harness import Operator

TWEAK_UNIT_BYTES: Final = 512
"""plain64 counts these, whatever the size of a sector."""


def volume_key(operator: Operator, image: Path) -> bytes:
    """Have cryptsetup unlock a keyslot and give the volume key."""
    path = operator.place / "volume-key"
    operator.run(
        *("cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key"),
        *("--key-file", operator.key_file, "--volume-key-file", path, image),
    )
    key = path.read_bytes()
    path.unlink()
    return key


def decrypt(key: bytes, ciphertext: bytes, *, sector_bytes: int) -> bytes:
    """Decrypt aes-xts-plain64 whose first sector has the number zero."""
    cipher = algorithms.AES(key)
    plaintext = bytearray()
    for start in range(0, len(ciphertext), sector_bytes):
        tweak = (start // TWEAK_UNIT_BYTES).to_bytes(16, "little")
        sector = Cipher(cipher, modes.XTS(tweak)).decryptor()
        plaintext += sector.update(ciphertext[start : start + sector_bytes])
    return bytes(plaintext)


def plaintext(operator: Operator, image: Path) -> bytes:
    """Return the whole content of a volume whose first key file passphrase is the operator's."""
    layout = operator.facts("dump", image)["segments"]["0"]
    start = layout["offset_bytes"]
    ciphertext = image.read_bytes()[start:]
    key = volume_key(operator, image)
    return decrypt(key, ciphertext, sector_bytes=layout["sector_size_bytes"])

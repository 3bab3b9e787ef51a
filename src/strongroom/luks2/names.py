# SPDX-License-Identifier: Apache-2.0
"""The allow-lists: which ciphers and hashes may be used, and at what cost."""

from typing import Final

from strongroom.errors import LimitError, UnsupportedCipherError
from strongroom.luks2._text import shown
from strongroom.luks2.limits import CIPHER_KEY_BYTES, HASHES

_NULL: Final = "null"


def is_null(cipher: str) -> bool:
    """Tell whether a cipher does not encrypt. Spec: CVE-2025-59054."""
    return _NULL in cipher.lower()


def check_cipher(name: str, cipher: str) -> None:
    """Refuse a cipher that is not on the list.

    Raises:
        UnsupportedCipherError: It is not; a null cipher gets a message of its own, since a header
            that carries one was most likely forged to make the volume take plaintext.
    """
    if cipher in CIPHER_KEY_BYTES:
        return
    if is_null(cipher):
        raise UnsupportedCipherError(
            f"{name} uses {shown(cipher)}, which does not encrypt",
            hint="somebody may have changed this header; restore a backup that you trust",
        )
    raise UnsupportedCipherError(
        f"{name} uses the cipher {shown(cipher)}, which is not supported",
        hint=f"supported ciphers are {', '.join(CIPHER_KEY_BYTES)}",
    )


def check_hash(name: str, hash_name: str) -> None:
    """Refuse a hash that is not on the list.

    Raises:
        UnsupportedCipherError: It is not.
    """
    if hash_name not in HASHES:
        raise UnsupportedCipherError(
            f"{name} uses the hash {shown(hash_name)}, which is not supported",
            hint=f"supported hashes are {', '.join(HASHES)}",
        )


def check_cost(name: str, parameter: str, value: int, *, lowest: int = 1, highest: int) -> None:
    """Refuse a cost that is out of its range.

    Raises:
        LimitError: It is.
    """
    if not lowest <= value <= highest:
        raise LimitError(
            f"{name} has {parameter} {value}, and the limits are {lowest} to {highest}",
            hint="a cost beyond the limits can only be meant to keep this machine busy",
        )

# SPDX-License-Identifier: Apache-2.0
"""Sizes as people write them: a whole number and one of K, M, G, T, which are powers of 1024."""

import re
from typing import Final

from strongroom.errors import UsageError
from strongroom.units import GIB, KIB, MIB, ByteCount, KibiBytes

UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
MAX_SIZE_BYTES: Final = 2**63 - 512
"""The largest file that Linux can describe, on the sector grid."""

_SIZE = re.compile(r"([0-9]{1,19})([KMGT]?)(?:iB)?", re.ASCII)
_HINT = "write a whole number with K, M, G or T, which are powers of 1024: 512M, 20G"


def parse_size(text: str) -> ByteCount:
    """Return the size that ``text`` names, in bytes; a number without a unit is bytes.

    Nothing is guessed: ``1.5G``, ``1g``, ``1 G`` and ``1GB`` (1000 or 1024?) are refused.

    Raises:
        UsageError: It is not such a number, or zero, or more than :data:`MAX_SIZE_BYTES`.
    """
    return ByteCount(_parse(text, plain_unit=""))


def parse_memory(text: str) -> KibiBytes:
    """Return an amount of memory in KiB; a number without a unit is KiB, as in cryptsetup.

    Raises:
        UsageError: As :func:`parse_size`.
    """
    return KibiBytes(_parse(text, plain_unit="K") // KIB)


def _parse(text: str, *, plain_unit: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or (text.endswith("iB") and not match[2]):
        raise UsageError(f"not a size: {text}", hint=_HINT)
    size = int(match[1]) * UNITS[match[2] or plain_unit]
    if size == 0:
        raise UsageError("the size is zero", hint=_HINT)
    if size > MAX_SIZE_BYTES:
        raise UsageError(f"too large a size: {text}", hint="8 EiB is the limit of Linux")
    return size


def size_words(size_bytes: int) -> str:
    """Return a size for people, such as ``1.5 GiB``, to two decimals."""
    amount, unit = size_bytes, "bytes"
    for letter in "KMGT":
        if size_bytes < UNITS[letter]:
            break
        amount, unit = UNITS[letter], f"{letter}iB"
    if unit == "bytes":
        return f"{size_bytes} bytes"
    text = f"{size_bytes / amount:.2f}".rstrip("0").rstrip(".")
    return f"{text} {unit}"

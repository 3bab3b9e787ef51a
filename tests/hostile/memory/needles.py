# SPDX-License-Identifier: Apache-2.0
"""Every form in which the secrets of a volume might lie in memory.

Computed here from the passphrase and the volume key with nothing of Strongroom's, so that a
mistake in its key handling cannot hide itself.
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PIECE_BYTES: Final = 8
"""The shortest remains that count as found: what one general register holds."""
TEXT_PIECE_BYTES: Final = 16
"""The shortest remains that are searched as text."""
XTS_HALF_BYTES: Final = 32
_ROUND_KEY_BYTES: Final = 16
_HMAC_PADS: Final = (("inner", 0x36), ("outer", 0x5C))


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be found, by name."""

    passphrases: dict[str, bytes]
    keys: dict[str, bytes]
    """Keys of AES-XTS, two halves each."""
    others: dict[str, bytes]
    keyed: dict[str, bytes] = field(default_factory=dict)
    """Keys of HMAC-SHA256 and HKDF-SHA256, of up to 64 bytes."""

    def __or__(self, other: "Secrets") -> "Secrets":
        """Return the secrets of both; where they have a name in common, that of ``other``."""
        return Secrets(
            self.passphrases | other.passphrases,
            self.keys | other.keys,
            self.others | other.others,
            self.keyed | other.keyed,
        )

    def needles(self) -> dict[bytes, str]:
        """Return every needle with a name that says what it is of."""
        found: dict[bytes, str] = {}
        for name, value in (self.passphrases | self.keys | self.keyed).items():
            found |= _forms(name, value)
            found |= _hmac_forms(name, value)
        for name, value in self.passphrases.items():
            for encoding in ("utf-16-le", "utf-32-le"):
                found[value.decode().encode(encoding)] = f"{name}, {encoding}"
        for name, value in self.others.items():
            found |= _forms(name, value)
        for name, key in self.keyed.items():
            found |= _hmac_state_forms(name, key)
        for name, key in self.keys.items():
            found |= _schedule_forms(name, key)
        return found


def sha256_state(block: bytes) -> bytes:
    """Return the state of SHA-256 after one block: who has it needs the block no more.

    Spec: FIPS 180-4, 6.2.2.
    """
    words = list(struct.unpack(">16I", block))
    for at in range(16, 64):
        one, other = words[at - 15], words[at - 2]
        small = _turned(one, 7) ^ _turned(one, 18) ^ one >> 3
        great = _turned(other, 17) ^ _turned(other, 19) ^ other >> 10
        words.append((words[at - 16] + small + words[at - 7] + great) & _WORD)
    a, b, c, d, e, f, g, h = _SHA256_START
    for constant, word in zip(_SHA256_CONSTANTS, words, strict=True):
        great = _turned(e, 6) ^ _turned(e, 11) ^ _turned(e, 25)
        first = h + great + (e & f ^ ~e & g) + constant + word
        second = (_turned(a, 2) ^ _turned(a, 13) ^ _turned(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (first + second) & _WORD, a, b, c, (d + first) & _WORD, e, f, g
    after = zip(_SHA256_START, (a, b, c, d, e, f, g, h), strict=True)
    return struct.pack(">8I", *((old + new) & _WORD for old, new in after))


def round_keys(key: bytes) -> list[bytes]:
    """Return the round keys of AES-128, AES-192 or AES-256. Spec: FIPS 197, 5.2."""
    width = len(key) // 4
    words = [key[at : at + 4] for at in range(0, len(key), 4)]
    constant = 1
    while len(words) < 4 * (width + 7):
        word = words[-1]
        if len(words) % width == 0:
            word = bytes(_SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times_x(constant)
        elif width == 8 and len(words) % 8 == 4:
            word = bytes(_SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(word, words[-width], strict=True)))
    return [b"".join(words[at : at + 4]) for at in range(0, len(words), 4)]


def inverse_round_keys(key: bytes) -> list[bytes]:
    """Return the round keys of the equivalent inverse cipher that differ from those of the cipher,
    in the order of the cipher. Spec: FIPS 197, 5.3.5.
    """
    return [
        b"".join(_inverse_mixed(each[at : at + 4]) for at in range(0, _ROUND_KEY_BYTES, 4))
        for each in round_keys(key)[1:-1]
    ]


def _schedule_forms(name: str, key: bytes) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for number, start in enumerate(range(0, len(key), XTS_HALF_BYTES), 1):
        half = key[start : start + XTS_HALF_BYTES]
        for index, round_key in enumerate(round_keys(half)):
            found |= _forms(f"{name}, half {number}, round key {index}", round_key)
        for index, round_key in enumerate(inverse_round_keys(half), 1):
            found |= _forms(f"{name}, half {number}, inverse round key {index}", round_key)
    return found


def _hmac_forms(name: str, key: bytes) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for side, pad in _HMAC_PADS:
        found |= _raw_forms(f"{name}, {side} hmac block", _padded(key, pad))
    return found


def _hmac_state_forms(name: str, key: bytes) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for side, pad in _HMAC_PADS:
        block = _padded(key.ljust(_BLOCK_BYTES, b"\0"), pad)
        found |= _raw_forms(f"{name}, {side} hmac state", sha256_state(block))
    return found


def _forms(name: str, value: bytes) -> dict[bytes, str]:
    return _raw_forms(name, value) | _text_forms(name, value)


def _raw_forms(name: str, value: bytes) -> dict[bytes, str]:
    """Return the pieces in memory order, and as words of 4 and of 8 bytes of the other order."""
    found = {}
    for piece in _pieces(value, PIECE_BYTES):
        found[piece[3::-1] + piece[:3:-1]] = f"{name}, words swapped"
        found[piece[::-1]] = f"{name}, double words swapped"
    return found | dict.fromkeys(_pieces(value, PIECE_BYTES), name)


def _text_forms(name: str, value: bytes) -> dict[bytes, str]:
    found = {}
    for piece in _pieces(value, TEXT_PIECE_BYTES):
        found[piece.hex().encode()] = f"{name}, hex"
        found[piece.hex().upper().encode()] = f"{name}, upper hex"
        for shift in range(3):
            # The characters at the ends depend on the neighbours too.
            padded = bytes(shift) + piece
            text = base64.b64encode(padded)[-(-8 * shift // 6) : 8 * len(padded) // 6]
            found[text] = f"{name}, base64"
            found[text.translate(_URL_SAFE)] = f"{name}, base64"
    return found


def _pieces(value: bytes, size: int) -> Iterator[bytes]:
    """Yield neighbouring pieces; the last one overlaps the one before it if it must."""
    for at in range(0, len(value) - size, size):
        yield value[at : at + size]
    yield value[-size:]


def _padded(value: bytes, pad: int) -> bytes:
    return bytes(byte ^ pad for byte in value)


def _times_x(byte: int) -> int:
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def _times(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = _times_x(a), b >> 1
    return product


def _inverse_mixed(column: bytes) -> bytes:
    factors = (14, 11, 13, 9)
    return bytes(
        _times(column[row], factors[0])
        ^ _times(column[(row + 1) % 4], factors[1])
        ^ _times(column[(row + 2) % 4], factors[2])
        ^ _times(column[(row + 3) % 4], factors[3])
        for row in range(4)
    )


def _sbox() -> bytes:
    """Return the S-box, computed from its definition. Spec: FIPS 197, 5.1.1."""
    logarithms, powers, power = {}, [], 1
    for exponent in range(255):
        logarithms[power] = exponent
        powers.append(power)
        power = _times(power, 3)
    inverses = [0] + [powers[-logarithms[byte] % 255] for byte in range(1, 256)]
    return bytes(map(_affine, inverses))


def _affine(byte: int) -> int:
    twice = byte * 0x101
    return 0x63 ^ byte ^ (twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7) & 0xFF


def _turned(word: int, bits: int) -> int:
    return (word >> bits | word << 32 - bits) & _WORD


def _root_bits(number: int, degree: int) -> int:
    """Return the first 32 bits behind the point of a square or cube root."""
    scaled, low, high = number << 32 * degree, 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= scaled else (low, middle - 1)
    return low & _WORD


_WORD: Final = 0xFFFFFFFF
_BLOCK_BYTES: Final = 64
_PRIMES: Final = [
    number for number in range(2, 312) if all(number % other for other in range(2, number))
]
_SHA256_START: Final = tuple(_root_bits(prime, 2) for prime in _PRIMES[:8])
_SHA256_CONSTANTS: Final = tuple(_root_bits(prime, 3) for prime in _PRIMES)
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_SBOX: Final = _sbox()

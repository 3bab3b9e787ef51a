# SPDX-License-Identifier: Apache-2.0
"""Every bit of an authenticated header, flipped by somebody who mends the checksum: all noticed."""

import re
from collections import Counter

import pytest

from strongroom.luks2 import HeaderCopy

from .enrolled import HDR, Areas, enrolled, load, material, report, resummed, verdict, written

pytestmark = pytest.mark.hostile

HEADER = enrolled()
IMAGE = written(HEADER)
AREAS: Areas = material(HEADER)
BASE64 = re.compile(rb"([A-Za-z0-9+/]{40,})")
TEXT_BYTES = len(HEADER.metadata.json_text)


def flipped(byte: int, bit: int) -> bytes:
    """Return the image with one bit of its primary copy flipped, and no secondary copy."""
    copy = bytearray(IMAGE[:HDR])
    copy[byte] ^= 1 << bit
    return resummed(copy) + bytes(HDR) + IMAGE[2 * HDR :]


def verdict_of(flip: bytes) -> str:
    return verdict(flip, AREAS)


def test_the_header_itself_is_authentic() -> None:
    assert load(IMAGE).canonical
    assert load(IMAGE).broken == ()
    assert verdict(IMAGE) == "unnoticed"


def test_every_bit_of_the_binary_header() -> None:
    # The checksum itself is not flipped but computed; what it leaves of its field is.
    fields = [byte for byte in range(512) if not 448 <= byte < 480]
    places = [
        (byte, bit)
        for byte in fields
        for bit in (
            range(8) if byte < 32 or (IMAGE[byte] and not 104 <= byte < 168) else (byte % 8,)
        )
    ]
    places += [(byte, byte % 8) for byte in range(512, 4096, 29)]
    verdicts = Counter(verdict_of(flipped(byte, bit)) for byte, bit in places)
    report("binary header", verdicts)
    assert verdicts["unnoticed"] == 0
    assert {"refused", "tampered", "foreign change", "not canonical"} == set(verdicts)


def test_every_bit_of_the_metadata() -> None:
    # The highest bit leaves ASCII, where no byte stands alone: one in seven shows that. Inside long
    # base64 all characters are alike, so two bits of each are enough.
    places = [(4096 + at, 7) for at in range(0, TEXT_BYTES, 7)]
    for run, text in enumerate(BASE64.split(HEADER.metadata.json_text)):
        start = len(b"".join(BASE64.split(HEADER.metadata.json_text)[:run]))
        for at in range(start, start + len(text)):
            bits = (at % 7, (at + 3) % 7) if run % 2 else range(7)
            places += [(4096 + at, bit) for bit in bits]
    verdicts = Counter(verdict_of(flipped(byte, bit)) for byte, bit in places)
    report("metadata", verdicts)
    assert verdicts["unnoticed"] == 0
    assert {"refused", "wrong code", "tampered", "foreign change", "damaged"} <= set(verdicts)


def test_padding_behind_the_metadata() -> None:
    verdicts = Counter(
        verdict_of(flipped(byte, byte % 8)) for byte in range(4096 + TEXT_BYTES, HDR, 97)
    )
    report("padding", verdicts)
    assert set(verdicts) == {"refused"}


def test_every_field_of_the_other_copy_is_repaired() -> None:
    """It is not used, so it is no threat; but it must not keep what nobody wrote there."""
    for byte in (*range(8, 512, 5), *range(512, HDR, 311)):
        copy = bytearray(IMAGE[HDR : 2 * HDR])
        copy[byte] ^= 0x10
        loaded = load(IMAGE[:HDR] + resummed(copy) + IMAGE[2 * HDR :])
        newer = loaded.used is HeaderCopy.SECONDARY  # a flip of the sequence number
        assert newer or loaded.broken == (HeaderCopy.SECONDARY,) or 448 <= byte < 480, byte
        assert newer or loaded.canonical


@pytest.mark.parametrize("slot", [0, 1])
def test_key_material(slot: int) -> None:
    verdicts = Counter[str]()
    for byte in range(0, len(AREAS[slot]), 16001):
        changed = bytearray(AREAS[slot])
        changed[byte] ^= 1
        verdicts[verdict(IMAGE, AREAS | {slot: bytes(changed)})] += 1
    assert set(verdicts) == {"damaged"}


def test_what_follows_the_key_material_does_not_matter() -> None:
    assert verdict(IMAGE, {slot: area + b"rest" for slot, area in AREAS.items()}) == "unnoticed"


def test_key_material_that_is_not_there() -> None:
    assert verdict(IMAGE, {0: AREAS[0]}) == "damaged"
    assert verdict(IMAGE, {0: AREAS[0], 1: AREAS[1][:-1]}) == "damaged"

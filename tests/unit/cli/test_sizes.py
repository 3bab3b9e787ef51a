# SPDX-License-Identifier: Apache-2.0
"""Sizes are whole numbers with unambiguous units, and everything else is refused."""

import pytest

from strongroom.cli.sizes import MAX_SIZE_BYTES, parse_memory, parse_size, size_words
from strongroom.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("1K", 1024),
        ("512M", 512 << 20),
        ("1G", 1 << 30),
        ("20GiB", 20 << 30),
        ("3T", 3 << 40),
        (str(MAX_SIZE_BYTES), MAX_SIZE_BYTES),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0G", "-1", "+1", "1.5G", "1g", "1 G", " 1G", "1G ", "1GB", "1B", "1iB", "1P"),
        *(
            "0x10",
            "1e9",
            "1_000",
            "\u0661",
            "G",
            "1GG",
            "9" * 20,
            "8388608T",
            "9223372036854775808",
        ),
        "1G\n",
    ],
)
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(("text", "kib"), [("65536", 65536), ("512M", 524288), ("1G", 1 << 20)])
def test_memory_without_unit_is_kib(text: str, kib: int) -> None:
    assert parse_memory(text) == kib


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 30) - (16 << 20), "1008 MiB"),
        (1 << 30, "1 GiB"),
        (5 << 40, "5 TiB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert size_words(size) == words

# SPDX-License-Identifier: Apache-2.0
"""Numbers and sized buffers: every byte has its meaning, and none is left over."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import InternalError, TpmTamperedError
from strongroom.tpm.marshal import Reader, sized, u8, u16, u32, u64

pytestmark = pytest.mark.unit

Take = Callable[[Reader], object]
NUMBERS: dict[int, Take] = {1: Reader.u8, 2: Reader.u16, 4: Reader.u32, 8: Reader.u64}


def test_numbers_are_big_endian() -> None:
    assert u8(0x01) + u16(0x0203) + u32(0x04050607) == bytes(range(1, 8))
    assert u64(0x0102030405060708) == bytes(range(1, 9))
    reader = Reader(bytes(range(1, 16)))
    assert (reader.u8(), reader.u16(), reader.u32()) == (0x01, 0x0203, 0x04050607)
    assert reader.u64() == 0x08090A0B0C0D0E0F
    reader.end()


@pytest.mark.parametrize("write", [u8, u16, u32, u64])
def test_no_number_is_cut(write: Callable[[int], bytes]) -> None:
    largest = 2 ** (8 * len(write(0))) - 1
    assert write(largest) == b"\xff" * len(write(0))
    for number in (largest + 1, -1):
        with pytest.raises(OverflowError):
            write(number)


@pytest.mark.parametrize("size", NUMBERS)
def test_a_number_that_ends_too_early_is_refused(size: int) -> None:
    for length in range(size):
        with pytest.raises(TpmTamperedError, match="too early"):
            NUMBERS[size](Reader(bytes(length)))


@given(st.binary(max_size=300), st.binary(max_size=8))
def test_sized_buffers_come_back(content: bytes, after: bytes) -> None:
    reader = Reader(sized(content) + after)
    assert reader.sized() == content
    assert reader.rest() == after
    reader.end()


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_sized_buffer_that_ends_too_early_is_refused(content: bytes, data: st.DataObject) -> None:
    whole = sized(content)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(TpmTamperedError, match="too early"):
        Reader(whole[:cut]).sized()


def test_the_longest_sized_buffer() -> None:
    assert Reader(sized(bytes(0xFFFF))).sized() == bytes(0xFFFF)
    with pytest.raises(InternalError):
        sized(bytes(0x10000))


def test_what_is_left_over_is_refused() -> None:
    reader = Reader(b"\0\1")
    for _ in range(2):
        with pytest.raises(TpmTamperedError, match="followed by"):
            reader.end()
        reader.u8()
    reader.end()

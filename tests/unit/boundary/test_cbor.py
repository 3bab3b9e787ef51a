# SPDX-License-Identifier: Apache-2.0
"""The wire encoding against a foreign codec, and against every other way to write the same."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.boundary import cbor
from strongroom.boundary.cbor import Value
from strongroom.errors import BoundaryError

pytestmark = pytest.mark.unit

INTEGERS = st.integers(-(2**64), 2**64 - 1) | st.sampled_from(
    [
        n
        for edge in (0, 23, 24, 255, 256, 2**16, 2**32, 2**63, 2**64 - 1)
        for n in (edge, -edge, -edge - 1, max(0, edge - 1))
    ]
)
LEAVES = st.none() | st.booleans() | INTEGERS | st.binary(max_size=300) | st.text(max_size=90)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=40), inner, max_size=5)
    ),
    max_leaves=20,
)
FEW = settings(max_examples=60, deadline=None)


def nesting(value: Value) -> int:
    """Return how many arrays and maps are around the deepest value."""
    match value:
        case list():
            return 1 + max(map(nesting, value), default=0)
        case dict():
            return 1 + max(map(nesting, value.values()), default=0)
        case _:
            return 0


@FEW
@given(VALUES.filter(lambda value: nesting(value) < cbor.MAX_DEPTH))
def test_a_foreign_codec_writes_and_reads_the_same(value: Value) -> None:
    data = cbor.encode(value)

    assert data == cbor2.dumps(value, canonical=True)
    assert cbor2.loads(data) == value
    assert cbor.decode(data) == value


@FEW
@given(VALUES)
def test_true_is_not_one(value: Value) -> None:
    if nesting(value) < cbor.MAX_DEPTH:
        assert repr(cbor.decode(cbor.encode([value, True, 1, False, 0]))) == repr(
            cbor2.loads(cbor2.dumps([value, True, 1, False, 0], canonical=True))
        )


@FEW
@given(st.binary(max_size=60))
def test_whatever_is_accepted_has_one_encoding(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except BoundaryError:
        return
    assert cbor.encode(value) == data
    assert cbor2.dumps(value, canonical=True) == data


@FEW
@given(VALUES.filter(lambda value: nesting(value) < cbor.MAX_DEPTH), st.data())
def test_a_changed_message_is_refused_or_is_another_message(
    value: Value, data: st.DataObject
) -> None:
    good = cbor.encode(value)
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] ^= data.draw(st.integers(1, 255))
    try:
        decoded = cbor.decode(bytes(bad))
    except BoundaryError:
        return
    assert cbor.encode(decoded) == bytes(bad) != good


@FEW
@given(VALUES.filter(lambda value: nesting(value) < cbor.MAX_DEPTH))
def test_every_cut_and_every_addition_is_refused(value: Value) -> None:
    data = cbor.encode(value)

    for end in range(min(len(data), 64)):
        with pytest.raises(BoundaryError):
            cbor.decode(data[:end])
    with pytest.raises(BoundaryError):
        cbor.decode(data[:-1])
    with pytest.raises(BoundaryError, match="stray"):
        cbor.decode(data + b"\x00")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing", ""),
        ("0 in two bytes", "1800"),
        ("23 in two bytes", "1817"),
        ("255 in three bytes", "1900ff"),
        ("65535 in five bytes", "1a0000ffff"),
        ("2**32-1 in nine bytes", "1b00000000ffffffff"),
        ("-1 in two bytes", "3800"),
        ("a long length of a byte string", "580161"),
        ("a long length of a text", "780161"),
        ("a long length of an array", "980101"),
        ("a long length of a map", "b801616101"),
        ("an indefinite byte string", "5f4161ff"),
        ("an indefinite text", "7f6161ff"),
        ("an indefinite array", "9f01ff"),
        ("an indefinite map", "bf616101ff"),
        ("a break without a beginning", "ff"),
        ("reserved additional 28", "1c"),
        ("reserved additional 29", "1d"),
        ("reserved additional 30", "1e"),
        ("an indefinite integer", "1f"),
        ("an indefinite negative", "3f"),
        ("a tag: date", "c074323031332d30332d32315432303a30343a30305a"),
        ("a tag: big number", "c249010000000000000000"),
        ("a tag: shared reference", "d81c80"),
        ("a tag: regular expression", "d8236128"),
        ("a tag: self-described", "d9d9f700"),
        ("a half float", "f93c00"),
        ("a float", "fa3f800000"),
        ("a double", "fb3ff0000000000000"),
        ("a NaN", "f97e00"),
        ("undefined", "f7"),
        ("simple value 0", "e0"),
        ("simple value 19", "f3"),
        ("simple value 23 in two bytes", "f817"),
        ("false in two bytes", "f814"),
        ("simple value 255", "f8ff"),
        ("a map with its keys out of order", "a2616201616101"),
        ("a map with a long key before a short one", "a262616101616201"),
        ("a map with the same key twice", "a2616101616102"),
        ("a map with an integer key", "a10101"),
        ("a map with a byte string key", "a1416101"),
        ("a map with an array key", "a1800"),
        ("a map with null as key", "a1f601"),
        ("text that is not UTF-8", "61ff"),
        ("text with a surrogate", "63eda080"),
        ("text in overlong UTF-8", "62c0af"),
        ("an array of 2**64-1", "9bffffffffffffffff"),
        ("an array of 2**31", "9a80000000"),
        ("a map of 2**64-1", "bbffffffffffffffff"),
        ("a byte string of 2**64-1", "5bffffffffffffffff"),
        ("a text of 2**63", "7b8000000000000000"),
        ("arrays 100000 deep", "81" * 100_000),
        ("maps 100000 deep", "a16161" * 100_000),
        ("maps as keys 100000 deep", "a1" * 100_000),
    ],
)
def test_another_form_is_refused(name: str, data: str) -> None:
    del name
    raw = bytes.fromhex(data + "0" * (len(data) % 2))
    with pytest.raises(BoundaryError):
        cbor.decode(raw)


def test_nesting_ends_at_the_same_level_in_both_directions() -> None:
    value: Value = 0
    for _ in range(cbor.MAX_DEPTH):
        value = [value]
    assert cbor.decode(cbor.encode(value)) == value

    with pytest.raises(BoundaryError, match="deep"):
        cbor.encode([value])
    with pytest.raises(BoundaryError, match="deep"):
        cbor.decode(b"\x81" + cbor.encode(value))
    with pytest.raises(BoundaryError, match="deep"):
        cbor.encode({"key": value})


@pytest.mark.parametrize("number", [2**64, -(2**64) - 1, 2**200])
def test_a_big_number_is_not_written(number: int) -> None:
    with pytest.raises(BoundaryError, match="large"):
        cbor.encode(number)


def test_text_that_has_no_encoding_is_not_written() -> None:
    with pytest.raises(BoundaryError):
        cbor.encode("\ud800")
    with pytest.raises(BoundaryError):
        cbor.encode({"\udfff": 1})

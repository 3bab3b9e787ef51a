# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON against the examples of RFC 8785, and what goes beyond them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.luks2 import JsonValue, canonical_json
from strongroom.luks2._json import parse_json

pytestmark = pytest.mark.unit


def test_sorting_as_in_the_rfc() -> None:
    """RFC 8785, 3.2.3: by UTF-16 code units, so a smiley sorts before a Hebrew ligature."""
    value: JsonValue = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    names = list(json.loads(canonical_json(value)))
    assert names == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_and_literals_as_in_the_rfc() -> None:
    """RFC 8785, 3.2.2 to 3.2.4, without its floats."""
    text = '{"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/",'
    text += '"literals":[null,true,false]}'
    expected = '{"literals":[null,true,false],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical_json(json.loads(text)) == expected.encode()


def test_all_control_characters() -> None:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
    for number in range(32):
        expected = short.get(number, f"\\u{number:04x}")
        assert canonical_json(chr(number)) == f'"{expected}"'.encode()
    assert canonical_json("\x7f\u2028") == '"\x7f\u2028"'.encode()


@pytest.mark.parametrize("value", [0, -1, 2**53 - 1, 1 - 2**53, 2**53, 2**64 - 1, -(2**63)])
def test_integers(value: int) -> None:
    assert canonical_json([value, {}, []]) == f"[{value},{{}},[]]".encode()


@pytest.mark.parametrize("text", ["1.5", "1.50", "1E3", "-0", "NaN", "-Infinity", "9" * 40])
def test_other_numbers_are_their_text(text: str) -> None:
    value = parse_json(f'{{"b":[{text}],"a":1}}'.encode())
    assert canonical_json(value) == f'{{"a":1,"b":[{text}]}}'.encode()


def test_bytes_that_are_not_utf_8_stay() -> None:
    assert canonical_json(parse_json(b'{"b\xff":"\xc0\x80\xed\xa0\x80","a":"\\u0000"}')) == (
        b'{"a":"\\u0000","b\xff":"\xc0\x80\xed\xa0\x80"}'
    )


@pytest.mark.parametrize("value", [1.0, float("nan"), b"", "\ud800"])
def test_what_has_no_canonical_form(value: object) -> None:
    with pytest.raises(FormatError):
        canonical_json({"a": [value]})  # type: ignore[list-item]


def test_names_without_a_canonical_form() -> None:
    with pytest.raises(FormatError):
        canonical_json({"\ud800": 1})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(value=VALUES)
def test_it_is_the_same_value_and_its_own_canonical_form(value: JsonValue) -> None:
    once = canonical_json(value)
    assert json.loads(once) == value
    assert canonical_json(json.loads(once)) == once

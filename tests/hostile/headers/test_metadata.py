# SPDX-License-Identifier: Apache-2.0
"""Every rule about the JSON area, broken one at a time: the right error, by its exact class."""

import json
import time
from typing import Any

import pytest

from strongroom.errors import (
    BoundsError,
    FormatError,
    LimitError,
    StrongroomError,
    TruncatedError,
    UnsupportedCipherError,
    UnsupportedRequirementError,
)
from strongroom.luks2 import (
    LoadedHeader,
    canonical_json,
    describe,
    load_header,
    recovery_token,
    strongroom_token,
    with_token,
    without_token,
)
from strongroom.luks2._json import JsonObject, parse_json
from strongroom.units import ByteCount

from .forge import IMAGE_BYTES, SALT, Tree, forge, keyslot, text_of, tree

pytestmark = pytest.mark.hostile

SLOT, AREA, AF, KDF = "keyslots.0", "keyslots.0.area", "keyslots.0.af", "keyslots.0.kdf"
SEGMENT, DIGEST = "segments.0", "digests.0"
DELETE = object()
PBKDF2 = {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": SALT}
TOKEN: Tree = {"type": "x", "keyslots": []}


def load(private_copy: bytes, *, detached: bool = False) -> LoadedHeader:
    return load_header(private_copy, image_size_bytes=ByteCount(IMAGE_BYTES), detached=detached)


def changed(path: str, value: object) -> Tree:
    root = tree()
    *parents, last = path.split(".")
    place: Any = root
    for name in parents:
        place = place[name]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return root


def changed_in(root: Tree, path: str, name: str, value: object) -> Tree:
    """Return a tree with a member more, in a place that may be the whole."""
    place: Any = root
    for step in path.split(".") if path else ():
        place = place[step]
    place[name] = value
    return root


WRONG: list[tuple[str, object, type[StrongroomError], str]] = [
    # allow-lists
    (f"{SEGMENT}.encryption", "cipher_null-ecb", UnsupportedCipherError, "does not encrypt"),
    (f"{SEGMENT}.encryption", "capi:xts(ecb_NULL)", UnsupportedCipherError, "does not encrypt"),
    (f"{SEGMENT}.encryption", "serpent-xts-plain64", UnsupportedCipherError, "serpent"),
    (f"{SEGMENT}.encryption", "aes-xts-plain", UnsupportedCipherError, '"aes-xts-plain"'),
    (f"{AREA}.encryption", "cipher_null-ecb", UnsupportedCipherError, "keyslot 0 area"),
    (f"{AREA}.encryption", "twofish-xts-plain64", UnsupportedCipherError, "twofish"),
    (f"{AREA}.key_size", 16, UnsupportedCipherError, "16 bytes"),
    (f"{AF}.hash", "md5", UnsupportedCipherError, "md5"),
    (KDF, PBKDF2 | {"hash": "whirlpool"}, UnsupportedCipherError, "whirlpool"),
    (f"{KDF}.type", "scrypt", UnsupportedCipherError, "scrypt"),
    (f"{DIGEST}.hash", "sha3-256", UnsupportedCipherError, "sha3-256"),
    (f"{DIGEST}.type", "blake", UnsupportedCipherError, "blake"),
    (f"{SLOT}.key_size", 48, UnsupportedCipherError, "48 bytes"),
    # features
    ("config.requirements", {"mandatory": ["online-reencrypt"]}, UnsupportedRequirementError, "on"),
    (
        "config.requirements",
        {"mandatory": ["hal\x1b[2J"]},
        UnsupportedRequirementError,
        "hal\ufffd",
    ),
    ("config.requirements", {"mandatory": "x"}, FormatError, "not an array"),
    ("config.requirements", [], FormatError, "not an object"),
    (f"{SEGMENT}.type", "linear", UnsupportedRequirementError, "linear"),
    (f"{SEGMENT}.type", "hw-opal-crypt", UnsupportedRequirementError, "hw-opal-crypt"),
    (f"{SEGMENT}.integrity", {"type": "hmac(sha256)"}, UnsupportedRequirementError, "hmac"),
    (f"{SEGMENT}.integrity", "hmac", FormatError, "not an object"),
    ("segments.1", tree()["segments"]["0"], UnsupportedRequirementError, "2 segments"),
    ("segments", {}, FormatError, "refers to 0"),
    # costs
    (f"{KDF}.memory", 4 * 1024 * 1024 + 1, LimitError, "memory"),
    (f"{KDF}.memory", 15, LimitError, "memory"),
    (f"{KDF}.cpus", 0, LimitError, "cpus"),
    (f"{KDF}.cpus", 17, LimitError, "cpus"),
    (f"{KDF}.time", 0, LimitError, "time"),
    (f"{KDF}.time", 2**20 + 1, LimitError, "time"),
    (KDF, PBKDF2 | {"iterations": 0}, LimitError, "iterations"),
    (KDF, PBKDF2 | {"iterations": 2**29 + 1}, LimitError, "iterations"),
    (f"{DIGEST}.iterations", 2**32 - 1, LimitError, "iterations"),
    # bounds
    (f"{AREA}.offset", "0", BoundsError, "outside"),
    (f"{AREA}.offset", "16384", BoundsError, "outside"),
    (f"{AREA}.offset", "16777216", BoundsError, "outside"),
    (f"{AREA}.offset", "18446744073709551104", BoundsError, "outside"),
    (f"{AREA}.offset", "32769", BoundsError, "grid"),
    (f"{AREA}.size", "18446744073709551104", BoundsError, "outside"),
    (f"{AREA}.size", "258049", BoundsError, "grid"),
    (f"{AREA}.size", "255488", BoundsError, "needs 256000"),
    (f"{AREA}.size", "0", BoundsError, "needs"),
    ("keyslots.1", keyslot(offset=290816 - 512), BoundsError, "overlap"),
    ("keyslots.1", keyslot(), BoundsError, "overlap"),
    ("keyslots.1", {"type": "new", "area": {"offset": "32768", "size": "512"}}, BoundsError, "ov"),
    ("keyslots.1", {"type": "new", "area": {"offset": "32768", "size": "0"}}, BoundsError, "empty"),
    (f"{SEGMENT}.offset", "0", BoundsError, "inside the header"),
    (f"{SEGMENT}.offset", "16773120", BoundsError, "inside the header"),
    (f"{SEGMENT}.offset", "16777728", BoundsError, "grid"),
    (f"{SEGMENT}.iv_tweak", "1", BoundsError, "grid"),
    (f"{SEGMENT}.size", "0", BoundsError, "whole sectors"),
    (f"{SEGMENT}.size", "4097", BoundsError, "whole sectors"),
    (f"{SEGMENT}.size", "18446744073709547520", BoundsError, "64 bits"),
    (f"{SEGMENT}.size", "1048577", BoundsError, "whole sectors"),
    ("config.keyslots_size", "16744449", BoundsError, "grid"),
    ("config.keyslots_size", "16748544", BoundsError, "inside the header"),
    ("config.keyslots_size", "134221824", LimitError, "larger"),
    # truncation
    (f"{SEGMENT}.size", "1052672", TruncatedError, "17829888"),
    (f"{SEGMENT}.offset", "17825792", TruncatedError, "describes"),
    (f"{SEGMENT}.offset", "9223372036854775808", TruncatedError, "describes"),
    # references
    ("tokens.0", {"type": "x", "keyslots": ["1"]}, FormatError, "refers to 1"),
    (f"{DIGEST}.keyslots", ["0", "3"], FormatError, "refers to 3"),
    (f"{DIGEST}.segments", ["1"], FormatError, "refers to 1"),
    (f"{DIGEST}.segments", [], FormatError, "0 digests"),
    (f"{DIGEST}.keyslots", ["0", "0"], FormatError, "twice"),
    (f"{DIGEST}.keyslots", ["00"], FormatError, "not a number"),
    (f"{DIGEST}.keyslots", [0], FormatError, "not a string"),
    (f"{DIGEST}.keyslots", "0", FormatError, "not an array"),
    ("digests.1", tree()["digests"]["0"], FormatError, "2 digests"),
    ("digests.1", tree()["digests"]["0"] | {"segments": []}, FormatError, "more than one digest"),
    ("digests", {}, FormatError, "0 digests"),
    # names and counts
    ("keyslots.32", keyslot(), LimitError, "limit of 32"),
    ("keyslots.99999999999999999999", keyslot(), LimitError, "limit of 32"),
    ("keyslots.01", keyslot(), FormatError, "not named by a number"),
    ("keyslots.x", keyslot(), FormatError, "not named by a number"),
    ("keyslots.\u0661", keyslot(), FormatError, "not named by a number"),
    ("tokens.32", TOKEN, LimitError, "limit of 32"),
    ("digests.8", tree()["digests"]["0"], LimitError, "limit of 8"),
    ("segments.32", tree()["segments"]["0"], LimitError, "limit of 32"),
    ("tokens.0", [], FormatError, "not an object"),
    # types
    ("keyslots", [], FormatError, "not an object"),
    ("config", DELETE, FormatError, "is missing"),
    ("tokens", DELETE, FormatError, "is missing"),
    (f"{SLOT}.key_size", "64", FormatError, "not an integer"),
    (f"{SLOT}.key_size", True, FormatError, "not an integer"),
    (f"{SLOT}.key_size", 0, FormatError, "is 0"),
    (f"{SLOT}.key_size", -1, LimitError, "32 bits"),
    (f"{SLOT}.key_size", 2**32, LimitError, "32 bits"),
    (f"{SLOT}.key_size", 2**64, LimitError, "too large"),
    (f"{SLOT}.key_size", -(2**63) - 1, LimitError, "too large"),
    (f"{SLOT}.key_size", 10**4000, LimitError, "too large"),
    (f"{SLOT}.key_size", 64.0, FormatError, "64.0"),
    (f"{SLOT}.priority", 3, FormatError, "priority"),
    (f"{SLOT}.type", None, FormatError, "not a string"),
    (f"{AF}.type", "luks9", FormatError, "luks9"),
    (f"{AF}.stripes", 1, FormatError, "stripes"),
    (f"{AREA}.type", "datashift", FormatError, "datashift"),
    (f"{SEGMENT}.sector_size", 8192, FormatError, "8192"),
    (f"{SEGMENT}.sector_size", 0, FormatError, "sector_size"),
    (f"{SEGMENT}.offset", 16777216, FormatError, "not a string"),
    (f"{SEGMENT}.offset", "016777216", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "+16777216", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "-1", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "16777216\n", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "0x1000000", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "", FormatError, "decimal"),
    (f"{SEGMENT}.offset", "18446744073709551616", LimitError, "64 bits"),
    (f"{SEGMENT}.offset", "9" * 21, FormatError, "decimal"),
    (f"{SEGMENT}.size", "all", FormatError, "decimal"),
    (f"{SEGMENT}.flags", [1], FormatError, "not a string"),
    (f"{SEGMENT}.encryption", "a" * 257, LimitError, "longer"),
    ("config.flags", ["a" * 257], LimitError, "longer"),
    ("config.json_size", "12287", FormatError, "claims"),
    # base64
    (f"{KDF}.salt", "AAAA", FormatError, "3 bytes"),
    (f"{KDF}.salt", "A" * 120, FormatError, "90 bytes"),
    (f"{KDF}.salt", "A" * 121, FormatError, "not base64"),
    (f"{KDF}.salt", SALT[:-1], FormatError, "not base64"),
    (f"{KDF}.salt", f" {SALT}", FormatError, "not base64"),
    (f"{KDF}.salt", "\u00e9" * 44, FormatError, "not base64"),
    (f"{KDF}.salt", f"{SALT[:-2]}9=", FormatError, "canonical"),
    (f"{DIGEST}.digest", "AAAA", FormatError, "3 bytes"),
    # strings that C and Python read differently
    (f"{SEGMENT}.encryption", "aes-xts-plain64\0", FormatError, "NUL"),
    (f"{SEGMENT}.flags", ["a\0"], FormatError, "NUL"),
    ("config.flags", ["allow-discards\0"], FormatError, "NUL"),
    (f"{SLOT}.type", "luks2\0", FormatError, "NUL"),
    ("tokens.0", TOKEN | {"a\0": "y"}, FormatError, "NUL"),
    ("future", [{"a\0": "y"}], FormatError, "NUL"),
]


@pytest.mark.parametrize(("path", "value", "error", "words"), WRONG)
def test_one_wrong_member(
    path: str, value: object, error: type[StrongroomError], words: str
) -> None:
    with pytest.raises(StrongroomError) as caught:
        load(forge(changed(path, value)))
    assert type(caught.value) is error
    assert words in caught.value.message
    assert caught.value.message.isprintable()


GOOD = text_of(tree())
TEXTS: list[tuple[str, bytes, type[StrongroomError]]] = [
    ("empty", b"", FormatError),
    ("array", b"[]", FormatError),
    ("space in front", b" " + GOOD, FormatError),
    ("space behind", GOOD + b" ", FormatError),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, FormatError),
    ("second object", GOOD + b"{}", FormatError),
    ("object behind a NUL", GOOD + b"\0{}", FormatError),
    ("no room for the NUL", GOOD[:-1] + b" " * (12288 - len(GOOD)) + b"}", FormatError),
    ("cut", GOOD[:-9] + b"}", FormatError),
    ("lone surrogate", GOOD[:-1] + b',"x":"\\ud800"}', FormatError),
    ("a byte and an escape for it", GOOD[:-1] + b',"x":"\xff\\udcff"}', FormatError),
    (
        "a byte and an escape behind a backslash",
        GOOD[:-1] + b',"x":"\xff\\\\\\udcff"}',
        FormatError,
    ),
    ("point alone", GOOD[:-1] + b',"x":-.}', FormatError),
    ("point in front", GOOD[:-1] + b',"x":.5}', FormatError),
    ("exponent of a point", GOOD[:-1] + b',"x":-.e5}', FormatError),
    ("many points", GOOD[:-1] + b',"x":-1.1.1.1}', FormatError),
    ("points before a word", GOOD[:-1] + b',"x":1.1.1Infinity}', FormatError),
    ("two points", GOOD[:-1] + b',"x":1..}', FormatError),
    ("leading zero beside a fraction", GOOD[:-1] + b',"x":[1.,01]}', FormatError),
    ("cost with a point", GOOD.replace(b'"key_size":64', b'"key_size":64.'), FormatError),
    ("cipher that is not UTF-8", GOOD.replace(b"aes-xts", b"aes-xts\xff"), FormatError),
    ("cost with an exponent", GOOD.replace(b'"key_size":64', b'"key_size":64e0'), FormatError),
    ("cost that is no number", GOOD.replace(b'"key_size":64', b'"key_size":NaN'), FormatError),
    ("lone surrogate as a name", GOOD[:-1] + b',"\\udfff":1}', FormatError),
    ("raw control character", GOOD[:-1] + b',"x":"\n"}', FormatError),
    ("leading zero", GOOD[:-1] + b',"x":01}', FormatError),
    ("comment", GOOD[:-1] + b"/**/}", FormatError),
    ("trailing comma", GOOD[:-1] + b",}", FormatError),
    ("single quotes", GOOD.replace(b'"', b"'"), FormatError),
    ("duplicate section", GOOD[:-1] + b',"keyslots":{}}', FormatError),
    ("duplicate by escape", GOOD[:-1] + b',"keyslot\\u0073":{}}', FormatError),
    ("unterminated string", GOOD[:-1] + b',"x":"' + b'\\"' * 4000 + b"}", FormatError),
    ("open brackets", b'{"a":' + b"[" * 11000 + b"}", LimitError),
    ("deep arrays", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", LimitError),
    ("33 levels", GOOD[:-1] + b',"x":' + b"[" * 32 + b"]" * 32 + b"}", LimitError),
    ("closing brackets", b"{" + b"]" * 9000 + b"}", FormatError),
]


@pytest.mark.parametrize(("text", "error"), [pytest.param(t, e, id=n) for n, t, e in TEXTS])
def test_text_that_is_not_strict_json(text: bytes, error: type[StrongroomError]) -> None:
    with pytest.raises(StrongroomError) as caught:
        load(forge(text=text))
    assert type(caught.value) is error


def test_brackets_in_strings_and_32_levels_are_fine() -> None:
    nested = b"[" * 31 + b"]" * 31
    text = GOOD[:-1] + b',"x":"' + b"[{" * 500 + b'\\"\\\\","y":' + nested + b"}"
    assert load(forge(text=text)).header.metadata.json_text == text


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[' + b"[]," * 1_300_000 + b"[]]}",
        b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}",
        b'{"a":"' + b'\\"' * 2_000_000 + b"}",
        b'{"a":"' + b'"' * 4_000_000 + b"}",
        b"{" + b",".join(b'"%d":0' % (n % 16000) for n in range(32000)) + b"}",
        b'{"a":"' + b"x" * 4_000_000 + b'"}',
        b'{"a":' + b"9" * 4_000_000 + b"}",
    ],
    ids=["values", "deep", "escapes", "quotes", "duplicates", "string", "digits"],
)
def test_the_largest_area_is_refused_quickly(text: bytes) -> None:
    start = time.process_time()
    with pytest.raises(StrongroomError):
        JsonObject("metadata", parse_json(text)).child("keyslots")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.requirements", {"mandatory": [], "optional": ["x"]}),
        ("config.requirements", {}),
        ("config.flags", ["allow-discards", "unheard-of"]),
        ("config.future", {"a": [1, None, True, -5, 2**64 - 1]}),
        ("future", [{"x": '\u2028\U0001f512\x7f/\\"'}]),
        (f"{SEGMENT}.flags", ["backup"]),
        (f"{SEGMENT}.size", "1048576"),
        (f"{SEGMENT}.iv_tweak", "8"),
        (f"{SEGMENT}.sector_size", 512),
        (f"{SLOT}.priority", 0),
        (KDF, PBKDF2),
        (f"{KDF}.type", "argon2i"),
        ("tokens.0", {"type": "clevis", "keyslots": ["0"], "jwe": {"x": [1]}}),
        ("keyslots.1", {"type": "new", "area": {"offset": "290816", "size": "512"}, "x": 1}),
        ("keyslots.1", keyslot(offset=290816)),
        ("digests.1", {"type": "new", "keyslots": [], "segments": []}),
    ],
)
def test_what_is_allowed_or_unknown_is_kept_byte_for_byte(path: str, value: object) -> None:
    text = text_of(changed(path, value))
    assert load(forge(text=text)).header.metadata.json_text == text


FOREIGN: dict[str, bytes] = {
    "fraction": b'"a":1.50',
    "exponent": b'"a":1E3',
    "no digit behind the point": b'"a":[1.,-1.,1.e5,2.E3,-2.e-3]',
    "no digit in front of the point": b'"a":[-.5,-.5e+7]',
    "zeros in front": b'"a":[007.5,00e1]',
    "fractions of all kinds, and text": b'"a":[1.5,1.,"1.","\\"1.",0.0,-.0]',
    "minus zero": b'"a":-0',
    "no number": b'"a":[NaN,Infinity,-Infinity]',
    "nanoseconds": b'"a":1732980000123456789',
    "more than 64 bits": b'"a":' + b"9" * 400,
    "NUL": b'"a":"x\\u0000y"',
    "not UTF-8": b'"a":"\xff","\xfe":1',
    "not UTF-8, and a backslash": b'"C:\\\\udata":"\\\\\\\\udead \xe9"',
    "overlong UTF-8": b'"a":"\xc0\x80"',
    "surrogate in UTF-8": b'"a":"\xed\xa0\x80"',
    "long text": b'"a":"' + b"x" * 5000 + b'"',
}


@pytest.mark.parametrize("place", ["tokens.0", "config", SEGMENT, SLOT, KDF, DIGEST, ""])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_interpreted_is_kept_byte_for_byte(name: str, place: str) -> None:
    value = changed("tokens.0", {**TOKEN})
    text = text_of(changed_in(value, place, "foreign", {"mark": 1})).replace(
        b'{"mark":1}', b"{" + FOREIGN[name] + b"}"
    )
    header = load(forge(text=text)).header
    assert header.metadata.json_text == text
    edited = with_token(header, recovery_token(0), number=1)
    assert edited.metadata.json_text.count(FOREIGN[name]) == 1
    assert without_token(edited, 1).metadata.json_text == text
    assert len(canonical_json(parse_json(text))) == len(text)


@pytest.mark.parametrize(
    "token",
    [
        {"type": "x" * 257, "keyslots": ["0"]},
        {"type": "strongroom\0", "keyslots": []},
        {"type": "", "keyslots": []},
        {"type": "x", "keyslots": ["0", "0"]},
    ],
)
def test_a_token_of_another_program_is_kept(token: Tree) -> None:
    text = text_of(changed("tokens.0", token))
    header = load(forge(text=text)).header
    assert header.metadata.json_text == text
    assert header.tokens[0].keyslots == ((0,) if token["keyslots"] else ())
    assert strongroom_token(header) is None
    assert len(json.dumps(describe(header))) < 4000


def test_iv_numbers_must_not_wrap() -> None:
    value = changed(f"{SEGMENT}.size", "4096")
    value["segments"]["0"]["iv_tweak"] = str(2**64 - 8)
    with pytest.raises(BoundsError, match="sector numbers"):
        load(forge(value))


def test_keyslots_must_agree_on_the_key_length() -> None:
    value = tree()
    value["keyslots"]["1"] = keyslot(offset=290816) | {"key_size": 32}
    value["digests"]["0"]["keyslots"] = ["0", "1"]
    with pytest.raises(FormatError, match="different lengths"):
        load(forge(value))


def test_a_foreign_keyslot_in_the_digest_is_not_tried() -> None:
    value = tree()
    value["keyslots"]["1"] = {"type": "new", "area": {"offset": "290816", "size": "512"}}
    value["digests"]["0"]["keyslots"] = ["1", "0"]
    header = load(forge(value)).header
    assert header.unlock_order() == (0,)
    assert header.volume_key_bytes == 64
    assert header.foreign_keyslots[1].kind == "new"


def test_a_detached_header_may_describe_data_at_zero() -> None:
    loaded = load(forge(changed(f"{SEGMENT}.offset", "0")), detached=True)
    assert loaded.header.segment.offset_bytes == 0


def test_flags_are_told_and_requirements_are_none() -> None:
    header = load(forge(changed("config.flags", ["allow-discards"]))).header
    assert header.flags == ("allow-discards",)
    assert header.requirements == ()

# SPDX-License-Identifier: Apache-2.0
"""Strict, bounded JSON, and typed access to it.

Stricter than RFC 8259 where parsers are known to differ: no duplicate names, no NUL in a name, no
lone surrogates. The typed readers are stricter again: a member that is interpreted is no fraction,
has no NUL and is UTF-8. Other programs write all of these, so a member that is not interpreted
keeps them: a number keeps its text (:class:`Number`), and a byte that is not UTF-8 is a surrogate
escape (PEP 383). What is written is what json-c writes with
``JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE``, the form cryptsetup uses.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Final

from strongroom.errors import FormatError, LimitError
from strongroom.luks2._text import shown
from strongroom.luks2.limits import (
    INT64_MIN,
    MAX_INTEGER_DIGITS,
    MAX_JSON_DEPTH,
    MAX_JSON_VALUES,
    MAX_NAME_CHARACTERS,
    UINT64_MAX,
)
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is no integer of 64 bits, as its text stands in the JSON area."""

    text: str


JsonValue = dict[str, "JsonValue"] | list["JsonValue"] | str | int | bool | Number | None

# An unterminated string matches up to the end, which keeps the scan linear on hostile input.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"[{]}", b"(())")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_UNINTERPRETABLE: Final = re.compile("[\0\ud800-\udfff]")
# An even number of backslashes before the "u" escapes none.
_ESCAPED_SURROGATE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")
# Strings, to be skipped, or runs of all that a number consists of, which keeps the scan linear.
_STRING_OR_NUMBER: Final = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[-0-9][-+.0-9eE]*', re.DOTALL
)
# What strtod() reads whole, so that json-c keeps it: digits may be missing on one side of the dot.
_FRACTION: Final = re.compile(
    r"(?:-?[0-9]+\.[0-9]*|-\.[0-9]+)(?:[eE][-+]?[0-9]+)?|-?[0-9]+[eE][-+]?[0-9]+"
)
_FRACTION_MARK: Final = re.compile("[.eE]")
_NO_JSON: Final = "?"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,19}")
_INTEGER: Final = re.compile(r"-?[1-9][0-9]*")


def parse_json(text: bytes) -> dict[str, JsonValue]:
    """Return the one JSON object that ``text`` is, keeping the order of its members.

    Raises:
        LimitError: Nested deeper than :data:`MAX_JSON_DEPTH`, or more values than
            :data:`MAX_JSON_VALUES`.
        FormatError: Anything else that is wrong.
    """
    _check_shape(text)
    decoded = _decoded(text)
    try:
        value = _loaded(decoded, Number)
    except json.JSONDecodeError as err:
        try:
            value = _loaded_with_any_fraction(decoded)
        except json.JSONDecodeError:
            raise FormatError(f"the JSON area is not valid JSON at character {err.pos}") from err
    if not _SURROGATE.search(decoded):
        _check_surrogates(value)
    if not isinstance(value, dict) or text[:1] != b"{" or text[-1:] != b"}":
        raise FormatError("the JSON area does not hold one object and nothing else")
    return value


def dump_json(value: JsonValue) -> bytes:
    """Return ``value`` in compact form, byte for byte as cryptsetup writes it."""
    return _dumped(value).encode("utf-8", "surrogateescape")


def encode_base64(data: bytes) -> str:
    """Return padded base64 on one line."""
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object with a name for messages, and readers that check the type of a member."""

    name: str
    members: dict[str, JsonValue]

    def fail(self, key: str, problem: str) -> FormatError:
        """Return the error that says what is wrong with a member."""
        return FormatError(f'{self.name}: "{key}" {problem}')

    def has(self, key: str) -> bool:
        """Tell whether there is such a member."""
        return key in self.members

    def child(self, key: str) -> "JsonObject":
        """Return a member that is an object, named after its path."""
        value = self._member(key)
        if not isinstance(value, dict):
            raise self.fail(key, "is not an object")
        return JsonObject(f"{self.name} {key}", value)

    def part(self, key: str) -> "JsonObject":
        """Return a member that is an object, or an empty one: for people to read."""
        value = self.members.get(key)
        return JsonObject(f"{self.name} {key}", value if isinstance(value, dict) else {})

    def words(self, key: str) -> str:
        """Return a member that is a string, cut to what is short, or an empty one: for people."""
        value = self.members.get(key)
        return value[:MAX_NAME_CHARACTERS] if isinstance(value, str) else ""

    def entries(self, kind: str, limit: int) -> Iterator[tuple[int, "JsonObject"]]:
        """Yield the numbered objects of a section such as ``keyslots``.

        Raises:
            LimitError: A number is not below ``limit``, which bounds their count too.
            FormatError: A name is not a canonical decimal, or a value is not an object.
        """
        for key, value in self.members.items():
            if not _DECIMAL.fullmatch(key):
                raise FormatError(f"{kind} {shown(key)} is not named by a number")
            if int(key) >= limit:
                raise LimitError(f"{kind} {key} is beyond the limit of {limit}")
            if not isinstance(value, dict):
                raise FormatError(f"{kind} {key} is not an object")
            yield int(key), JsonObject(f"{kind} {key}", value)

    def text(self, key: str, *, maximum_characters: int = MAX_NAME_CHARACTERS) -> str:
        """Return a member that is a short string."""
        return self._short(key, self.free_text(key), maximum_characters)

    def free_text(self, key: str) -> str:
        """Return a member that is any string: to be compared, or shown cut, and no more."""
        value = self._member(key)
        if not isinstance(value, str):
            raise self.fail(key, "is not a string")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a member that is an array of short strings."""
        value = self._member(key)
        if not isinstance(value, list):
            raise self.fail(key, "is not an array")
        result: list[str] = []
        for item in value:
            if not isinstance(item, str):
                raise self.fail(key, "holds something that is not a string")
            result.append(self._short(key, item))
        return tuple(result)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a member that is an array of different canonical decimals, as numbers."""
        numbers = self.distinct_numbers(key)
        if len(numbers) != len(self.strings(key)):
            raise self.fail(key, "names something twice")
        return numbers

    def distinct_numbers(self, key: str) -> tuple[int, ...]:
        """Return a member that is an array of canonical decimals, each of them once."""
        names = self.strings(key)
        if any(not _DECIMAL.fullmatch(name) for name in names):
            raise self.fail(key, "holds something that is not a number")
        return tuple(int(name) for name in dict.fromkeys(names))

    def only(self, known: Collection[str]) -> None:
        """Refuse members that are not known.

        Raises:
            FormatError: There is one.
        """
        for key in self.members:
            if key not in known:
                raise FormatError(f"{self.name}: {shown(key)} is not a known member")

    def boolean(self, key: str) -> bool:
        """Return a member that is ``true`` or ``false``."""
        value = self._member(key)
        if not isinstance(value, bool):
            raise self.fail(key, "is not true or false")
        return value

    def integer(self, key: str, *, minimum: int, maximum: int) -> int:
        """Return a member that is a JSON number in a range, both ends included."""
        value = self._integer(key)
        if not minimum <= value <= maximum:
            raise self.fail(key, f"is not {minimum} to {maximum}")
        return value

    def uint32(self, key: str) -> int:
        """Return a member that is a JSON number of 32 bits without a sign."""
        value = self._integer(key)
        if not 0 <= value < 2**32:
            raise LimitError(f'{self.name}: "{key}" does not fit 32 bits')
        return value

    def uint64(self, key: str) -> int:
        """Return a member that is a 64-bit number without a sign, as LUKS2 has it: in a string."""
        text = self.text(key)
        if not _DECIMAL.fullmatch(text):
            raise self.fail(key, "is not a decimal number in a string")
        if int(text) > UINT64_MAX:
            raise LimitError(f'{self.name}: "{key}" does not fit 64 bits')
        return int(text)

    def base64(self, key: str, *, minimum_bytes: int, maximum_bytes: int) -> bytes:
        """Return the bytes of a member that is canonical base64."""
        longest = max(MAX_NAME_CHARACTERS, -(-maximum_bytes // 3) * 4)
        text = self.text(key, maximum_characters=longest)
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as err:
            raise self.fail(key, "is not base64") from err
        if encode_base64(data) != text:
            raise self.fail(key, "is not canonical base64")
        if not minimum_bytes <= len(data) <= maximum_bytes:
            raise self.fail(key, f"has {len(data)} bytes, not {minimum_bytes} to {maximum_bytes}")
        return data

    def _member(self, key: str) -> JsonValue:
        if key not in self.members:
            raise self.fail(key, "is missing")
        return self.members[key]

    def _integer(self, key: str) -> int:
        value = self._member(key)
        if isinstance(value, Number) and _INTEGER.fullmatch(value.text):
            raise LimitError(f'{self.name}: "{key}" is {shown(value.text)}, which is too large')
        if isinstance(value, Number):
            raise self.fail(key, f"is {shown(value.text)}, which is not an integer")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(key, "is not an integer")
        return value

    def _short(self, key: str, value: str, maximum: int = MAX_NAME_CHARACTERS) -> str:
        if _UNINTERPRETABLE.search(value):
            raise self.fail(key, "has a NUL, or bytes that are not UTF-8")
        if len(value) > maximum:
            raise LimitError(f'{self.name}: "{key}" is longer than {maximum} characters')
        return value


def _check_shape(text: bytes) -> None:
    """Bound depth and count before the parser, whose recursion follows the input, sees it."""
    # Two quotes a string; this also keeps the scan for strings short.
    if text.count(b'"') - text.count(b'\\"') > 2 * MAX_JSON_VALUES:
        raise LimitError(f"the JSON area holds more than {MAX_JSON_VALUES} values")
    outline = _STRING.sub(b"", text)
    brackets = outline.translate(_BRACKETS, _NOT_BRACKETS)
    if len(brackets) + outline.count(b",") + outline.count(b":") > MAX_JSON_VALUES:
        raise LimitError(f"the JSON area holds more than {MAX_JSON_VALUES} values")
    # Each round removes the innermost pairs, that is exactly one level.
    for _ in range(MAX_JSON_DEPTH):
        brackets = brackets.replace(b"()", b"")
    if b"()" in brackets or brackets.count(b"(") > MAX_JSON_DEPTH:
        raise LimitError(f"the JSON area is nested deeper than {MAX_JSON_DEPTH} levels")


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as err:
        # A byte becomes a lone surrogate, so an escape must not be able to make one.
        if _ESCAPED_SURROGATE.search(text):
            raise FormatError("the JSON area is not UTF-8, and escapes surrogates") from err
        return text.decode("utf-8", "surrogateescape")


def _loaded(text: str, fraction: Callable[[str], Number]) -> JsonValue:
    value: JsonValue = json.loads(
        text,
        object_pairs_hook=_object,
        parse_float=fraction,
        parse_constant=Number,
        parse_int=_integer,
    )
    return value


def _loaded_with_any_fraction(text: str) -> JsonValue:
    """Load a text with fractions such as ``1.`` and ``-.5``, which JSON has not and json-c keeps.

    Every fraction is loaded as ``0.N``, where N is its place in a list of their texts.
    """
    texts: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        run = found[0]
        if run.startswith('"') or not _FRACTION_MARK.search(run):
            return run
        if not _FRACTION.fullmatch(run):
            return _NO_JSON
        texts.append(run)
        return f"0.{len(texts) - 1}"

    numbers = _STRING_OR_NUMBER.sub(numbered, text)
    return _loaded(numbers, lambda place: Number(texts[int(place.removeprefix("0."))]))


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise FormatError(f"the JSON area has two members named {shown(twice)} in one object")
    # json-c ends a name at its first NUL, and so reads another one.
    if any("\0" in name for name in result):
        raise FormatError("the JSON area has a NUL in the name of a member")
    return result


def _integer(text: str) -> int | Number:
    if text == "-0" or len(text) > MAX_INTEGER_DIGITS or not INT64_MIN <= int(text) <= UINT64_MAX:
        return Number(text)
    return int(text)


def _check_surrogates(value: JsonValue) -> None:
    """Refuse what UTF-8 cannot represent; the depth is bounded already."""
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise FormatError("the JSON area has a lone surrogate in a string")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_surrogates(key)
            _check_surrogates(member)
    elif isinstance(value, list):
        for member in value:
            _check_surrogates(member)


def _dumped(value: JsonValue) -> str:
    if isinstance(value, dict):
        members = (f"{_dumped(key)}:{_dumped(member)}" for key, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumped, value)) + "]"
    if isinstance(value, Number):
        return value.text
    return json.dumps(value, ensure_ascii=False)

# SPDX-License-Identifier: Apache-2.0
"""The wire encoding: the deterministic core of CBOR, and nothing else.

A general decoder resolves tags (regular expressions, big numbers, shared references) that the other
side chooses; the enclave must not run such code on hostile bytes. This one accepts exactly one
encoding of each value: integers of 64 bits, byte and text strings, arrays, maps with text keys in
order, ``true``, ``false`` and ``null``. Everything else is refused.

Spec: RFC 8949, 4.2.1 (core deterministic encoding requirements).
"""

from typing import Final, TypeAlias

from strongroom.errors import BoundaryError

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str, Value] | None"
"""What can cross the boundary."""

MAX_DEPTH: Final = 8
"""Deepest nesting of arrays and maps; the deepest declared message has 4."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE = 0, 1, 2, 3, 4, 5, 7
_FALSE, _TRUE, _NULL = 20, 21, 22
_ARGUMENT_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def encode(value: Value) -> bytes:
    """Return the one encoding of ``value``.

    Raises:
        BoundaryError: An integer does not fit 64 bits, a text holds a lone surrogate, or nesting
            exceeds :data:`MAX_DEPTH`.
    """
    out = bytearray()
    _encode_into(out, value, MAX_DEPTH)
    return bytes(out)


def decode(data: bytes) -> Value:
    """Return the value that ``data`` encodes, all of it.

    Raises:
        BoundaryError: ``data`` is not the deterministic encoding of a value, is followed by
            anything, or nests deeper than :data:`MAX_DEPTH`.
    """
    reader = _Reader(data)
    value = reader.value(MAX_DEPTH)
    if reader.position != len(data):
        raise BoundaryError("a boundary message is followed by stray bytes")
    return value


def _encode_into(out: bytearray, value: Value, depth: int) -> None:
    if depth < 0:
        raise BoundaryError("a boundary message nests too deeply")
    match value:
        case None | bool():
            out.append(_SIMPLE << 5 | {None: _NULL, False: _FALSE, True: _TRUE}[value])
        case int():
            _encode_head(out, _NEGATIVE if value < 0 else _UNSIGNED, ~value if value < 0 else value)
        case bytes() | str():
            _encode_string(out, value)
        case list():
            _encode_head(out, _ARRAY, len(value))
            for item in value:
                _encode_into(out, item, depth - 1)
        case dict():
            _encode_map(out, value, depth)


def _encode_string(out: bytearray, value: bytes | str) -> None:
    data = _utf8(value) if isinstance(value, str) else value
    _encode_head(out, _TEXT if isinstance(value, str) else _BYTES, len(data))
    out += data


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        raise BoundaryError("a boundary message holds text that has no encoding") from err


def _encode_map(out: bytearray, value: dict[str, Value], depth: int) -> None:
    _encode_head(out, _MAP, len(value))
    for encoded_key, key in sorted((encode(key), key) for key in value):
        out += encoded_key
        _encode_into(out, value[key], depth - 1)


def _encode_head(out: bytearray, major: int, argument: int) -> None:
    if argument < 24:  # noqa: PLR2004 - the largest argument that fits the initial byte
        out.append(major << 5 | argument)
        return
    for additional, size in _ARGUMENT_SIZES.items():
        if argument < 1 << 8 * size:
            out.append(major << 5 | additional)
            out += argument.to_bytes(size, "big")
            return
    raise BoundaryError("an integer is too large for the boundary")


class _Reader:
    """Reads one value after another from a private copy of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def value(self, depth: int) -> Value:
        if depth < 0:
            raise BoundaryError("a boundary message nests too deeply")
        initial = self._take(1)[0]
        major, additional = initial >> 5, initial & 0x1F
        if major == _SIMPLE:
            return _simple(additional)
        return self._compound(major, self._argument(additional), depth)

    def _compound(self, major: int, argument: int, depth: int) -> Value:
        match major:
            case 0:
                return argument
            case 1:
                return ~argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4:
                self._check_count(argument)
                return [self.value(depth - 1) for _ in range(argument)]
            case 5:
                self._check_count(argument)
                return self._map(argument, depth)
            case _:
                raise BoundaryError("a boundary message holds a tag")

    def _argument(self, additional: int) -> int:
        if additional < 24:  # noqa: PLR2004 - see _encode_head
            return additional
        size = _ARGUMENT_SIZES.get(additional)
        if size is None:
            raise BoundaryError("a boundary message has an indefinite length")
        argument = int.from_bytes(self._take(size), "big")
        smallest = 24 if size == 1 else 1 << 8 * (size // 2)
        if argument < smallest:
            raise BoundaryError("a boundary message is not in its shortest form")
        return argument

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as err:
            raise BoundaryError("a boundary message holds text that is not UTF-8") from err

    def _map(self, count: int, depth: int) -> dict[str, Value]:
        result: dict[str, Value] = {}
        previous = b""
        for _ in range(count):
            start = self.position
            key = self.value(depth - 1)
            encoded_key = self._data[start : self.position]
            if not isinstance(key, str) or encoded_key <= previous:
                raise BoundaryError("a boundary message has keys that are not text in order")
            previous = encoded_key
            result[key] = self.value(depth - 1)
        return result

    def _check_count(self, count: int) -> None:
        # Every element takes at least one byte: a count beyond the rest is a lie, and is refused
        # before anything is allocated for it.
        if count > len(self._data) - self.position:
            raise BoundaryError("a boundary message is cut short")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise BoundaryError("a boundary message is cut short")
        taken = self._data[self.position : end]
        self.position = end
        return taken


def _simple(additional: int) -> Value:
    match additional:
        case 20:
            return False
        case 21:
            return True
        case 22:
            return None
        case _:
            raise BoundaryError("a boundary message holds a float or an unknown simple value")

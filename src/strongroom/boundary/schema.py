# SPDX-License-Identifier: Apache-2.0
"""From a declared message to its strict encoder and decoder.

A message is a value (:mod:`strongroom.values`) whose fields carry their limits in the type, such as
``Annotated[bytes, Size(32, 32)]``. Decoding accepts exactly the declared fields, each of exactly
the declared type and inside its limits; anything else is a violation of the boundary.
"""

import types
from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from strongroom.boundary.cbor import Value
from strongroom.errors import BoundaryError
from strongroom.values import dataclass, field_names, is_value


@dataclass(frozen=True, slots=True)
class Size:
    """Limits of a byte string or UTF-8 text, in bytes, both ends included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Range:
    """Limits of an integer, both ends included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Items:
    """Largest number of elements of a tuple."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Marks an integer as a file descriptor, which travels beside the message."""


Limit = Size | Range | Items | Descriptor

MAX_DESCRIPTORS: Final = 4
"""Most file descriptors that one message carries."""

MessageT = TypeVar("MessageT")


@dataclass(frozen=True, slots=True)
class _Codec:
    encode: Callable[[object, list[int]], Value]
    decode: Callable[[Value, list[int]], object]


def encode_message(message: object) -> tuple[Value, list[int]]:
    """Return a message as a CBOR value and the descriptors that go with it.

    Raises:
        BoundaryError: A field is outside its declared limits: a bug on our side, caught here
            rather than at the other end.
    """
    descriptors: list[int] = []
    value = _codec_of(type(message)).encode(message, descriptors)
    return value, descriptors


def decode_message(kind: type[MessageT], value: Value, descriptors: list[int]) -> MessageT:
    """Return the message of class ``kind`` that ``value`` and ``descriptors`` hold.

    Raises:
        BoundaryError: A field is missing, unknown, of the wrong type or outside its limits, or a
            descriptor is missing or left over. The caller closes the descriptors.
    """
    remaining = list(descriptors)
    message = _codec_of(kind).decode(value, remaining)
    if remaining:
        raise BoundaryError("a boundary message came with descriptors that it does not use")
    if not isinstance(message, kind):
        raise BoundaryError("a boundary message has the wrong class")
    return message


_CODECS: dict[object, _Codec] = {}


def _codec_of(kind: object) -> _Codec:
    if kind not in _CODECS:
        _CODECS[kind] = _make_codec(kind)
    return _CODECS[kind]


def _make_codec(kind: object) -> _Codec:
    if isinstance(kind, type) and is_value(kind):
        return _record_codec(kind)
    origin = get_origin(kind)
    if origin is Annotated:
        base, *limits = get_args(kind)
        return _limited_codec(base, limits[0])
    if origin in (Union, types.UnionType):
        return _optional_codec(get_args(kind))
    if origin is Literal:
        return _literal_codec(get_args(kind))
    if kind is bool:
        return _bool_codec()
    raise BoundaryError(f"a boundary field is declared without limits: {kind}")


def _record_codec(kind: type) -> _Codec:
    hints = get_type_hints(kind, include_extras=True)
    codecs = {name: _codec_of(hints[name]) for name in field_names(kind)}

    def encode(message: object, descriptors: list[int]) -> Value:
        if type(message) is not kind:
            raise BoundaryError(f"a boundary message is not a {kind.__name__}")
        return {
            name: codec.encode(getattr(message, name), descriptors)
            for name, codec in codecs.items()
        }

    def decode(value: Value, descriptors: list[int]) -> object:
        if not isinstance(value, dict) or value.keys() != codecs.keys():
            raise BoundaryError(f"a boundary message is not a {kind.__name__}")
        fields = {name: codec.decode(value[name], descriptors) for name, codec in codecs.items()}
        message: object = kind(**fields)
        return message

    return _Codec(encode, decode)


def _limited_codec(base: object, limit: Limit) -> _Codec:
    match limit:
        case Size():
            return _sized_codec(bytes if base is bytes else str, limit)
        case Range():
            return _range_codec(limit)
        case Items():
            return _tuple_codec(get_args(base)[0], limit)
        case Descriptor():
            return _Codec(_encode_descriptor, _decode_descriptor)


def _sized_codec(kind: type[bytes] | type[str], limit: Size) -> _Codec:
    def check(value: object) -> bytes | str:
        if type(value) is not kind or not isinstance(value, bytes | str):
            raise BoundaryError(f"a boundary field is not {kind.__name__}")
        size = _size_in_bytes(value)
        if not limit.minimum <= size <= limit.maximum:
            raise BoundaryError(f"a boundary field of {size} bytes is outside its limits")
        return value

    return _Codec(lambda value, _: check(value), lambda value, _: check(value))


def _size_in_bytes(value: bytes | str) -> int:
    try:
        return len(value if isinstance(value, bytes) else value.encode())
    except UnicodeEncodeError as err:
        raise BoundaryError("a boundary field holds text that has no encoding") from err


def _range_codec(limit: Range) -> _Codec:
    def check(value: object) -> int:
        # type() and not isinstance(): a bool is an int to Python, and is not one here.
        if type(value) is not int or not limit.minimum <= value <= limit.maximum:
            raise BoundaryError("a boundary field is not an integer inside its limits")
        return value

    return _Codec(lambda value, _: check(value), lambda value, _: check(value))


def _tuple_codec(item_kind: object, limit: Items) -> _Codec:
    item = _codec_of(item_kind)

    def encode(value: object, descriptors: list[int]) -> Value:
        if not isinstance(value, tuple) or len(value) > limit.maximum:
            raise BoundaryError("a boundary field has too many items")
        return [item.encode(element, descriptors) for element in value]

    def decode(value: Value, descriptors: list[int]) -> object:
        if not isinstance(value, list) or len(value) > limit.maximum:
            raise BoundaryError("a boundary field is not a list inside its limits")
        return tuple(item.decode(element, descriptors) for element in value)

    return _Codec(encode, decode)


def _optional_codec(alternatives: tuple[object, ...]) -> _Codec:
    (inner_kind,) = (kind for kind in alternatives if kind is not types.NoneType)
    inner = _codec_of(inner_kind)
    return _Codec(
        lambda value, fds: None if value is None else inner.encode(value, fds),
        lambda value, fds: None if value is None else inner.decode(value, fds),
    )


def _literal_codec(choices: tuple[object, ...]) -> _Codec:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise BoundaryError("a boundary field is not one of its choices")
        return value

    return _Codec(lambda value, _: check(value), lambda value, _: check(value))


def _bool_codec() -> _Codec:
    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise BoundaryError("a boundary field is not a truth value")
        return value

    return _Codec(lambda value, _: check(value), lambda value, _: check(value))


def _encode_descriptor(value: object, descriptors: list[int]) -> Value:
    if type(value) is not int or value < 0 or len(descriptors) >= MAX_DESCRIPTORS:
        raise BoundaryError("a boundary field is not a descriptor, or there are too many")
    descriptors.append(value)
    return True


def _decode_descriptor(value: Value, descriptors: list[int]) -> object:
    if value is not True or not descriptors:
        raise BoundaryError("a boundary message lacks a descriptor")
    return descriptors.pop(0)

# SPDX-License-Identifier: Apache-2.0
"""Messages made from their own declarations: all that is allowed, and one step beyond it."""

import dataclasses
import types
from collections.abc import Iterator
from typing import Annotated, Final, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from strongroom.boundary.calls import ECALLS, OCALLS
from strongroom.boundary.cbor import Value
from strongroom.boundary.schema import Descriptor, Items, Range, Size
from strongroom.host.control_calls import CONTROL_CALLS

CALLS: Final = tuple(sorted({*ECALLS, *OCALLS, *CONTROL_CALLS}, key=lambda kind: kind.__name__))
MESSAGES: Final = tuple(
    sorted({*CALLS, *(kind.result for kind in CALLS)}, key=lambda kind: kind.__name__)
)
"""Every call and every answer."""

FIRST_DESCRIPTOR: Final = 100
DESCRIPTORS: Final = st.integers(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 50)
"""Numbers only: nothing here opens or closes them."""


def messages(kind: type) -> st.SearchStrategy[object]:
    """Return the strategy for a declared message."""
    return st.builds(kind, **{name: _values(hint) for name, hint in hints(kind).items()})


def simplest(hint: object) -> object:  # noqa: PLR0911 - a table
    """Return the smallest value of a declared type, with every optional part present."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint(**{name: simplest(part) for name, part in hints(hint).items()})
    origin = get_origin(hint)
    if origin is Literal:
        return get_args(hint)[0]
    if origin in (Union, types.UnionType):
        return simplest(next(part for part in get_args(hint) if part is not types.NoneType))
    if hint is bool:
        return False
    base, limit = get_args(hint)[:2]
    match limit:
        case Size(minimum, _):
            return bytes(minimum) if base is bytes else "x" * minimum
        case Range(minimum, _):
            return minimum
        case Items():
            return ()
        case _:
            return FIRST_DESCRIPTOR


def hints(kind: type) -> dict[str, object]:
    """Return the declared types of a message's fields, with their limits."""
    found = get_type_hints(kind, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


def _values(hint: object) -> st.SearchStrategy[object]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return messages(hint)
    origin = get_origin(hint)
    if origin is Annotated:
        return _limited(*get_args(hint)[:2])
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    if origin in (Union, types.UnionType):
        return st.one_of(*(_values(part) for part in get_args(hint)))
    if hint is types.NoneType:
        return st.none()
    assert hint is bool, hint
    return st.booleans()


def _limited(base: object, limit: object) -> st.SearchStrategy[object]:
    match limit:
        case Size(minimum, maximum) if base is bytes:
            return st.binary(
                min_size=minimum, max_size=min(maximum, minimum + 100)
            ) | st.sampled_from([bytes(minimum), bytes(maximum)])
        case Size(minimum, maximum):
            short = st.text(min_size=minimum, max_size=max(minimum, min(maximum // 4, 60)))
            return short | st.sampled_from(["x" * minimum, "x" * maximum])
        case Range(minimum, maximum):
            return st.integers(minimum, maximum) | st.sampled_from([minimum, maximum])
        case Items(maximum):
            return st.lists(_values(get_args(base)[0]), max_size=min(maximum, 3)).map(tuple)
        case _:
            assert isinstance(limit, Descriptor)
            return DESCRIPTORS


def wrong_values(hint: object) -> Iterator[object]:
    """Return what a field must refuse in Python: one step outside, and every other kind."""
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        yield from (None, 1, b"", "text", ())
    elif origin is Literal:
        yield from ("", "no such choice", get_args(hint)[0].upper(), None, 0, True, b"unlock")
    elif origin in (Union, types.UnionType):
        (inner,) = (part for part in get_args(hint) if part is not types.NoneType)
        yield from (value for value in wrong_values(inner) if value is not None)
    elif hint is bool:
        yield from (0, 1, None, "true", b"\x01")
    else:
        yield from _outside(*get_args(hint)[:2])


def _outside(base: object, limit: object) -> Iterator[object]:
    match limit:
        case Size(minimum, maximum) if base is bytes:
            yield from (bytes(maximum + 1), "x" * minimum, None, minimum, bytearray(minimum), True)
            if minimum:
                yield bytes(minimum - 1)
        case Size(minimum, maximum):
            yield from (
                "x" * (maximum + 1),
                "é" * (maximum // 2 + 1),
                "\ud800",
                b"x",
                None,
                1,
                True,
            )
            if minimum:
                yield "x" * (minimum - 1)
        case Range(minimum, maximum):
            yield from (minimum - 1, maximum + 1, True, False, None, "1", b"\x01", 1.0)
        case Items(maximum):
            element = get_args(base)[0]
            yield from (None, {}, "text", 1)
            yield (next(wrong_values(element)),)
            yield (None,) * (maximum + 1)
        case _:
            yield from (-1, None, True, False, "3")


def wrong_wire_values(hint: object) -> Iterator[Value]:
    """Return what a field must refuse when it comes from the other side."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(part for part in get_args(hint) if part is not types.NoneType)
        yield from (value for value in wrong_wire_values(inner) if value is not None)
        return
    if get_origin(hint) is Annotated and isinstance(get_args(hint)[1], Descriptor):
        not_descriptors: list[Value] = [False, None, 3, "true", b"\x01", [True]]
        yield from not_descriptors
        return
    for value in wrong_values(hint):
        match value:
            case tuple():
                yield [item if isinstance(item, int | str | bytes) else None for item in value]
            case str() if "\ud800" in value:
                continue
            case dict():
                yield {}
            case None | bool() | int() | bytes() | str():
                yield value
            case _:
                continue  # has no form on the wire

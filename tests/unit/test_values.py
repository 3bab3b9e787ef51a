# SPDX-License-Identifier: Apache-2.0
"""Values of ours are what the standard decorator makes of the same declaration."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import ClassVar, Final, Generic, TypeVar

import pytest

from strongroom import values

ItemT = TypeVar("ItemT")


@values.dataclass(frozen=True, slots=True)
class Ours(Generic[ItemT]):
    """A value."""

    kind: ClassVar[str] = "a constant"
    item: ItemT
    text: str = "text"
    inner: tuple[object, ...] = ()

    def size(self) -> int:
        return len(self.text)


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs(Generic[ItemT]):
    """The same."""

    kind: ClassVar[str] = "a constant"
    item: ItemT
    text: str = "text"
    inner: tuple[object, ...] = ()

    def size(self) -> int:
        return len(self.text)


@values.dataclass(frozen=True, slots=True)
class Nothing:
    """A value without fields."""


BOTH: Final = pytest.mark.parametrize("kind", [Ours, Theirs])
WRONG: Final[list[tuple[tuple[object, ...], dict[str, object]]]] = [
    ((), {}),
    ((1, "a", (), "too many"), {}),
    ((1,), {"item": 1}),
    ((1,), {"unknown": 1}),
    ((), {"text": "only"}),
]


@BOTH
def test_it_is_what_the_standard_decorator_makes(kind: Callable[..., Ours[int]]) -> None:
    value = kind(1, text="abc")
    assert (value.item, value.text, value.inner, value.size()) == (1, "abc", (), 3)
    assert value.kind == "a constant"
    assert value == kind(item=1, text="abc") != kind(1)
    assert {value, kind(1, "abc")} == {value}
    assert repr(value).endswith("(item=1, text='abc', inner=())")


@BOTH
@pytest.mark.parametrize(("given", "named"), WRONG)
def test_each_field_is_given_once(
    kind: Callable[..., object], given: tuple[object, ...], named: dict[str, object]
) -> None:
    with pytest.raises(TypeError):
        kind(*given, **named)


@BOTH
def test_it_cannot_change(kind: Callable[..., object]) -> None:
    value = kind(1)
    with pytest.raises(AttributeError):
        setattr(value, "item", 2)  # noqa: B010 - the checker knows that it is frozen
    with pytest.raises(AttributeError):
        delattr(value, "item")
    # Quirk: the standard decorator's own check fails when it has made slots.
    with pytest.raises((AttributeError, TypeError)):
        setattr(value, "another", 2)  # noqa: B010 - the same
    assert not hasattr(value, "__dict__")


def test_copies_and_pickles_are_equal() -> None:
    value = Ours(1, inner=(Nothing(), Ours("b")))
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - our own
        assert again == value


def test_patterns_take_the_fields_in_order() -> None:
    match Ours(1, "abc"):
        case Ours(item, text):
            assert (item, text) == (1, "abc")


def test_another_class_is_another_value() -> None:
    ours: object = Ours(1)
    assert ours != Theirs(1)
    assert Nothing() == Nothing()
    assert Nothing() != ours


def test_values_become_dictionaries_all_the_way_down() -> None:
    value = Ours(1, inner=(Nothing(), Ours("b")))
    inner = {"item": "b", "text": "text", "inner": ()}
    plain = {"item": 1, "text": "text", "inner": ({}, inner)}
    assert values.asdict(value) == dataclasses.asdict(value) == plain


@pytest.mark.parametrize("module", [values, dataclasses])
def test_replace_changes_what_it_is_told(module: object) -> None:
    replace = getattr(module, "replace")  # noqa: B009 - both modules have it
    assert replace(Ours(1, "a"), text="b") == Ours(1, "b")
    with pytest.raises(TypeError):
        replace(Ours(1), unknown=1)


def test_the_standard_library_takes_it_for_its_own() -> None:
    assert dataclasses.is_dataclass(Ours)
    ours, theirs = dataclasses.fields(Ours), dataclasses.fields(Theirs)
    assert [(field.name, field.type, field.default) for field in ours] == [
        (field.name, field.type, field.default) for field in theirs
    ]
    assert values.is_value(Ours)
    assert values.field_names(Ours) == ("item", "text", "inner")
    assert not values.is_value(Theirs)
    assert not values.is_value(Ours(1))


def test_only_frozen_values_with_slots_are_made() -> None:
    with pytest.raises(TypeError):

        @values.dataclass(frozen=False, slots=True)
        class Mutable:
            """Not frozen."""

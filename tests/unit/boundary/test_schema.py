# SPDX-License-Identifier: Apache-2.0
"""Every declared message inside its limits, one step outside, and with strange fields."""

import dataclasses
from typing import Annotated, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.boundary import calls, cbor
from strongroom.boundary.cbor import Value
from strongroom.boundary.schema import MAX_DESCRIPTORS, decode_message, encode_message
from strongroom.boundary.stream import MAX_FRAME_BYTES
from strongroom.errors import BoundaryError
from strongroom.host import control_calls
from strongroom.values import dataclass
from tests.unit.boundary.generated import (
    MESSAGES,
    hints,
    messages,
    simplest,
    wrong_values,
    wrong_wire_values,
)

pytestmark = pytest.mark.unit

EACH_MESSAGE = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
WITH_FIELDS = pytest.mark.parametrize(
    "kind", [kind for kind in MESSAGES if hints(kind)], ids=lambda kind: kind.__name__
)


def example(kind: type) -> object:
    """Return the simplest message of a class."""
    return simplest(kind)


def wire(kind: type) -> tuple[dict[str, Value], list[int]]:
    """Return the simplest message of a class as it is sent."""
    value, descriptors = encode_message(example(kind))
    assert isinstance(value, dict)
    return value, descriptors


@EACH_MESSAGE
def test_what_is_inside_its_limits_arrives_as_it_was(kind: type) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(kind))
    def check(message: object) -> None:
        value, descriptors = encode_message(message)
        data = cbor.encode(value)
        assert len(data) <= MAX_FRAME_BYTES
        arrived: object = decode_message(kind, cbor.decode(data), descriptors)
        assert arrived == message
        assert repr(arrived) == repr(message)  # 1 == True, and is not the same message

    check()


@WITH_FIELDS
def test_one_step_outside_is_not_sent(kind: type) -> None:
    good = example(kind)
    for name, hint in hints(kind).items():
        for wrong in wrong_values(hint):
            bad = dataclasses.replace(good, **{name: wrong})  # type: ignore[type-var]
            with pytest.raises(BoundaryError):
                encode_message(bad)


@WITH_FIELDS
def test_one_step_outside_is_not_received(kind: type) -> None:
    value, descriptors = wire(kind)
    for name, hint in hints(kind).items():
        for wrong in wrong_wire_values(hint):
            with pytest.raises(BoundaryError):
                decode_message(kind, {**value, name: wrong}, descriptors)


@EACH_MESSAGE
def test_fields_are_exactly_the_declared_ones(kind: type) -> None:
    value, descriptors = wire(kind)
    strange: list[Value] = [None, True, 0, b"", "", [], [value], [*value.values(), 0]]
    strange.append({**value, "another": None})
    strange += [{key: value[key] for key in value if key != missing} for missing in value]
    strange += [
        {**{k: v for k, v in value.items() if k != name}, name.upper(): 0} for name in value
    ]
    for bad in strange:
        with pytest.raises(BoundaryError):
            decode_message(kind, bad, descriptors)


@EACH_MESSAGE
def test_descriptors_are_exactly_those_referred_to(kind: type) -> None:
    value, descriptors = wire(kind)

    assert decode_message(kind, value, descriptors) == example(kind)
    with pytest.raises(BoundaryError, match="does not use"):
        decode_message(kind, value, [*descriptors, 77])
    if descriptors:
        with pytest.raises(BoundaryError, match="lacks"):
            decode_message(kind, value, descriptors[:-1])
        with pytest.raises(BoundaryError, match="lacks"):
            decode_message(kind, value, [])


def test_descriptors_are_dealt_out_in_declared_order() -> None:
    sent = calls.RestoreHeader(image=10, header=11, backup=12, force=True)
    value, descriptors = encode_message(sent)

    assert descriptors == [10, 11, 12]
    assert decode_message(calls.RestoreHeader, value, [20, 21, 22]) == calls.RestoreHeader(
        image=20, header=21, backup=22, force=True
    )


def test_no_declared_call_needs_more_descriptors_than_a_frame_carries() -> None:
    for kind in MESSAGES:
        files = [
            hint
            for hint in hints(kind).values()
            if hint is calls.File or calls.File in get_args(hint)
        ]
        assert len(files) <= MAX_DESCRIPTORS, kind


@dataclass(frozen=True, slots=True)
class FiveFiles:
    first: calls.File
    second: calls.File
    third: calls.File
    fourth: calls.File
    fifth: calls.File


def test_a_fifth_descriptor_is_refused() -> None:
    with pytest.raises(BoundaryError, match="too many"):
        encode_message(FiveFiles(10, 11, 12, 13, 14))


@dataclass(frozen=True, slots=True)
class Limitless:
    size: int


def test_a_field_without_limits_cannot_be_declared() -> None:
    with pytest.raises(BoundaryError, match="without limits"):
        encode_message(Limitless(1))


def test_every_call_has_an_answer_and_a_name_of_its_own() -> None:
    declared = [*calls.ECALLS, *calls.OCALLS, *control_calls.CONTROL_CALLS]
    names = [kind.__name__ for kind in declared]

    assert len(names) == len(set(names))
    assert all(dataclasses.is_dataclass(kind.result) for kind in declared)
    assert set(control_calls.CONTROL_OCALLS) <= set(calls.OCALLS)


def test_no_call_is_left_out() -> None:
    written = {
        kind
        for module in (calls, control_calls)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, calls.Call) and kind is not calls.Call
    }
    assert written == {*calls.ECALLS, *calls.OCALLS, *control_calls.CONTROL_CALLS}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_random_values_are_refused_with_our_error(data: bytes) -> None:
    try:
        value = cbor.decode(data)
        message = decode_message(calls.AddKeyslot, value, [])
    except BoundaryError:
        return
    pytest.fail(f"accepted {message}")


def test_every_field_has_limits() -> None:
    for kind in MESSAGES:
        for name, hint in hints(kind).items():
            if get_origin(hint) is Annotated:
                assert len(get_args(hint)) == 2, (kind, name)

# SPDX-License-Identifier: Apache-2.0
"""What a TPM says of itself, also one that says strange things."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import LimitError, TpmError, TpmTamperedError
from strongroom.tpm import Command, Device, Nv, NvPublic, Objects, PcrSelection
from strongroom.tpm.device import LOADED_SESSIONS
from strongroom.tpm.marshal import Reader, u8, u32
from tests.unit.tpm.known import INDEX
from tests.unit.tpm.roads import Told

pytestmark = pytest.mark.unit

HANDLES, PROPERTIES = 1, 6


def listed(capability: int, *entries: int, has_more: bool = False, count: int = 0) -> bytes:
    found = count or len(entries) // (2 if capability == PROPERTIES else 1)
    return u8(has_more) + u32(capability) + u32(found) + b"".join(map(u32, entries))


def asked_from(command: Command[bytes]) -> int:
    reader = Reader(command.rest)
    reader.u32()
    return reader.u32()


def test_handles_are_asked_for_until_there_are_no_more() -> None:
    kept = (0x81000001, 0x81000002, 0x81005300)

    def says(command: Command[bytes]) -> bytes:
        left = [handle for handle in kept if handle >= asked_from(command)]
        return listed(HANDLES, *left[:1], has_more=len(left) > 1)

    assert Device(Told(says)).handles(0x81000000) == kept


def test_handles_of_another_kind_are_left_out() -> None:
    device = Device(Told(lambda _: listed(HANDLES, 0x01800001, 0x02000000)))
    assert device.handles(0x01000000) == (0x01800001,)


def test_loaded_sessions_are_of_every_type() -> None:
    """A TPM has at most 64; this one tells them one by one."""
    loaded = (0x02000000, 0x03000001, 0x02000002)

    def says(command: Command[bytes]) -> bytes:
        asked = asked_from(command)
        assert asked >> 24 == 0x02, "0x03 were those that are saved"
        left = loaded[asked & 0xFFFFFF :]
        return listed(HANDLES, *left[:1], has_more=len(left) > 1)

    assert Device(Told(says)).handles(LOADED_SESSIONS) == loaded


@pytest.mark.parametrize("handles", [(), (0x81000001,), (0x80FFFFFF,), (0xFFFFFFFF,)])
def test_a_list_that_leads_nowhere_is_given_up(handles: tuple[int, ...]) -> None:
    asked = []

    def says(command: Command[bytes]) -> bytes:
        asked.append(asked_from(command))
        return listed(HANDLES, *handles, has_more=True)

    Device(Told(says)).handles(0x81000000)
    assert len(asked) <= 2


def test_a_list_that_does_not_end_is_given_up() -> None:
    """Always one more, and always a later one."""
    asked = []

    def says(command: Command[bytes]) -> bytes:
        asked.append(asked_from(command))
        return listed(HANDLES, asked[-1], has_more=True)

    with pytest.raises(TpmTamperedError, match="does not end"):
        Device(Told(says)).handles(0x81000000)
    assert len(asked) <= 64


@pytest.mark.parametrize("given", [b"", b"x" * 31, b"x" * 33])
def test_another_number_of_random_bytes_is_refused(given: bytes) -> None:
    road = Told(lambda _: b"", lambda _: given)
    with pytest.raises(TpmTamperedError, match="another number"):
        Device(road).random(32)


def test_capabilities_are_told() -> None:
    fixed = (0x100, 0x322E3000, 0x102, 138, 0x105, 0x49424D00, 0x10B, 0x00020007)
    vendor = (0x106, 0x53572020, 0x107, 0x2054504D, 0x108, 0, 0x109, 0)
    variable = (0x20E, 3, 0x20F, 31)

    def says(command: Command[bytes]) -> bytes:
        of = {0x100: (*fixed, *vendor), 0x200: variable}[asked_from(command)]
        return listed(PROPERTIES, *of)

    found = Device(Told(says)).capabilities()
    assert (found.family, found.manufacturer, found.vendor) == ("2.0", "IBM", "SW   TPM")
    assert (found.revision, found.firmware) == (138, "2.7")
    assert (found.lockout_counter, found.lockout_limit) == (3, 31)


def test_what_is_no_letter_is_not_printed() -> None:
    """A terminal would take an escape sequence for a command."""
    device = Device(Told(lambda _: listed(PROPERTIES, 0x105, 0x1BFF4100)))
    assert device.capabilities().manufacturer == "\ufffd\ufffdA"


@pytest.mark.parametrize(
    "answer",
    [
        listed(PROPERTIES, 0x81000001, 0),
        listed(HANDLES, 0x81000001, count=2),
        listed(HANDLES, 0x81000001, count=0xFFFFFFFF),
        listed(HANDLES, 0x81000001)[:-1],
        b"",
    ],
)
def test_another_list_than_was_asked_for_is_refused(answer: bytes) -> None:
    with pytest.raises(TpmTamperedError):
        Device(Told(lambda _: answer)).handles(0x81000000)


@pytest.mark.parametrize("length", [-1, 0, 33, 1 << 40])
def test_no_more_random_bytes_are_asked_for_than_every_tpm_gives(length: int) -> None:
    with pytest.raises(LimitError):
        Device(Told(lambda _: b"")).random(length)


HEADS = (b"", listed(HANDLES), listed(PROPERTIES), listed(HANDLES, has_more=True)[:5])


@given(st.builds(lambda head, end: head + end, st.sampled_from(HEADS), st.binary(max_size=100)))
def test_nothing_else_is_raised_for_any_answer(parameters: bytes) -> None:
    road = Told(lambda _: parameters)
    device = Device(road)
    for ask in (
        device.capabilities,
        device.clock,
        lambda: device.handles(0x81000000),
        lambda: device.read_pcrs(PcrSelection.of([0, 16])),
        lambda: Nv(road).describe(INDEX.index),
        lambda: Nv(road).count(NvPublic.counter(INDEX.index), b""),
        lambda: Nv(road).read_open(INDEX, 8),
        lambda: Objects(road).describe(0x81000001),
    ):
        with contextlib.suppress(TpmError):
            ask()

# SPDX-License-Identifier: Apache-2.0
"""What else a relay can do to a message: leave it out, cut it, say it twice, say another one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from strongroom.errors import TpmTransportError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.marshal import u16, u32
from tests.hostile.tpm.framing import (
    HANDLES,
    HEADER,
    MAKES_A_HANDLE,
    NO_SESSIONS,
    SESSIONS,
    framing,
)
from tests.hostile.tpm.liar import Carried, Liar, Lie, lying
from tests.hostile.tpm.operations import (
    COUNTER,
    NEW,
    OPERATIONS,
    ORDINARY,
    Bench,
    Operation,
    set_up,
)
from tests.hostile.tpm.share import Share
from tests.hostile.tpm.trials import About, honestly, judge
from tests.swtpm import swtpm

pytestmark = pytest.mark.hostile

SUCCESS: Final = NO_SESSIONS + u32(HEADER) + u32(0)


@dataclass(frozen=True)
class Place:
    liar: Liar
    bench: Bench
    other: Liar
    """The way to another TPM, that was enrolled by the same enclave."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    here = tmp_path_factory.mktemp("relay")
    with swtpm(here) as tpm, swtpm(here) as another, lying(tpm) as liar, lying(another) as other:
        set_up(other)
        yield Place(liar, set_up(liar), other)


def is_refusal(answer: bytes) -> bool:
    return len(answer) == HEADER and answer[6:] != u32(0)


# --- lies -----------------------------------------------------------------------------------------


def dropped(_: Liar, __: bytes) -> bytes:
    raise TpmTransportError("nothing came in time")


def answer_dropped(liar: Liar, command: bytes) -> bytes:
    liar.raw(command)
    raise TpmTransportError("nothing came in time")


def carried_twice_first(liar: Liar, command: bytes) -> bytes:
    answer = liar.raw(command)
    again = liar.raw(command)
    assert command[:2] == NO_SESSIONS or is_refusal(again), "the TPM takes no command twice"
    return answer


def carried_twice_second(liar: Liar, command: bytes) -> bytes:
    liar.raw(command)
    return liar.raw(command)


def previous_answer(liar: Liar, command: bytes) -> bytes:
    liar.raw(command)
    # The own exchange is the last one already.
    return liar.carried[-2].response if len(liar.carried) > 1 else SUCCESS


def previous_command(liar: Liar, command: bytes) -> bytes:
    return liar.raw(liar.carried[-2].command if len(liar.carried) > 1 else command[:HEADER])


def late(liar: Liar, command: bytes) -> bytes:
    """The next command's answer is the answer to this one: a plain command slips in between."""
    liar.raw(command)
    return liar.raw(NO_SESSIONS + u32(12) + u32(CommandCode.GET_RANDOM) + u16(8))


def bare_success(_: Liar, __: bytes) -> bytes:
    return SUCCESS


def empty(_: Liar, __: bytes) -> bytes:
    return b""


def too_long(_: Liar, __: bytes) -> bytes:
    return bytes(5000)


def extended(liar: Liar, command: bytes) -> bytes:
    return liar.raw(command) + bytes(1)


def extended_and_said(liar: Liar, command: bytes) -> bytes:
    answer = liar.raw(command) + bytes(4)
    return answer[:2] + u32(len(answer)) + answer[6:]


def stripped_answer(liar: Liar, command: bytes) -> bytes:
    """Without its sessions, as if none had been asked for."""
    answer = liar.raw(command)
    if answer[:2] != SESSIONS:
        return answer + bytes(1)
    at = HEADER + (4 if int.from_bytes(command[6:10], "big") in MAKES_A_HANDLE else 0)
    size = int.from_bytes(answer[at : at + 4], "big")
    body = answer[HEADER:at] + answer[at + 4 : at + 4 + size]
    return NO_SESSIONS + u32(HEADER + len(body)) + u32(0) + body


def stripped_command(liar: Liar, command: bytes) -> bytes:
    """Carried without its sessions, and answered as the TPM answers to that."""
    handles = 4 * HANDLES.get(int.from_bytes(command[6:10], "big"), 0)
    at = HEADER + handles
    if command[:2] != SESSIONS:
        return liar.raw(SESSIONS + command[2:])
    size = int.from_bytes(command[at : at + 4], "big")
    body = command[HEADER:at] + command[at + 4 + size :]
    return liar.raw(NO_SESSIONS + u32(HEADER + len(body)) + command[6:10] + body)


def redirected(liar: Liar, command: bytes) -> bytes:
    """About another thing of the same kind."""
    changed = command
    for old, new in REDIRECTIONS:
        changed = changed.replace(u32(old), u32(new))
    return liar.raw(changed if changed != command else command + bytes(1))


REDIRECTIONS: Final = (
    (ORDINARY.index, COUNTER.index),
    (NEW.index, COUNTER.index),
    (0x81000001, 0x81005300),
    (0x40000001, 0x40000007),
)

LIES: Final[tuple[Lie, ...]] = (
    dropped,
    answer_dropped,
    carried_twice_first,
    carried_twice_second,
    previous_answer,
    previous_command,
    late,
    bare_success,
    empty,
    too_long,
    extended,
    extended_and_said,
    stripped_answer,
    stripped_command,
    redirected,
)


# --- tests ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truncated:
    """Only the beginning comes back, with the size of the whole or with its own."""

    length: int
    is_said: bool

    def __call__(self, liar: Liar, command: bytes) -> bytes:
        answer = liar.raw(command)[: self.length]
        if self.is_said and self.length >= HEADER:
            return answer[:2] + u32(len(answer)) + answer[6:]
        return answer


def lies_about(place: Place, carried: list[Carried], share: Share) -> Iterator[About]:
    def of_the_other(_: Liar, command: bytes) -> bytes:
        return place.other.raw(command)

    for message, exchange in enumerate(carried):
        yield from ((message, lie) for lie in (*LIES, of_the_other))
        framed = framing(exchange, "response")
        contents = share.of(set(range(len(exchange.response))) - framed)
        for length, is_said in itertools.product((*framed, *contents), (False, True)):
            yield message, Truncated(length, is_said=is_said)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_no_lie_is_believed(place: Place, operation: Operation, share: Share) -> None:
    _, carried = honestly(place.liar, place.bench, operation)
    verdicts = judge(
        place.liar,
        place.bench,
        operation,
        lies_about(place, carried, share),
        unseen={carried_twice_first},
    )
    place.other.tidy()
    print(f"{operation.__name__}: {verdicts.summary()}")
    assert verdicts.counts["TpmTamperedError"]
    assert verdicts.counts["TpmTransportError"] >= 2

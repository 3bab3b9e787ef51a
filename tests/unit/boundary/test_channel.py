# SPDX-License-Identifier: Apache-2.0
"""Calls, answers, errors and ocalls between two real ends, one of which may break the rules."""

import inspect
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

import pytest

from strongroom import errors
from strongroom.boundary import calls, cbor
from strongroom.boundary.calls import (
    MAX_MESSAGE_BYTES,
    Describe,
    Done,
    LoadDisk,
    NewRecipient,
    ReportProgress,
)
from strongroom.boundary.channel import (
    Caller,
    Handler,
    Received,
    Responder,
    ViolationError,
    registry_of,
)
from strongroom.boundary.stream import EndOfStreamError, UnixStream, receive_frame, send_frame
from strongroom.errors import (
    BoundaryError,
    DiskError,
    EnclaveGoneError,
    NotAnsweringError,
    StrongroomError,
)

pytestmark = pytest.mark.unit

KEY: Final = bytes(range(32))
ALL_ERRORS: Final = sorted(
    (
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, StrongroomError)
    ),
    key=lambda kind: kind.__name__,
)


class Ends:
    """Both ends of one boundary; the answering one runs on a thread for one call."""

    def __init__(self) -> None:
        one, other = socket.socketpair()
        one.settimeout(5)
        other.settimeout(5)
        self.near, self.far = UnixStream(one), UnixStream(other)
        self.heard: list[object] = []
        self.caller = Caller(self.near, registry_of(calls.OCALLS), self.on_ocall)
        self.responder = Responder(self.far, registry_of(calls.ECALLS))

    def on_ocall(self, received: Received) -> object:
        self.heard.append(received.call)
        return Done()

    def answering(self, handler: Handler) -> "Answering":
        return Answering(lambda: self.responder.serve_one(handler))

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Answering:
    """Runs one end for the length of a block, and keeps what it raised."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.raised: BaseException | None = None
        self._thread = threading.Thread(target=self._catch, args=(run,))

    def _catch(self, run: Callable[[], object]) -> None:
        try:
            run()
        except BoundaryError as err:
            self.raised = err

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def raising(error: StrongroomError) -> Handler:
    def handler(received: Received) -> object:
        del received
        raise error

    return handler


def saying(answer: object) -> Handler:
    def handler(received: Received) -> object:
        del received
        return answer

    return handler


def unexpected(received: Received) -> object:
    pytest.fail(f"a handler ran for {received}")


def sent(end: UnixStream, kind: int, name: str, fields: cbor.Value) -> None:
    send_frame(end, cbor.encode([kind, name, fields]), [])


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_itself(kind: type[StrongroomError], ends: Ends) -> None:
    with (
        ends.answering(raising(kind("it went wrong: é", hint="do this"))),
        pytest.raises(kind) as caught,
    ):
        ends.caller.call(Describe())

    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint) == ("it went wrong: é", "do this")


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "Final", "ClassVar", "__name__", "EndOfStreamError", ""]
)
def test_an_unknown_error_is_a_boundary_error(name: str, ends: Ends) -> None:
    sent(ends.far, 2, "Describe", {"error": name, "message": "words", "hint": ""})

    with pytest.raises(BoundaryError, match="unknown error: words") as caught:
        ends.caller.call(Describe())
    assert type(caught.value) is BoundaryError


def test_long_and_broken_texts_of_errors_are_cut(ends: Ends) -> None:
    with (
        ends.answering(raising(DiskError("é" * 50000 + "\ud800", hint="\udfff"))),
        pytest.raises(DiskError) as caught,
    ):
        ends.caller.call(Describe())

    assert caught.value.message == "é" * ((MAX_MESSAGE_BYTES - 3) // 2) + "..."
    assert caught.value.hint == "?"


def test_the_longest_error_that_fits_is_whole(ends: Ends) -> None:
    longest = "é" * (MAX_MESSAGE_BYTES // 2)
    with (
        ends.answering(raising(DiskError(longest, hint=longest))),
        pytest.raises(DiskError) as caught,
    ):
        ends.caller.call(Describe())

    assert (caught.value.message, caught.value.hint) == (longest, longest)


def test_ocalls_are_answered_in_between(ends: Ends) -> None:
    def handler(received: Received) -> object:
        del received
        for step in range(3):
            assert ends.responder.ocall(ReportProgress("stage", step, 3)) == Done()
        return calls.Recipient(KEY, b"")

    with ends.answering(handler):
        assert ends.caller.call(NewRecipient("unlock")) == calls.Recipient(KEY, b"")

    assert ends.heard == [ReportProgress("stage", step, 3) for step in range(3)]


def answer_error(end: UnixStream) -> None:
    sent(end, 2, "ReportProgress", {"error": "DiskError", "message": "", "hint": ""})


@pytest.mark.parametrize(
    "answer",
    [
        answer_error,
        lambda end: sent(end, 1, "Describe", {}),
        lambda end: sent(end, 1, "ReportProgress", {"more": 1}),
        lambda end: sent(end, 1, "ReportProgress", None),
        lambda end: sent(end, 0, "ReportProgress", {}),
        lambda end: sent(end, 0, "Shutdown", {}),
        lambda end: sent(end, 3, "ReportProgress", {}),
        lambda end: send_frame(end, b"\xff\xff", []),
        lambda end: end._socket.sendall(bytes(4)),
        lambda end: end._socket.sendall(b"\xff" * 4),
    ],
)
def test_what_is_no_answer_to_an_ocall_ends_the_channel(
    answer: Callable[[UnixStream], None], ends: Ends
) -> None:
    def handler(received: Received) -> object:
        del received
        answer(ends.near)
        ends.responder.ocall(ReportProgress("stage", 0, 0))
        pytest.fail("the ocall was believed")

    sent(ends.near, 0, "Describe", {})
    with pytest.raises(ViolationError):
        ends.responder.serve_one(handler)


def test_a_caller_that_leaves_during_an_ocall_is_gone(ends: Ends) -> None:
    def handler(received: Received) -> object:
        del received
        ends.near.close()
        return ends.responder.ocall(ReportProgress("stage", 0, 0))

    sent(ends.near, 0, "Describe", {})
    with pytest.raises(EndOfStreamError):
        ends.responder.serve_one(handler)


@pytest.mark.parametrize(
    "message",
    [
        [0, "Describe", {"more": 1}],
        [0, "describe", {}],
        [0, "Call", {}],
        [0, "ReportProgress", {"stage": "x", "done": 0, "total": 0}],
        [0, "__class__", {}],
        [0, "x" * 1000, {}],
        [1, "Describe", {}],
        [2, "Describe", {"error": "DiskError", "message": "", "hint": ""}],
        [3, "Describe", {}],
        [-1, "Describe", {}],
        [False, "Describe", {"more": 1}],
        [0, b"Describe", {}],
        [0, "Describe"],
        [0, "Describe", {}, 0],
        [],
        {},
        {"kind": 0},
        0,
        None,
        "Describe",
    ],
)
def test_what_is_no_call_is_not_answered(message: cbor.Value, ends: Ends) -> None:
    send_frame(ends.near, cbor.encode(message), [])

    with pytest.raises(BoundaryError):
        ends.responder.serve_one(unexpected)

    ends.far.close()
    assert ends.near.receive(1) == (b"", [])


def test_truth_values_are_no_kinds_of_message(ends: Ends) -> None:
    send_frame(ends.near, cbor.encode([False, "Describe", {}]), [])

    with pytest.raises(BoundaryError, match="shape"):
        ends.responder.serve_one(saying(Done()))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Describe", {}),
        ("Nothing", {}),
        ("LoadDisk", {"image": True, "header": None, "read_only": 1, "direct": None}),
        ("LoadDisk", {"image": True, "header": None, "read_only": True, "direct": None}),
    ],
)
def test_descriptors_of_a_refused_call_are_closed(
    name: str, fields: cbor.Value, ends: Ends, tmp_path: Path
) -> None:
    with (tmp_path / "image").open("wb") as file:
        send_frame(ends.near, cbor.encode([0, name, fields]), [file.fileno()] * 3)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing has its own
        with pytest.raises(BoundaryError):
            ends.responder.serve_one(unexpected)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("failing", [False, True])
def test_descriptors_of_a_call_are_closed_after_it(
    ends: Ends, tmp_path: Path, *, failing: bool
) -> None:
    seen: list[int] = []

    def handler(received: Received) -> object:
        seen.extend(received.descriptors)
        assert isinstance(received.call, LoadDisk)
        assert received.call.image is not None
        assert os.fstat(received.call.image).st_size == 3
        if failing:
            raise DiskError("no")
        return Done()

    with (tmp_path / "image").open("wb+") as file:
        file.write(b"abc")
        file.flush()
        fields: cbor.Value = {"image": True, "header": None, "read_only": True, "direct": None}
        send_frame(ends.near, cbor.encode([0, "LoadDisk", fields]), [file.fileno()])
        ends.responder.serve_one(handler)

    assert len(seen) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(seen[0])


def test_an_answer_that_does_not_fit_fails_its_call_only(ends: Ends) -> None:
    with (
        ends.answering(saying(calls.HeaderDump("x" * (512 * 1024 + 1)))) as far,
        pytest.raises(BoundaryError, match="outside its limits"),
    ):
        ends.caller.call(calls.DumpHeader())
    assert far.raised is None

    with ends.answering(saying(calls.HeaderDump("{}"))):
        assert ends.caller.call(calls.DumpHeader()) == calls.HeaderDump("{}")


def test_the_answer_of_another_call_is_refused(ends: Ends) -> None:
    sent(ends.far, 1, "NewRecipient", {"public_key": KEY})
    with pytest.raises(BoundaryError, match="another call"):
        ends.caller.call(Describe())


def test_an_answer_outside_its_limits_is_refused(ends: Ends) -> None:
    sent(ends.far, 1, "NewRecipient", {"public_key": KEY[:-1], "report": b""})
    with pytest.raises(BoundaryError, match="limits"):
        ends.caller.call(NewRecipient("unlock"))


def test_an_ocall_that_does_not_exist_is_refused(ends: Ends) -> None:
    sent(ends.far, 0, "Shutdown", {})
    with pytest.raises(BoundaryError, match="no boundary call"):
        ends.caller.call(Describe())
    assert ends.heard == []


def test_an_enclave_that_ends_is_gone(ends: Ends) -> None:
    ends.far.close()
    with pytest.raises(EnclaveGoneError):
        ends.caller.call(Describe())


def test_a_refusal_reaches_who_listens_and_nobody_else(ends: Ends) -> None:
    ends.responder.refuse(BoundaryError("enough", hint="go"))
    payload, _ = receive_frame(ends.near)
    assert cbor.decode(payload) == [
        2,
        "",
        {"error": "BoundaryError", "hint": "go", "message": "enough"},
    ]

    ends.caller.close()
    ends.responder.refuse(BoundaryError("enough"))


def test_a_call_that_is_given_up_does_not_answer_the_next_one(ends: Ends) -> None:
    with pytest.raises(NotAnsweringError):
        ends.caller.call(Describe(), lambda: False)
    receive_frame(ends.far)  # The call, which is answered late.
    with pytest.raises(NotAnsweringError):
        ends.caller.call(calls.Flush(), lambda: False)
    sent(ends.far, 2, "", {"error": "DiskError", "message": "late", "hint": ""})
    asked = iter(range(50))
    with ends.answering(saying(calls.Flushed(done=True))):
        answer = ends.caller.call(calls.Flush(), lambda: next(asked, None) is not None)
    assert answer == calls.Flushed(done=True)


def test_who_waits_is_asked_again_and_again(ends: Ends) -> None:
    answers = iter((True, True, False))
    with pytest.raises(NotAnsweringError):
        ends.caller.call(Describe(), lambda: next(answers))
    assert not list(answers)


def test_a_side_that_stops_within_a_message_is_given_up_for_good() -> None:
    one, other = socket.socketpair()
    with other:
        caller = Caller(UnixStream(one, stall_seconds=1), registry_of(()), unexpected)
        other.sendall(bytes(3))
        for _ in range(2):
            with pytest.raises(NotAnsweringError, match="stopped in the middle"):
                caller.call(Describe())
        caller.close()


def test_an_answer_may_take_longer_than_a_message_may_stall() -> None:
    """As that of an enclave which derives a key: the limit is for a message that has begun."""
    one, other = socket.socketpair()
    with one, other:
        caller = Caller(UnixStream(one, stall_seconds=1), registry_of(()), unexpected)
        responder = Responder(UnixStream(other), registry_of((NewRecipient,)))

        def answer(_: Received) -> object:
            time.sleep(2)
            return calls.Recipient(KEY, b"report")

        thread = threading.Thread(target=responder.serve_one, args=(answer,))
        thread.start()
        assert caller.call(NewRecipient("unlock")).public_key == KEY
        thread.join()

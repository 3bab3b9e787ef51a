# SPDX-License-Identifier: Apache-2.0
"""Calls and answers over a stream: the two ends of the boundary.

The host calls, the enclave answers; while it works on an ecall the enclave may make ocalls, which
the host answers at once. One call is in flight at a time. A message is a CBOR array::

    [kind, name, fields]      kind: 0 call, 1 result, 2 error

An error carries the class name from :mod:`strongroom.errors`, its message and its hint; the
receiving side raises the same class. Names that are not in that module become a
:class:`BoundaryError`.
"""

import contextlib
from collections.abc import Mapping
from typing import Annotated, Final, Protocol, TypeVar

from strongroom import errors
from strongroom.boundary import cbor
from strongroom.boundary.calls import MAX_MESSAGE_BYTES, Call, Text
from strongroom.boundary.schema import Size, decode_message, encode_message
from strongroom.boundary.stream import (
    ByteStream,
    EndOfStreamError,
    StalledError,
    close_all,
    receive_frame,
    send_frame,
)
from strongroom.errors import (
    BoundaryError,
    EnclaveGoneError,
    NotAnsweringError,
    StrongroomError,
)
from strongroom.values import dataclass

_CALL, _RESULT, _ERROR = 0, 1, 2
_KINDS: Final = (_CALL, _RESULT, _ERROR)
_PATIENCE_SECONDS: Final = 0.1
"""How often a caller that waits is asked whether it goes on waiting."""
_CUT: Final = "..."
_Message = Annotated[str, Size(0, MAX_MESSAGE_BYTES)]

ResultT = TypeVar("ResultT")
Registry = Mapping[str, type[Call[object]]]


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error as it crosses the boundary."""

    error: Text
    message: _Message
    hint: _Message


@dataclass(frozen=True, slots=True)
class Received:
    """A call that came in, with the descriptors that its fields refer to."""

    call: Call[object]
    descriptors: tuple[int, ...]


def registry_of(declared: tuple[type[Call[object]], ...]) -> Registry:
    """Return calls by their names on the wire."""
    return {kind.__name__: kind for kind in declared}


class ViolationError(BoundaryError):
    """The other side broke the rules in the middle of a call: the channel is given up."""

    exit_code = BoundaryError.exit_code


class PeerLeftError(EnclaveGoneError):
    """The other side of a caller ended before it answered; it did not say so itself."""

    exit_code = EnclaveGoneError.exit_code


class PeerSilentError(NotAnsweringError):
    """The other side of a caller does not answer; it did not say so itself."""

    exit_code = NotAnsweringError.exit_code


class Handler(Protocol):
    """Answers one incoming call; what it raises goes back as an error."""

    def __call__(self, received: Received) -> object:
        """Return a message of the call's ``result`` class."""


class Patience(Protocol):
    """Says, again and again while there is no answer, whether to go on waiting for it."""

    def __call__(self) -> bool:
        """Return whether to go on."""


class Caller:
    """The side that calls: the host towards the enclave, a client towards the host."""

    def __init__(self, stream: ByteStream, ocalls: Registry, on_ocall: Handler) -> None:
        self._stream = stream
        self._ocalls = ocalls
        self._on_ocall = on_ocall
        self._overdue: Call[object] | None = None
        self._stalled: str | None = None

    def call(self, request: Call[ResultT], patience: Patience | None = None) -> ResultT:
        """Make a call and return its answer; ocalls are answered in between.

        After a call that was given up, the next one first waits for that answer, and drops it.

        Args:
            request: The call.
            patience: Asked while there is no answer; without it there is no limit.

        Raises:
            StrongroomError: What the other side raised.
            PeerSilentError: ``patience`` ended, or the other side stopped within a message, after
                which no call is possible any more.
            PeerLeftError: The other side ended before it answered.
            BoundaryError: The other side broke the rules.
        """
        if self._stalled is not None:
            raise PeerSilentError(self._stalled)
        try:
            self._settle(patience)
            _send(self._stream, _CALL, type(request).__name__, request)
            return self._await_result(request, patience)
        except StalledError as err:
            self._stalled = err.message
            raise PeerSilentError(err.message) from err
        except EndOfStreamError as err:
            raise PeerLeftError("the enclave ended before it answered") from err

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _settle(self, patience: Patience | None) -> None:
        """Take the answer of a call that was given up, if there is one, and drop it."""
        overdue, self._overdue = self._overdue, None
        if overdue is not None:
            close_all(self._await_answer(overdue, patience)[2])

    def _await_result(self, request: Call[ResultT], patience: Patience | None) -> ResultT:
        kind, fields, descriptors = self._await_answer(request, patience)
        if kind == _ERROR:
            close_all(descriptors)
            raise _error_from(fields)
        # `result` is declared beside the type argument of Call, which is what makes this true.
        result_kind: type[ResultT] = request.result  # type: ignore[assignment]
        return _decode_or_close(result_kind, fields, descriptors)

    def _await_answer(
        self, request: Call[object], patience: Patience | None
    ) -> tuple[int, cbor.Value, list[int]]:
        """Answer ocalls until the answer to the request comes."""
        while True:
            self._await_frame(request, patience)
            kind, name, fields, descriptors = _receive(self._stream)
            if kind == _CALL:
                answer_call(self._stream, self._ocalls, self._on_ocall, (name, fields, descriptors))
                continue
            if kind == _RESULT and name != type(request).__name__:
                close_all(descriptors)
                raise BoundaryError("the boundary answered another call")
            return kind, fields, descriptors

    def _await_frame(self, request: Call[object], patience: Patience | None) -> None:
        # Only for a message that has begun does the stream have a limit of its own.
        while not self._stream.wait_readable(_PATIENCE_SECONDS):
            if patience is not None and not patience():
                self._overdue = request
                raise PeerSilentError("the enclave does not answer")


class Responder:
    """The side that answers: the enclave towards the host, the host towards a client."""

    def __init__(self, stream: ByteStream, ecalls: Registry) -> None:
        self._stream = stream
        self._ecalls = ecalls

    def serve_one(self, handler: Handler) -> Call[object]:
        """Receive one call, answer it, and return it.

        Raises:
            EndOfStreamError: The caller has left.
            BoundaryError: The caller broke the rules. Nothing was answered.
        """
        kind, name, fields, descriptors = _receive(self._stream)
        if kind != _CALL:
            close_all(descriptors)
            raise BoundaryError("the boundary answered a call that nobody made")
        return answer_call(self._stream, self._ecalls, handler, (name, fields, descriptors))

    def refuse(self, violation: BoundaryError) -> None:
        """Tell the caller, as far as it still listens, why the channel is being given up."""
        with contextlib.suppress(BoundaryError):
            _send(self._stream, _ERROR, "", _failure_from(violation))

    def ocall(self, request: Call[ResultT]) -> ResultT:
        """Make a call in the other direction while answering one.

        Raises:
            EndOfStreamError: The caller has left.
            ViolationError: What came is not the answer. An error is none: no ocall can fail.
        """
        _send(self._stream, _CALL, type(request).__name__, request)
        try:
            return self._await_answer(request)
        except EndOfStreamError:
            raise
        except BoundaryError as err:
            raise ViolationError(err.message, hint=err.hint) from err

    def _await_answer(self, request: Call[ResultT]) -> ResultT:
        kind, name, fields, descriptors = _receive(self._stream)
        if kind != _RESULT or name != type(request).__name__:
            close_all(descriptors)
            raise BoundaryError("the host did not answer an ocall")
        result_kind: type[ResultT] = request.result  # type: ignore[assignment]  # as in Caller
        return _decode_or_close(result_kind, fields, descriptors)


def answer_call(
    stream: ByteStream,
    registry: Registry,
    handler: Handler,
    incoming: tuple[str, cbor.Value, list[int]],
) -> Call[object]:
    """Decode one incoming call, run its handler and send the answer.

    Raises:
        BoundaryError: The call is unknown or malformed, or an ocall in between was not answered;
            a violation is not answered.
    """
    name, fields, descriptors = incoming
    call_class = registry.get(name)
    if call_class is None:
        close_all(descriptors)
        raise BoundaryError(f"there is no boundary call {name[:64]!r}")
    request = _decode_or_close(call_class, fields, descriptors)
    try:
        # Encoded in here: an answer that does not fit is a failure of this call, not a violation.
        answer = _encoded(_RESULT, name, handler(Received(request, tuple(descriptors))))
    except (EndOfStreamError, ViolationError):
        raise
    except StrongroomError as err:
        answer = _encoded(_ERROR, name, _failure_from(err))
    finally:
        # Handlers that keep a descriptor duplicate it: ownership stays in one place.
        close_all(descriptors)
    send_frame(stream, *answer)
    return request


def _send(stream: ByteStream, kind: int, name: str, message: object) -> None:
    send_frame(stream, *_encoded(kind, name, message))


def _encoded(kind: int, name: str, message: object) -> tuple[bytes, list[int]]:
    fields, descriptors = encode_message(message)
    return cbor.encode([kind, name, fields]), descriptors


def _receive(stream: ByteStream) -> tuple[int, str, cbor.Value, list[int]]:
    payload, descriptors = receive_frame(stream)
    try:
        match cbor.decode(payload):
            # A bool is an int to Python, and is not one on the wire.
            case [int() as kind, str() as name, fields] if type(kind) is int and kind in _KINDS:
                return kind, name, fields, descriptors
            case _:
                raise BoundaryError("a boundary message has the wrong shape")
    except BoundaryError:
        close_all(descriptors)
        raise


def _decode_or_close(kind: type[ResultT], fields: cbor.Value, descriptors: list[int]) -> ResultT:
    try:
        return decode_message(kind, fields, descriptors)
    except BoundaryError:
        close_all(descriptors)
        raise


def _failure_from(err: StrongroomError) -> _Failure:
    return _Failure(type(err).__name__, _clip(err.message), _clip(err.hint))


def _clip(text: str) -> str:
    data = text.encode(errors="replace")
    if len(data) <= MAX_MESSAGE_BYTES:
        return data.decode()
    return data[: MAX_MESSAGE_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def _error_from(fields: cbor.Value) -> StrongroomError:
    failure = decode_message(_Failure, fields, [])
    kind = getattr(errors, failure.error, None)
    if not (isinstance(kind, type) and issubclass(kind, StrongroomError)):
        return BoundaryError(f"the other side reported an unknown error: {failure.message}")
    return kind(failure.message, hint=failure.hint)

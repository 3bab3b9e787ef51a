# SPDX-License-Identifier: Apache-2.0
"""From the process that stays to the last ecall: who it is, confinement, and answering.

Most of what runs is loaded here, by the process that stays: the host, which waits for its pid only,
loads its own part meanwhile.
"""

import functools
import gc
import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from strongroom import _core, tee
from strongroom.boundary.calls import ECALLS, Call, Confinement, ReportProgress
from strongroom.boundary.channel import Received, Responder, registry_of
from strongroom.boundary.stream import EndOfStreamError
from strongroom.enclave.log import attempt, log
from strongroom.enclave.options import Options
from strongroom.enclave.transport import Ends, boundary_over
from strongroom.errors import BoundaryError, StrongroomError, TeeError, TpmTransportError

if TYPE_CHECKING:
    from strongroom.enclave.opening import Progress
    from strongroom.enclave.recipients import Recipients
    from strongroom.enclave.session import TpmPart
    from strongroom.tee.provider import Tee

BeginTpm: TypeAlias = "Callable[[Tee, Recipients], TpmPart]"
Disk: TypeAlias = tuple[int, int | None] | None

_LONGEST_DETAIL: Final = 256


class Answering(Protocol):
    """What answers ecalls until it has ended."""

    @property
    def ended(self) -> bool:
        """Whether no call is to be answered any more."""

    def answer(self, received: Received) -> object:
        """See :meth:`Session.answer`."""

    def erase(self) -> None:
        """See :meth:`Session.erase`."""


class FailedStart:
    """An enclave that could not start: the host, which cannot see why, hears it from every call."""

    ended = False

    def __init__(self, reason: StrongroomError) -> None:
        self._reason = reason

    def answer(self, received: Received) -> object:
        """Raise the reason, whatever was asked."""
        del received
        raise self._reason

    def erase(self) -> None:
        """Do nothing: there is no secret."""


def run(
    options: Options,
    ends: Ends,
    disk: Disk | StrongroomError,
    entered: list[_core.Measure],
    *,
    all_is_loaded: Callable[[], None],
) -> int:
    """Answer ecalls until the host leaves, breaks the rules or asks for the end.

    Args:
        options: How the process was started.
        ends: Of the stream to the host, open.
        disk: Its descriptors if it opened them by name, or why it could not.
        entered: The namespaces that it is in.
        all_is_loaded: See :func:`strongroom.enclave.entry.main`.
    """
    # In the process that stays: neither secrets nor who holds a socket should be shared by a fork.
    present = attempt(lambda: _begin(options))
    ecalls, with_tpm = _tpm_part() if options.tpm else (ECALLS, None)
    violated = threading.Event()
    boundary = boundary_over(ends, on_end=lambda: _end_with_host(violated))
    all_is_loaded()
    measures = [*entered, *_core.confine(), _core.secret_memory()]
    gc.freeze()
    responder = Responder(boundary.stream, registry_of(ecalls))
    answering: Answering
    if isinstance(present, StrongroomError):
        answering = FailedStart(present)
    elif isinstance(disk, StrongroomError):
        present.erase()
        answering = FailedStart(disk)
    else:
        confinement = tuple(_confinement(measure) for measure in measures)
        from strongroom.enclave.session import Session, Surroundings  # noqa: PLC0415 - is loaded

        around = Surroundings(confinement, ends.kind, disk, boundary.multiplexer)
        tpm = None if with_tpm is None else with_tpm(responder)
        answering = Session(around, present, _progress_through(responder), tpm)
    if boundary.multiplexer is not None:
        boundary.multiplexer.start()
    else:
        watching = (ends.read_fd, violated)
        threading.Thread(target=_await_end_of_host, args=watching, daemon=True).start()
    return _serve(responder, answering, violated)


def _begin(options: Options) -> "Tee":
    """Load what answers, and become somebody: both read files, and who it is covers what it loaded.

    Raises:
        TeeError: See :func:`strongroom.tee.start`; or a file of our own cannot be read, as within
            the namespaces even root is refused what is another user's.
    """
    try:
        import strongroom.enclave.session  # noqa: F401, PLC0415 - see above
    except (ImportError, OSError) as err:
        raise TeeError(f"the enclave cannot load itself: {err}") from err
    return tee.start(options.tee, options.state, look_only=options.look_only)


def _serve(responder: Responder, answering: Answering, violated: threading.Event) -> int:
    try:
        while not answering.ended:
            responder.serve_one(answering.answer)
    except EndOfStreamError:
        return 0
    except BoundaryError as violation:
        # Keys first, words second: whoever breaks the rules gets nothing more out of this process.
        answering.erase()
        violated.set()
        responder.refuse(violation)
        log(f"boundary violated, keys erased: {violation.message}")
        return violation.exit_code
    finally:
        answering.erase()
    return 0


def _tpm_part() -> tuple[tuple[type[Call[object]], ...], Callable[[Responder], BeginTpm]]:
    """Load what only an enclave with a TPM needs, as long as there are files to load it from."""
    from strongroom.boundary.tpm_calls import TPM_ECALLS, Transmit  # noqa: PLC0415 - see above
    from strongroom.enclave.tpm_operations import TpmOperations  # noqa: PLC0415 - see above

    def through(responder: Responder) -> BeginTpm:
        def transmit(command: bytes) -> bytes:
            came = responder.ocall(Transmit(command))
            if came.problem:
                raise TpmTransportError(came.problem)
            return came.response

        return functools.partial(TpmOperations, transmit)

    return (*ECALLS, *TPM_ECALLS), through


def _progress_through(responder: Responder) -> "Progress":
    def progress(stage: str, done: int, total: int) -> None:
        responder.ocall(ReportProgress(stage, done, total))

    return progress


def _await_end_of_host(boundary_fd: int, violated: threading.Event) -> None:
    poll = select.poll()
    poll.register(boundary_fd, select.POLLHUP)
    while not any(event & select.POLLHUP for _, event in poll.poll()):
        pass
    _end_with_host(violated)


def _end_with_host(violated: threading.Event) -> None:
    # The main thread may be deep in a derivation when the host dies; nobody is left to answer to.
    # Leaving without ceremony is safe: the kernel blanks secret memory when it takes it back, and
    # every acknowledged write is the kernel's already. After a violation the main thread is about
    # to leave with an exit code of its own.
    if not violated.is_set():
        os._exit(0)


def _confinement(measure: _core.Measure) -> Confinement:
    return Confinement(measure.name, measure.active, measure.detail[:_LONGEST_DETAIL])

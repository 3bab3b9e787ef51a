# SPDX-License-Identifier: Apache-2.0
"""The enclave's entry: ``python -I -m strongroom.enclave --boundary fd:N --tee NAME --state DIR``.

Where no descriptor can be passed, ``--image PATH`` and ``--header PATH`` name its disk. ``--quiet``
is for a TEE whose standard error is the host's standard output, which is the boundary there.
``--tpm`` says that the host carries commands to a TPM.

Order matters. Namespaces first, while there is one thread; then a fork, so that the enclave is the
first process of its own PID namespace; then everything that needs a file system, the TEE's identity
and root of keys last, when all that runs is loaded; then confinement, which cannot be undone; and
only then the first ecall.
"""

import argparse
import functools
import gc
import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar

from strongroom import _core, tee
from strongroom.boundary.calls import ECALLS, Call, Confinement, ReportProgress
from strongroom.boundary.channel import Received, Responder, registry_of
from strongroom.boundary.stream import EndOfStreamError
from strongroom.enclave.opening import Progress
from strongroom.enclave.recipients import Recipients
from strongroom.enclave.session import Session, Surroundings, TpmPart
from strongroom.enclave.transport import boundary_over, open_ends
from strongroom.errors import BoundaryError, DiskError, StrongroomError, TpmTransportError
from strongroom.tee.provider import Tee

PartT = TypeVar("PartT")
BeginTpm: TypeAlias = Callable[[Tee, Recipients], TpmPart]

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


def main() -> int:
    """Run the enclave until the host leaves, breaks the rules or asks for the end."""
    options = _options()
    # Before the namespaces: the enclave's own network and root have no host and no image.
    ends = open_ends(options.boundary)
    if options.quiet:
        _silence_standard_error()
    disk = _attempt(lambda: _open_disk(options))
    entered = _core.enter_namespaces()
    if options.pid_fd is not None or _has_pid_namespace(entered):
        _become_first_process(options.pid_fd)
    # In the process that stays: neither secrets nor who holds a socket should be shared by a fork.
    present = _attempt(lambda: tee.start(options.tee, options.state))
    ecalls, with_tpm = _tpm_part() if options.tpm else (ECALLS, None)
    violated = threading.Event()
    boundary = boundary_over(ends, on_end=lambda: _end_with_host(violated))
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
        around = Surroundings(confinement, ends.kind, disk, boundary.multiplexer)
        tpm = None if with_tpm is None else with_tpm(responder)
        answering = Session(around, present, _progress_through(responder), tpm)
    if boundary.multiplexer is not None:
        boundary.multiplexer.start()
    else:
        watching = (ends.read_fd, violated)
        threading.Thread(target=_await_end_of_host, args=watching, daemon=True).start()
    return _serve(responder, answering, violated)


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
        _log(f"boundary violated, keys erased: {violation.message}")
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


def _progress_through(responder: Responder) -> Progress:
    def progress(stage: str, done: int, total: int) -> None:
        responder.ocall(ReportProgress(stage, done, total))

    return progress


def _attempt(step: Callable[[], PartT]) -> PartT | StrongroomError:
    try:
        return step()
    except StrongroomError as err:
        _log(err.message)
        return err


def _open_disk(options: argparse.Namespace) -> tuple[int, int | None] | None:
    if options.image is None:
        return None
    header = None if options.header is None else _open(options.header, options)
    return _open(options.image, options), header


def _open(path: Path, options: argparse.Namespace) -> int:
    try:
        return os.open(path, os.O_RDONLY if options.read_only else os.O_RDWR)
    except OSError as err:
        raise DiskError(f"{path} cannot be opened in the enclave: {err.strerror}") from err


def _has_pid_namespace(entered: list[_core.Measure]) -> bool:
    return any(measure.active and measure.name == "pid namespace" for measure in entered)


def _become_first_process(pid_fd: int | None) -> None:
    child = os.fork()
    if child == 0:
        if pid_fd is not None:
            os.close(pid_fd)
        return
    if pid_fd is None:
        _leave(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.write(pid_fd, f"{child}\n".encode())
    _leave(0)


def _leave(code: int) -> NoReturn:
    os._exit(code if code >= 0 else 128 - code)


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
        _leave(0)


def _confinement(measure: _core.Measure) -> Confinement:
    return Confinement(measure.name, measure.active, measure.detail[:_LONGEST_DETAIL])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="strongroom.enclave", add_help=False)
    parser.add_argument("--boundary", required=True)
    parser.add_argument("--pid-fd", type=int)
    parser.add_argument("--tee", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--header", type=Path)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--tpm", action="store_true")
    return parser.parse_args()


def _silence_standard_error() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _log(text: str) -> None:
    sys.stderr.write(f"strongroom enclave: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StrongroomError as err:
        _log(err.message)
        sys.exit(err.exit_code)

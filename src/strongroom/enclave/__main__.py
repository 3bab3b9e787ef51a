# SPDX-License-Identifier: Apache-2.0
"""The enclave's entry: ``python -I -m strongroom.enclave --boundary fd:N --tee NAME --state DIR``.

Where no descriptor can be passed, ``--image PATH`` and ``--header PATH`` name its disk.

Order matters. Namespaces first, while there is one thread; then a fork, so that the enclave is the
first process of its own PID namespace; then everything that needs a file system, the TEE's identity
and root of keys last, when all that runs is loaded; then confinement, which cannot be undone; and
only then the first ecall.
"""

import argparse
import gc
import os
import select
import sys
import threading
from pathlib import Path
from typing import Final, NoReturn

from strongroom import _core, tee
from strongroom.boundary.calls import ECALLS, Confinement, ReportProgress
from strongroom.boundary.channel import Responder, registry_of
from strongroom.boundary.stream import EndOfStreamError
from strongroom.enclave.session import Session, Surroundings
from strongroom.enclave.transport import Boundary, boundary_over, open_ends
from strongroom.errors import BoundaryError, DiskError, StrongroomError
from strongroom.tee.provider import Tee

_LONGEST_DETAIL: Final = 256


def main() -> int:
    """Run the enclave until the host leaves, breaks the rules or asks for the end."""
    options = _options()
    # Before the namespaces: the enclave's own network and root have no host and no image.
    ends = open_ends(options.boundary)
    disk = _open_disk(options)
    entered = _core.enter_namespaces()
    if options.pid_fd is not None or _has_pid_namespace(entered):
        _become_first_process(options.pid_fd)
    # In the process that stays: neither secrets nor who holds a socket should be shared by a fork.
    present = tee.start(options.tee, options.state)
    violated = threading.Event()
    boundary = boundary_over(ends, on_end=lambda: _end_with_host(violated))
    measures = [*entered, *_core.confine(), _core.secret_memory()]
    gc.freeze()
    confinement = tuple(_confinement(measure) for measure in measures)
    around = Surroundings(confinement, ends.kind, disk, boundary.multiplexer)
    if boundary.multiplexer is not None:
        boundary.multiplexer.start()
    else:
        watching = (ends.read_fd, violated)
        threading.Thread(target=_await_end_of_host, args=watching, daemon=True).start()
    return _serve(boundary, around, present, violated)


def _serve(
    boundary: Boundary, around: Surroundings, present: Tee, violated: threading.Event
) -> int:
    responder = Responder(boundary.stream, registry_of(ECALLS))

    def progress(stage: str, done: int, total: int) -> None:
        responder.ocall(ReportProgress(stage, done, total))

    session = Session(around, present, progress)
    try:
        while not session.ended:
            responder.serve_one(session.answer)
    except EndOfStreamError:
        return 0
    except BoundaryError as violation:
        # Keys first, words second: whoever breaks the rules gets nothing more out of this process.
        session.erase()
        violated.set()
        responder.refuse(violation)
        _log(f"boundary violated, keys erased: {violation.message}")
        return violation.exit_code
    finally:
        session.erase()
    return 0


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
    return parser.parse_args()


def _log(text: str) -> None:
    sys.stderr.write(f"strongroom enclave: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StrongroomError as err:
        _log(err.message)
        sys.exit(err.exit_code)

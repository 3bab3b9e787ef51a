# SPDX-License-Identifier: Apache-2.0
"""The enclave's entry: ``python -I -m strongroom.enclave --boundary fd:N --tee NAME --state DIR``.

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
from strongroom.boundary.stream import ByteStream, EndOfStreamError
from strongroom.enclave.session import Session, Surroundings
from strongroom.enclave.transport import open_stream
from strongroom.errors import BoundaryError, StrongroomError
from strongroom.tee.provider import Tee

_LONGEST_DETAIL: Final = 256


def main() -> int:
    """Run the enclave until the host leaves, breaks the rules or asks for the end."""
    options = _options()
    # Before the namespaces: the enclave's own network has no host to connect to.
    stream = open_stream(options.boundary)
    entered = _core.enter_namespaces()
    _become_first_process(options.pid_fd)
    # In the process that stays, as secrets do not survive a fork; and while there are still files.
    present = tee.start(options.tee, options.state)
    measures = [*entered, *_core.confine(), _core.secret_memory()]
    gc.freeze()
    kind, _, argument = options.boundary.partition(":")
    confinement = tuple(_confinement(measure) for measure in measures)
    host_fd = int(argument) if kind == "fd" else None
    return _serve(stream, Surroundings(confinement, kind), present, host_fd)


def _serve(stream: ByteStream, around: Surroundings, present: Tee, host_fd: int | None) -> int:
    responder = Responder(stream, registry_of(ECALLS))

    def progress(stage: str, done: int, total: int) -> None:
        responder.ocall(ReportProgress(stage, done, total))

    session = Session(around, present, progress)
    if host_fd is not None:
        threading.Thread(target=_end_with_host, args=(host_fd,), daemon=True).start()
    try:
        while not session.ended:
            responder.serve_one(session.answer)
    except EndOfStreamError:
        return 0
    except BoundaryError as violation:
        # Keys first, words second: whoever breaks the rules gets nothing more out of this process.
        session.erase()
        responder.refuse(violation)
        _log(f"boundary violated, keys erased: {violation.message}")
        return violation.exit_code
    finally:
        session.erase()
    return 0


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


def _end_with_host(boundary_fd: int) -> None:
    # The main thread may be deep in a derivation when the host dies; nobody is left to answer to.
    # Leaving without ceremony is safe: the kernel blanks secret memory when it takes it back, and
    # every acknowledged write is the kernel's already.
    poll = select.poll()
    poll.register(boundary_fd, select.POLLHUP)
    while not any(event & select.POLLHUP for _, event in poll.poll()):
        pass
    _leave(0)


def _confinement(measure: _core.Measure) -> Confinement:
    return Confinement(measure.name, measure.active, measure.detail[:_LONGEST_DETAIL])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="strongroom.enclave", add_help=False)
    parser.add_argument("--boundary", required=True)
    parser.add_argument("--pid-fd", type=int)
    parser.add_argument("--tee", required=True)
    parser.add_argument("--state", type=Path, required=True)
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

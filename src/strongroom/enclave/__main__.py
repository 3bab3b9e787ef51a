# SPDX-License-Identifier: Apache-2.0
"""The enclave's entry: ``python -I -m strongroom.enclave --boundary fd:N --pid-fd M``.

Order matters. Namespaces first, while there is one thread; then a fork, so that the enclave is the
first process of its own PID namespace; then everything that needs a file system; then confinement,
which cannot be undone; and only then the first ecall, and so the first secret.
"""

import argparse
import gc
import os
import select
import sys
import threading
from typing import Final, NoReturn

from strongroom import _core
from strongroom.boundary.calls import ECALLS, Confinement, ReportProgress
from strongroom.boundary.channel import Responder, registry_of
from strongroom.boundary.stream import ByteStream, EndOfStreamError
from strongroom.enclave.session import Session
from strongroom.enclave.transport import open_stream
from strongroom.errors import BoundaryError, StrongroomError

_LONGEST_DETAIL: Final = 256


def main() -> int:
    """Run the enclave until the host leaves, breaks the rules or asks for the end."""
    options = _options()
    # Before the namespaces: the enclave's own network has no host to connect to.
    stream = open_stream(options.boundary)
    entered = _core.enter_namespaces()
    _become_first_process(options.pid_fd)
    measures = [*entered, *_core.confine(), _core.secret_memory()]
    gc.freeze()
    return _serve(stream, tuple(_confinement(measure) for measure in measures), options.boundary)


def _serve(stream: ByteStream, confinement: tuple[Confinement, ...], address: str) -> int:
    responder = Responder(stream, registry_of(ECALLS))

    def progress(stage: str, done: int, total: int) -> None:
        responder.ocall(ReportProgress(stage, done, total))

    session = Session(confinement, progress)
    if address.startswith("fd:"):
        threading.Thread(target=_end_with_host, args=(int(address[3:]),), daemon=True).start()
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

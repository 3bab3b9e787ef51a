# SPDX-License-Identifier: Apache-2.0
"""The enclave's entry: ``python -I -S .../start.py --boundary fd:N --tee NAME --state DIR``.

:mod:`strongroom.enclave.start` comes here once it has settled where code comes from.
Where no descriptor can be passed, ``--image PATH`` and ``--header PATH`` name its disk. ``--quiet``
is for a TEE whose standard error is the host's standard output, which is the boundary there.
``--tpm`` says that the host carries commands to a TPM. ``--look-only`` is for commands that show
what there is: no identity is made, and a lost one is no reason to refuse.

Order matters. Namespaces first, while there is one thread; then a fork, so that the enclave is the
first process of its own PID namespace; then everything that needs a file system, the TEE's identity
and root of keys last, when all that runs is loaded; then confinement, which cannot be undone; and
only then the first ecall.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import strongroom.enclave.memory  # noqa: F401 - looks at the control group, which namespaces hide
from strongroom import _core
from strongroom.enclave.log import attempt, log
from strongroom.enclave.options import Options, parse_options
from strongroom.enclave.running import run
from strongroom.enclave.transport import open_ends
from strongroom.errors import DiskError, StrongroomError


def main(all_is_loaded: Callable[[], None]) -> int:
    """Run the enclave until the host leaves, breaks the rules or asks for the end.

    Args:
        all_is_loaded: Called when nothing is imported any more, and files can still be written.
    """
    # A terminal signals all that it has started: the host decides when the enclave ends.
    _core.ignore_signals()
    options = parse_options(sys.argv[1:])
    # Before the namespaces: the enclave's own network and root have no host and no image.
    ends = open_ends(options.boundary)
    if options.quiet:
        _silence_standard_error()
    disk = attempt(lambda: _open_disk(options))
    entered = _core.enter_namespaces()
    if options.pid_fd is not None or _has_pid_namespace(entered):
        _become_first_process(options.pid_fd)
    return run(options, ends, disk, entered, all_is_loaded=all_is_loaded)


def _open_disk(options: Options) -> tuple[int, int | None] | None:
    if options.image is None:
        return None
    header = None if options.header is None else _open(options.header, options)
    return _open(options.image, options), header


def _open(path: Path, options: Options) -> int:
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


def _silence_standard_error() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def end_with(all_is_loaded: Callable[[], None]) -> NoReturn:
    """Run the enclave, and end the process with its exit code."""
    try:
        sys.exit(main(all_is_loaded))
    except StrongroomError as err:
        log(err.message)
        sys.exit(err.exit_code)

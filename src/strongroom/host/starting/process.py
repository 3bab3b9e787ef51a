# SPDX-License-Identifier: Apache-2.0
"""An enclave that is a process of its own: this Python, or that of another Strongroom.

It forks once, to become the first process of its own PID namespace, and tells the pid of the one
that stays; this process becomes its parent by adoption.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from strongroom import _core
from strongroom.errors import EnclaveGoneError, PlatformError
from strongroom.host.starting.disk import StartDisk
from strongroom.host.state import state_directory

if TYPE_CHECKING:
    from strongroom.host.transport import Link

_START_SECONDS: Final = 30.0
ENVIRONMENT: Final = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "1"}
"""All that an enclave has of an environment."""


def start(
    link: "Link",
    log: IO[bytes] | int,
    *,
    python: Path | None,
    disk: StartDisk | None,
    with_tpm: bool = False,
    look_only: bool = False,
) -> int:
    """Start it and return the pid of the process that stays.

    Raises:
        EnclaveGoneError: It ended while starting; the log says why.
        PlatformError: The interpreter cannot be started.
    """
    _core.adopt_orphans()
    with contextlib.ExitStack() as stack:
        pid_reader, pid_writer = os.pipe()
        stack.callback(os.close, pid_reader)
        try:
            # It starts in the root directory, where a relative path would name another file.
            program = sys.executable if python is None else str(python.absolute())
            command = [
                *(program, "-I", "-m", "strongroom.enclave", "--boundary", link.address),
                *("--pid-fd", str(pid_writer)),
                *("--tee", "process", "--state", str(state_directory().absolute())),
                *([] if disk is None else disk.inherited_arguments()),
                *(["--read-only"] if disk is not None and disk.read_only else []),
                *(["--tpm"] if with_tpm else []),
                *(["--look-only"] if look_only else []),
            ]
            with translating_start(program):
                starter = subprocess.Popen(
                    command,
                    stdin=link.stdin,
                    stdout=log if link.stdout is None else link.stdout,
                    stderr=log,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=(
                        *link.descriptors,
                        pid_writer,
                        *(() if disk is None else disk.descriptors),
                    ),
                )
        finally:
            os.close(pid_writer)
        pid = _read_pid(pid_reader)
        if pid is None:
            starter.kill()
        starter.wait()
    if pid is None:
        hint = "its log says why" if python is None else f"is Strongroom installed for {python}?"
        raise EnclaveGoneError("the enclave ended while starting", hint=hint)
    return pid


@contextlib.contextmanager
def translating_start(
    program: str = sys.executable, hint: str = "it must be a Python with Strongroom, executable"
) -> Iterator[None]:
    """Say in our words why a program, by default this Python, cannot be started.

    Raises:
        PlatformError: It is not there or not executable for this user, or the machine is out of
            processes.
    """
    try:
        yield
    except OSError as err:
        raise PlatformError(
            f"cannot start {program}: {(err.strerror or 'unknown reason').lower()}", hint=hint
        ) from err


def _read_pid(pid_reader: int) -> int | None:
    # Not select(), which knows no descriptor beyond 1023.
    poll = select.poll()
    poll.register(pid_reader, select.POLLIN)
    if not poll.poll(_START_SECONDS * 1000):
        return None
    text = os.read(pid_reader, 32).strip()
    return int(text) if text.isdigit() else None

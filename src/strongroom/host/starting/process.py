# SPDX-License-Identifier: Apache-2.0
"""An enclave that is a process of its own: this Python, or that of another Strongroom.

It forks once, to become the first process of its own PID namespace, and tells the pid of the one
that stays; this process becomes its parent by adoption. It has a session of its own, so that a
terminal's signals end the host, which closes in order, and not the enclave below it.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import strongroom
from strongroom import _core
from strongroom.errors import EnclaveGoneError, PlatformError
from strongroom.host.starting.disk import StartDisk
from strongroom.host.state import state_directory

if TYPE_CHECKING:
    from strongroom.host.transport import Link

_START_SECONDS: Final = 30.0
_OWN_PACKAGE: Final = Path(strongroom.__file__).parent
_ISOLATED: Final = ("-I", "-S", "-B", "-X", "pycache_prefix=/dev/null")
"""No environment, no ``.pth`` file, no ``sitecustomize``, and no byte code that lies about."""
_ASK_FOR_PACKAGE: Final = "import strongroom; print(strongroom.__file__)"
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
        EnclaveGoneError: It ended while starting; its log says why.
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
                *interpreting(program, _OWN_PACKAGE if python is None else _package_of(program)),
                *("--boundary", link.address, "--pid-fd", str(pid_writer)),
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
                    start_new_session=True,
                )
        finally:
            os.close(pid_writer)
        pid = _read_pid(pid_reader)
        if pid is None:
            starter.kill()
        starter.wait()
    if pid is None:
        hint = "" if python is None else _not_installed(program)
        raise EnclaveGoneError("the enclave ended while starting", hint=hint)
    return pid


def interpreting(program: str, package: Path) -> list[str]:
    """Return the command that starts the enclave of a package, but for the enclave's options."""
    return [program, *_ISOLATED, str(package / "enclave" / "start.py")]


def _package_of(program: str) -> Path:
    """Ask another Python, in a process that sees no secret, where its Strongroom is.

    It may lie: what is started then measures itself.
    """
    with translating_start(program), contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "-I", "-c", _ASK_FOR_PACKAGE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=ENVIRONMENT,
            cwd="/",
            timeout=_START_SECONDS,
        )
        answer = os.fsdecode(done.stdout).strip()
        if done.returncode == 0 and answer.startswith("/"):
            return Path(answer).parent
    raise EnclaveGoneError("the enclave ended while starting", hint=_not_installed(program))


def _not_installed(program: str) -> str:
    return f"is Strongroom installed for {program}?"


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

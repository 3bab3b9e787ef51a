# SPDX-License-Identifier: Apache-2.0
"""Starting an enclave process and talking to it.

The process is started with an empty environment and isolated from the user's Python settings. It
forks once, to become the first process of its own PID namespace, and tells the pid of the one that
stays; this process becomes its parent by adoption.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

from strongroom import _core
from strongroom.boundary.calls import OCALLS, Call, Done, ReportProgress, Serve, Shutdown
from strongroom.boundary.channel import Caller, Received, registry_of
from strongroom.errors import BoundaryError, EnclaveGoneError, PlatformError
from strongroom.host.attach import io_flusher
from strongroom.host.contracts import ImageReference, Reporter, TeeName, Transport
from strongroom.host.state import state_directory
from strongroom.host.transport import Connected, Link, link

ResultT = TypeVar("ResultT")

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "1"}


class EnclaveProcess:
    """A running enclave. Leaving the ``with`` block ends it, politely if it still listens."""

    def __init__(self, pid: int, connected: Connected, report: Reporter) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.report = report
        self._multiplexer = connected.multiplexer
        self._caller = Caller(connected.stream, registry_of(OCALLS), self._answer_ocall)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def call(self, request: Call[ResultT]) -> ResultT:
        """Make an ecall.

        Raises:
            StrongroomError: What the enclave raised.
            EnclaveGoneError: It ended before it answered.
        """
        return self._caller.call(request)

    def serve(self, listener: socket.socket, export_name: str) -> None:
        """Have everyone who connects to ``listener`` served, which may be closed then.

        Raises:
            StrongroomError: What the enclave raised.
        """
        if self._multiplexer is None:
            self.call(Serve(listener.fileno(), export_name))
        else:
            self.call(Serve(None, export_name))
            self._multiplexer.forward(listener)

    def shut_down(self) -> None:
        """Ask the enclave to flush and erase its keys, and wait until it is gone.

        Raises:
            DiskError: The flush failed: acknowledged writes may be lost.
            EnclaveGoneError: It was gone already.
        """
        try:
            self.call(Shutdown())
        finally:
            self.end()

    def end(self) -> None:
        """End the process: closing the boundary is enough for one that behaves."""
        if self.pidfd < 0:
            return
        self._caller.close()
        if not self._has_ended(_STOP_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self._has_ended(_STOP_SECONDS)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        os.close(self.pidfd)
        self.pidfd = -1

    def _has_ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _answer_ocall(self, received: Received) -> object:
        match received.call:
            case ReportProgress(stage, done, total):
                self.report.progress(stage, done, total)
                return Done()
            case other:
                raise BoundaryError(f"the host does not answer {type(other).__name__}")


@dataclass(frozen=True, slots=True)
class StartDisk:
    """The disk of an enclave that can be passed no descriptors; it opens the files itself."""

    image: ImageReference
    read_only: bool


def launch(
    report: Reporter,
    log: IO[bytes] | int = subprocess.DEVNULL,
    *,
    tee: TeeName = "process",
    python: Path | None = None,
    transport: Transport = "fd",
    disk: StartDisk | None = None,
) -> EnclaveProcess:
    """Start an enclave process.

    Args:
        report: Where its progress goes.
        log: Where its standard error goes.
        tee: The provider that it is to use.
        python: The interpreter whose Strongroom is started; this one's own by default.
        transport: How it is reached.
        disk: What it is to serve, when that cannot be passed later.

    Raises:
        EnclaveGoneError: It ended while starting; the log says why.
    """
    _core.adopt_orphans()
    with contextlib.ExitStack() as stack:
        new_link = link(transport)
        stack.callback(new_link.close)
        pid_reader, pid_writer = os.pipe()
        stack.callback(os.close, pid_reader)
        try:
            # The enclave serves a block device: when memory is short, the kernel must not make it
            # wait for that very device. Its children inherit the mark.
            with io_flusher():
                command = [*_command(python, tee, new_link.address, pid_writer), *_files(disk)]
                starter = _start(command, new_link, pid_writer, log)
        finally:
            os.close(pid_writer)
        pid = _read_pid(pid_reader)
        if pid is None:
            starter.kill()
        starter.wait()
        if pid is None:
            hint = (
                "its log says why" if python is None else f"is Strongroom installed for {python}?"
            )
            raise EnclaveGoneError("the enclave ended while starting", hint=hint)
        return EnclaveProcess(pid, new_link.connect(), report)


def _command(python: Path | None, tee: TeeName, address: str, pid_fd: int) -> list[str]:
    # It starts in the root directory, where a relative path would name another file.
    program = sys.executable if python is None else str(python.absolute())
    return [
        *(program, "-I", "-m", "strongroom.enclave"),
        *("--boundary", address, "--pid-fd", str(pid_fd)),
        *("--tee", tee, "--state", str(state_directory().absolute())),
    ]


def _files(disk: StartDisk | None) -> list[str]:
    if disk is None:
        return []
    header = disk.image.header
    return [
        *("--image", str(disk.image.path.absolute())),
        *(() if header is None else ("--header", str(header.absolute()))),
        *(("--read-only",) if disk.read_only else ()),
    ]


def _start(
    command: list[str], new_link: Link, pid_fd: int, log: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    with translating_start(command[0]):
        return subprocess.Popen(
            command,
            stdin=new_link.stdin,
            stdout=log if new_link.stdout is None else new_link.stdout,
            stderr=log,
            env=_ENVIRONMENT,
            cwd="/",
            pass_fds=(*new_link.descriptors, pid_fd),
        )


@contextlib.contextmanager
def translating_start(program: str = sys.executable) -> Iterator[None]:
    """Say in our words why a Python, by default this one, cannot be started.

    Raises:
        PlatformError: It is not there or not executable for this user, or the machine is out of
            processes.
    """
    try:
        yield
    except OSError as err:
        raise PlatformError(
            f"cannot start {program}: {(err.strerror or 'unknown reason').lower()}",
            hint="it must be a Python with Strongroom, executable for this user",
        ) from err


def _read_pid(pid_reader: int) -> int | None:
    ready, _, _ = select.select([pid_reader], [], [], _START_SECONDS)
    if not ready:
        return None
    text = os.read(pid_reader, 32).strip()
    return int(text) if text.isdigit() else None

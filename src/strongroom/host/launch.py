# SPDX-License-Identifier: Apache-2.0
"""Starting an enclave and talking to it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self, TypeVar

from strongroom.boundary.calls import OCALLS, Call, Done, ReportProgress, Serve, ServeFuse, Shutdown
from strongroom.boundary.channel import Caller, Received, registry_of
from strongroom.errors import BoundaryError, UsageError
from strongroom.host.attach._libc import io_flusher
from strongroom.host.contracts import FuseServing, Reporter, TeeName, Transport
from strongroom.host.starting import StartDisk, process
from strongroom.host.transport import Connected, link

ResultT = TypeVar("ResultT")

_STOP_SECONDS: Final = 10.0


class TpmCarrier(Protocol):
    """What carries an enclave's commands to its TPM: a part that few need."""

    @property
    def ocalls(self) -> tuple[type[Call[object]], ...]:
        """The calls that it answers."""

    def carry(self, request: Call[object]) -> object:
        """Answer one of them."""


class EnclaveProcess:
    """A running enclave. Leaving the ``with`` block ends it, politely if it still listens."""

    def __init__(
        self,
        pid: int,
        connected: Connected,
        report: Reporter,
        *,
        starter: subprocess.Popen[bytes] | None = None,
        tpm: TpmCarrier | None = None,
    ) -> None:
        self.pid = pid
        self._starter = starter
        self.pidfd = os.pidfd_open(pid)
        self.report = report
        self._multiplexer = connected.multiplexer
        self._tpm = tpm
        ocalls = OCALLS if tpm is None else (*OCALLS, *tpm.ocalls)
        self._caller = Caller(connected.stream, registry_of(ocalls), self._answer_ocall)

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

    def files(self, image_fd: int, header_fd: int | None) -> tuple[int | None, int | None]:
        """Return an image and its header as they go into a call: not at all, if it opened them."""
        return (image_fd, header_fd) if self._multiplexer is None else (None, None)

    def serve(self, listener: socket.socket, export_name: str, *, structured_replies: bool) -> None:
        """Have everyone who connects to ``listener`` served, which may be closed then.

        Raises:
            StrongroomError: What the enclave raised.
        """
        if self._multiplexer is None:
            self.call(Serve(listener.fileno(), export_name, structured_replies))
        else:
            self.call(Serve(None, export_name, structured_replies))
            self._multiplexer.forward(listener)

    @property
    def fuse(self) -> FuseServing | None:
        """What has the volume served by FUSE; nothing where no descriptor can be passed."""
        return self._serve_fuse if self._multiplexer is None else None

    def _serve_fuse(self, devices: tuple[int, ...], file_name: str) -> None:
        self.call(ServeFuse(devices, file_name))

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
        if self._starter is not None:
            self._starter.poll()
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
            case other if self._tpm is not None:
                return self._tpm.carry(other)
            case other:
                raise BoundaryError(f"the host does not answer {type(other).__name__}")


def launch(
    report: Reporter,
    log: IO[bytes] | int = subprocess.DEVNULL,
    *,
    tee: TeeName = "process",
    python: Path | None = None,
    transport: Transport = "fd",
    disk: StartDisk | None = None,
    tpm: TpmCarrier | None = None,
    look_only: bool = False,
) -> EnclaveProcess:
    """Start an enclave.

    Args:
        report: Where its progress goes.
        log: Where its standard error goes.
        tee: The provider that it is to use.
        python: The interpreter whose Strongroom is started; this one's own by default.
        transport: How it is reached. Gramine knows standard input and output only.
        disk: What it is to use, when that cannot be passed later.
        tpm: The way to its TPM, if it is to have one.
        look_only: It is asked for what needs no secret: no identity is made for it, and it starts
            without one too.

    Raises:
        EnclaveGoneError: It ended while starting; the log says why.
        PlatformError: It cannot be started here.
        TeeError: Gramine has no manifest for this disk.
        UsageError: Gramine cannot do what was asked for.
    """
    if tee == "gramine":
        _check_gramine_can(python, transport, tpm)
        return _launch_gramine(report, log, disk=disk)
    with contextlib.ExitStack() as stack:
        new_link = link(transport)
        stack.callback(new_link.close)
        by_name = None if transport == "fd" else disk
        # The enclave serves a block device: when memory is short, the kernel must not make it
        # wait for that very device. Its children inherit the mark.
        with io_flusher():
            with_tpm = tpm is not None
            pid = process.start(
                new_link,
                log,
                python=python,
                disk=by_name,
                with_tpm=with_tpm,
                look_only=look_only,
            )
        return EnclaveProcess(pid, new_link.connect(), report, tpm=tpm)


def _check_gramine_can(python: Path | None, transport: Transport, tpm: TpmCarrier | None) -> None:
    if tpm is not None:
        raise UsageError(
            "a TPM does not go with --tee gramine yet",
            hint="Gramine's manifest says what it is started with, and that is without one",
        )
    if transport == "tcp":
        raise UsageError(
            "--boundary tcp does not go with --tee gramine",
            hint="Gramine's manifest says how it is reached: by standard input and output",
        )
    if python is not None:
        raise UsageError(
            f"{python} is a Python, and Gramine starts what its manifest names",
            hint="with --tee gramine, use the recovery key and reseal --adopt after an upgrade",
        )


def _launch_gramine(
    report: Reporter, log: IO[bytes] | int, *, disk: StartDisk | None
) -> EnclaveProcess:
    from strongroom.host.starting import gramine  # noqa: PLC0415 - only what was chosen

    with contextlib.ExitStack() as stack:
        new_link = link("stdio")
        stack.callback(new_link.close)
        with io_flusher():
            starter = gramine.start(new_link, log, disk=disk)
        enclave = EnclaveProcess(starter.pid, new_link.connect(), report, starter=starter)
        if disk is not None:
            try:
                disk.ensure_in_place()
            except BaseException:
                enclave.end()
                raise
        return enclave

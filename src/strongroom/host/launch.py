# SPDX-License-Identifier: Apache-2.0
"""Starting an enclave and talking to it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self, TypeVar

from strongroom.boundary.calls import (
    OCALLS,
    Call,
    Done,
    Erase,
    ReportProgress,
    Serve,
    ServeFuse,
    Shutdown,
)
from strongroom.boundary.channel import (
    Caller,
    Patience,
    PeerLeftError,
    PeerSilentError,
    Received,
    registry_of,
)
from strongroom.errors import BoundaryError, EnclaveGoneError, NotAnsweringError, UsageError
from strongroom.host.attach._libc import io_flusher
from strongroom.host.contracts import FuseServing, Reporter, TeeName, Transport
from strongroom.host.last_words import LastWords, gone
from strongroom.host.patience import while_working, within
from strongroom.host.starting import StartDisk, process
from strongroom.host.transport import Connected, link

ResultT = TypeVar("ResultT")

_STOP_SECONDS: Final = 5.0
_ERASE_SECONDS: Final = 3.0
_SHUTDOWN_SECONDS: Final = 40.0
"""Longer than an enclave takes that waits for clients and for a disk that hangs."""
_LOCK_STEP_SECONDS: Final = 0.05


class TpmCarrier(Protocol):
    """What carries an enclave's commands to its TPM: a part that few need."""

    @property
    def ocalls(self) -> tuple[type[Call[object]], ...]:
        """The calls that it answers."""

    def carry(self, request: Call[object]) -> object:
        """Answer one of them."""


class EnclaveProcess:
    """A running enclave. Leaving the ``with`` block ends it, politely if it still listens.

    Calls may come from several threads; they are made one after the other.
    """

    def __init__(
        self,
        pid: int,
        connected: Connected,
        report: Reporter,
        *,
        words: LastWords,
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
        self._words = words
        self._calling = threading.Lock()
        self._is_killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def call(self, request: Call[ResultT], patience: Patience | None = None) -> ResultT:
        """Make an ecall.

        Args:
            request: The call.
            patience: How long to wait; by default for as long as the enclave works.

        Raises:
            StrongroomError: What the enclave raised.
            NotAnsweringError: It did not answer, or is busy with another call, for that long.
            EnclaveGoneError: It ended before it answered.
        """
        waiting = while_working(self.pid) if patience is None else patience
        while not self._calling.acquire(timeout=_LOCK_STEP_SECONDS):
            if not waiting():
                raise NotAnsweringError("the enclave is busy with another call")
        try:
            if self.pidfd < 0:
                raise EnclaveGoneError("the enclave has ended")
            return self._caller.call(request, waiting)
        except PeerLeftError as err:
            raise self.gone("before it answered") from err
        except PeerSilentError as err:
            raise NotAnsweringError(f"the enclave (process {self.pid}) does not answer") from err
        finally:
            self._calling.release()

    def gone(self, doing: str) -> EnclaveGoneError:
        """Return what to raise now that it has ended; ``doing`` is such as "unexpectedly"."""
        if self.pidfd < 0:
            return EnclaveGoneError(f"the enclave ended {doing}")
        return gone(self.pidfd, doing, self._words)

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

    def erase(self) -> bool:
        """Have every key erased at once, and end the enclave if it does not do so.

        Returns:
            Whether the keys are known to be gone: not where the enclave was killed and the kernel
            has yet to end it, because the disk hangs.
        """
        try:
            self.call(Erase(), within(_ERASE_SECONDS))
        except EnclaveGoneError:
            return True
        except BoundaryError:
            return self.kill()
        return True

    def shut_down(self, patience: Patience | None = None) -> None:
        """Have the enclave finish requests, erase its keys and flush; wait until it is gone.

        Raises:
            DiskError: The flush failed: acknowledged writes may be lost.
            NotAnsweringError: It did not do so in time, and was killed.
            EnclaveGoneError: It was gone already.
        """
        try:
            self.call(Shutdown(), within(_SHUTDOWN_SECONDS) if patience is None else patience)
        except NotAnsweringError:
            self.kill()
            raise
        finally:
            self.end()

    def kill(self) -> bool:
        """Kill the process, whatever it does, and say whether it is gone already."""
        self._is_killed = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return self._has_ended(_STOP_SECONDS)

    def end(self) -> None:
        """End the process: closing the boundary is enough for one that behaves."""
        if self.pidfd < 0:
            return
        # A call of another thread has a limit; the enclave has more time than that.
        is_alone = self._calling.acquire(timeout=_STOP_SECONDS)
        self._caller.close()
        if not self._is_killed and not self._has_ended(_STOP_SECONDS):
            self.kill()
        if self._starter is not None:
            self._starter.poll()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        os.close(self.pidfd)
        self.pidfd = -1
        self._words.close()
        if is_alone:
            self._calling.release()

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
    log: IO[bytes] | None = None,
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
        log: Where its standard error goes, open for reading too; by default to memory.
        tee: The provider that it is to use.
        python: The interpreter whose Strongroom is started; this one's own by default.
        transport: How it is reached. Gramine knows standard input and output only.
        disk: What it is to use, when that cannot be passed later.
        tpm: The way to its TPM, if it is to have one.
        look_only: It is asked for what needs no secret: no identity is made for it, and it starts
            without one too.

    Raises:
        EnclaveGoneError: It ended while starting; the hint is what it said last.
        PlatformError: It cannot be started here.
        TeeError: Gramine has no manifest for this disk.
        UsageError: Gramine cannot do what was asked for.
    """
    if tee == "gramine":
        _check_gramine_can(python, transport, tpm)
        return _launch_gramine(report, log, disk=disk)
    with contextlib.ExitStack() as stack:
        words = stack.enter_context(_last_words(log))
        new_link = link(transport)
        stack.callback(new_link.close)
        by_name = None if transport == "fd" else disk
        # The enclave serves a block device: when memory is short, the kernel must not make it
        # wait for that very device. Its children inherit the mark.
        with io_flusher():
            with_tpm = tpm is not None
            pid = process.start(
                new_link,
                words.fd,
                python=python,
                disk=by_name,
                with_tpm=with_tpm,
                look_only=look_only,
            )
        return EnclaveProcess(pid, new_link.connect(), report, words=words, tpm=tpm)


@contextlib.contextmanager
def _last_words(log: IO[bytes] | None) -> Iterator[LastWords]:
    """Open the log of an enclave that starts; tell what is in it, should that fail."""
    words = LastWords.nowhere() if log is None else LastWords.of(log)
    try:
        yield words
    except EnclaveGoneError as err:
        hint = words.hint()
        words.close()
        raise EnclaveGoneError(err.message, hint="; ".join(filter(None, (hint, err.hint)))) from err
    except BaseException:
        words.close()
        raise


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
    report: Reporter, log: IO[bytes] | None, *, disk: StartDisk | None
) -> EnclaveProcess:
    from strongroom.host.starting import gramine  # noqa: PLC0415 - only what was chosen

    with contextlib.ExitStack() as stack:
        words = stack.enter_context(_last_words(log))
        new_link = link("stdio")
        stack.callback(new_link.close)
        with io_flusher():
            starter = gramine.start(new_link, words.fd, disk=disk)
        enclave = EnclaveProcess(
            starter.pid, new_link.connect(), report, words=words, starter=starter
        )
        if disk is not None:
            try:
                disk.ensure_in_place()
            except BaseException:
                enclave.end()
                raise
        return enclave

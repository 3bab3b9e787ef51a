# SPDX-License-Identifier: Apache-2.0
"""One open volume from the host's side: what clients may ask, and every way in which it ends.

One thread waits for four things: a client on the control socket, the end of the enclave, a signal,
and, until the volume is unlocked, the end of the command that started it. Whatever ends the volume,
the same teardown runs: detach, flush, erase, remove the traces.
"""

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from strongroom import values
from strongroom.boundary import calls
from strongroom.boundary.channel import Received, Responder, registry_of
from strongroom.boundary.stream import UnixStream
from strongroom.errors import (
    AlreadyOpenError,
    BoundaryError,
    CancelledError,
    EnclaveGoneError,
    MountedError,
    NotOpenError,
    StrongroomError,
)
from strongroom.host import control_calls
from strongroom.host.attach import attaching, detaching
from strongroom.host.attach._libc import io_flusher
from strongroom.host.attach.record import process_started
from strongroom.host.contracts import OpenRequest, OpenResult, StatusResult
from strongroom.host.launch import EnclaveProcess
from strongroom.host.listening import log
from strongroom.host.rates import RateMeter
from strongroom.host.results import OpenVolume, open_result, status_result
from strongroom.host.runtime import Claim, marks

_CLIENT_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 5.0
_STOP_FLUSH_SECONDS: Final = 60.0
"""Below the 90 seconds after which systemd kills."""
_FAULTS: Final = frozenset(
    {
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT),
        *(signal.SIGTRAP, signal.SIGSYS),
    }
)
_NOT_ENDING: Final = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
        *(signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them: the call fails instead
    }
)
_ENDING_SIGNALS: Final = tuple(sorted(signal.valid_signals() - _FAULTS - _NOT_ENDING))
"""Every signal of which a process without a handler would end, but for its own faults."""


class Service:
    """One open volume, from the loaded header to the last trace removed."""

    def __init__(
        self,
        request: OpenRequest,
        owned: Claim,
        enclave: EnclaveProcess,
        facts: calls.DiskFacts,
        *,
        header_lock: Callable[[], contextlib.AbstractContextManager[object]],
    ) -> None:
        self._header_lock = header_lock
        self._owned = owned
        self._directory = owned.directory
        self._enclave = enclave
        self._volume = OpenVolume(
            request=request,
            socket=owned.directory.nbd_socket,
            facts=facts,
            description=enclave.call(calls.Describe()),
            enclave_pid=enclave.pid,
            started_at_unix=time.time(),
        )
        self._rates = RateMeter()
        self._ended = False
        self._leash_fd: int | None = None
        self._client: Responder | None = None

    @property
    def is_open(self) -> bool:
        """Whether the key has been set."""
        return self._volume.unlocked is not None

    def run(self, control: socket.socket, leash_fd: int | None) -> None:
        """Answer clients until the volume is closed.

        Args:
            control: The listening control socket.
            leash_fd: Readable once the command that started this process has ended; it then ends
                too, unless the volume is open by then.

        Raises:
            EnclaveGoneError: The enclave died.
        """
        self._leash_fd = leash_fd
        with _signals_as_events() as signal_fd, selectors.DefaultSelector() as selector:
            for listener in (control, self._owned.mark):
                selector.register(
                    listener, selectors.EVENT_READ, lambda at=listener: self._accept(at)
                )
            selector.register(self._enclave.pidfd, selectors.EVENT_READ, self._enclave_died)
            selector.register(signal_fd, selectors.EVENT_READ, self._terminate)
            if leash_fd is not None:
                selector.register(leash_fd, selectors.EVENT_READ, self._leash_let_go)
            while not self._ended:
                for key, _ in selector.select(_TICK_SECONDS):
                    handle: Callable[[], None] = key.data
                    handle()
                    if key.fd == leash_fd:
                        selector.unregister(leash_fd)
                if self.is_open and not self._ended:
                    self._rates.sample(self._counters())

    def _accept(self, control: socket.socket) -> None:
        connection, _ = control.accept()
        with connection:
            if not marks.may_ask(connection, by_mark=control is self._owned.mark):
                return
            connection.settimeout(_CLIENT_SECONDS)
            self._client = Responder(
                UnixStream(connection), registry_of(control_calls.CONTROL_CALLS)
            )
            # A client that leaves, stalls or talks nonsense is its own problem.
            with contextlib.suppress(BoundaryError):
                self._client.serve_one(self._answer)
            self._client = None

    def _answer(self, received: Received) -> object:
        match received.call:
            case control_calls.AskRecipient():
                if self.is_open:
                    raise AlreadyOpenError(f"the volume {self._name} has its key already")
                return self._waiting()
            case control_calls.SetKey(passphrase):
                return _json(self._unlock(passphrase))
            case control_calls.AskStatus():
                return _json(self._status())
            case control_calls.Close(force):
                return control_calls.Closed(_named(self._close(force=force)))
            case other:
                raise NotOpenError(f"the host process does not answer {type(other).__name__}")

    def _waiting(self) -> control_calls.Waiting:
        facts = self._volume.facts
        return control_calls.Waiting(
            recipient=self._enclave.call(calls.NewRecipient("unlock")),
            volume=facts.uuid,
            tee=self._volume.description.identity.tee,
            authentication=facts.authentication,
            enrolment=facts.enrolment,
            acceptable=facts.acceptable,
        )

    def _unlock(self, passphrase: calls.Sealed) -> OpenResult:
        if self.is_open:
            raise AlreadyOpenError(f"the volume {self._name} has its key already")
        request, facts = self._volume.request, self._volume.facts
        # What was accepted is written to the header.
        with self._header_lock():
            unlocked = self._enclave.call(calls.Unlock(passphrase, request.discard))
        if self._was_let_go():
            self._ended = True
            raise CancelledError("the command that opened the volume has ended")
        try:
            with self._owned.listening(self._directory.nbd_socket) as listener:
                self._enclave.serve(
                    listener, self._name, structured_replies=request.structured_replies
                )
            with io_flusher():
                attached = attaching.attach(
                    request.attach,
                    name=self._name,
                    socket=self._directory.nbd_socket,
                    runtime=self._directory.path,
                    size_bytes=facts.data_size_bytes,
                    sector_size_bytes=facts.sector_size_bytes,
                    read_only=request.read_only or unlocked.read_only,
                    discard=request.discard or facts.discard_allowed,
                    serve_fuse=self._enclave.fuse,
                )
            self._volume = values.replace(self._volume, attached=attached, unlocked=unlocked)
            self.write_record()
        except StrongroomError:
            # Half open is not a state: the keys go, and the name becomes free.
            self._ended = True
            raise
        return open_result(self._volume, unlocked)

    def _close(self, *, force: bool) -> tuple[str, ...]:
        left = self._detach(force=force)
        self._ended = True
        self._enclave.shut_down()
        self._directory.nbd_socket.unlink(missing_ok=True)
        return left

    def _detach(
        self, *, force: bool, flush_seconds: float = detaching.FORCED_FLUSH_SECONDS
    ) -> tuple[str, ...]:
        """Take the device away, and return where the file systems are that give errors now."""
        attached = self._volume.attached
        if attached is None:
            return ()
        left = detaching.detach(attached, force=force, flush_seconds=flush_seconds)
        for point in left:
            log(f"the file system at {point} gives errors from now on: unmount it")
        self._volume = values.replace(self._volume, attached=None)
        return left

    def _terminate(self) -> None:
        # The supervisor wants this process gone, mounted or not: file systems are synced first.
        try:
            self._close(force=False)
        except MountedError as err:
            log(f"{err.message}: cut off all the same, as the process is being stopped")
            self._detach(force=True, flush_seconds=_STOP_FLUSH_SECONDS)
            self._close(force=True)

    def _was_let_go(self) -> bool:
        """Say whether the command on the leash ended while the enclave derived for it."""
        if self._leash_fd is None:
            return False
        return bool(select.select([self._leash_fd], [], [], 0)[0])

    def _leash_let_go(self) -> None:
        if not self.is_open:
            self._ended = True

    def _enclave_died(self) -> None:
        raise EnclaveGoneError(
            f"the enclave of {self._name} ended unexpectedly", hint="its log says why"
        )

    def abandon(self) -> None:
        """Remove what can be removed after a failure. Never raises."""
        with contextlib.suppress(OSError, StrongroomError):
            self._detach(force=True)
        self._enclave.end()

    def relay_progress(self, stage: str, done: int, total: int) -> None:
        """Pass the enclave's progress on to the client that waits, if there is one."""
        if self._client is not None:
            with contextlib.suppress(BoundaryError):
                self._client.ocall(calls.ReportProgress(stage, done, total))

    def write_record(self) -> None:
        """Write down what a later command needs, should this process be killed."""
        attached = self._volume.attached
        self._owned.write_record(
            {
                **({} if attached is None else attached.record),
                "image": self._volume.image,
                "open": self.is_open,
                "attached_device": self._volume.device,
                "enclave_pid": self._enclave.pid,
                "enclave_started": process_started(self._enclave.pid),
            }
        )

    @property
    def _name(self) -> str:
        return self._volume.request.name

    def _status(self) -> StatusResult:
        counters = self._counters()
        return status_result(self._volume, counters, self._rates.rates(counters))

    def _counters(self) -> dict[str, int]:
        if not self.is_open:
            return {}
        return values.asdict(self._enclave.call(calls.ReadCounters()))


@contextlib.contextmanager
def _signals_as_events() -> Iterator[int]:
    """Turn the signals that ask a process to end into bytes on a descriptor."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = {number: signal.signal(number, lambda *_: None) for number in _ENDING_SIGNALS}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _named(points: tuple[str, ...]) -> tuple[str, ...]:
    """Return mount points as they go into an answer: what does not fit is counted."""
    most = control_calls.MOST_LEFT
    shown = tuple(point.encode(errors="backslashreplace").decode() for point in points)
    if len(shown) <= most:
        return shown
    return (*shown[: most - 1], f"{len(shown) - most + 1} more mount points")


def _json(result: OpenResult | StatusResult) -> control_calls.JsonText:
    return control_calls.JsonText(json.dumps(values.asdict(result)))

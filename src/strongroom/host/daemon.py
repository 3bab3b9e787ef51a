# SPDX-License-Identifier: Apache-2.0
"""The host process of one open volume: it stands beside the enclave and owns what is not secret.

One thread waits for four things: a client on the control socket, the end of the enclave, a signal,
and, until the volume is unlocked, the end of the command that started it. Whatever ends the volume,
the same teardown runs: detach, flush, erase, remove the traces.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from strongroom.boundary import calls
from strongroom.boundary.channel import Received, Responder, registry_of
from strongroom.boundary.stream import UnixStream
from strongroom.errors import (
    AlreadyOpenError,
    BoundaryError,
    EnclaveGoneError,
    MountedError,
    NotOpenError,
    StrongroomError,
)
from strongroom.host import attach, control_calls, target
from strongroom.host.attach import Attached
from strongroom.host.contracts import (
    ImageReference,
    MeasureResult,
    OpenRequest,
    OpenResult,
    StatusResult,
)
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.rates import RateMeter
from strongroom.host.runtime import Claim, VolumeDirectory, claim, start_time

_CLIENT_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 5.0
_BACKLOG: Final = 64


class Daemon:
    """One open volume, from the loaded header to the last trace removed."""

    def __init__(
        self,
        request: OpenRequest,
        owned: Claim,
        enclave: EnclaveProcess,
        facts: calls.DiskFacts,
    ) -> None:
        self._request = request
        self._owned = owned
        self._enclave = enclave
        self._facts = facts
        self._description = enclave.call(calls.Describe())
        self._opened_at = time.time()
        self._rates = RateMeter()
        self._attached: Attached | None = None
        self._keyslot: int | None = None
        self._ended = False
        self._client: Responder | None = None

    @property
    def is_open(self) -> bool:
        """Whether the key has been set."""
        return self._keyslot is not None

    def run(self, control: socket.socket, leash_fd: int | None) -> None:
        """Answer clients until the volume is closed.

        Args:
            control: The listening control socket.
            leash_fd: Readable once the command that started this process has ended; it then ends
                too, unless the volume is open by then.

        Raises:
            EnclaveGoneError: The enclave died.
        """
        with _signals_as_events() as signal_fd, selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ, lambda: self._accept(control))
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
                    raise AlreadyOpenError(f"the volume {self._request.name} has its key already")
                return self._enclave.call(calls.NewRecipient("unlock"))
            case control_calls.SetKey(passphrase):
                return _json(self._unlock(passphrase))
            case control_calls.AskStatus():
                return _json(self._status())
            case control_calls.Close(force):
                self._close(force=force)
                return calls.Done()
            case other:
                raise NotOpenError(f"the host process does not answer {type(other).__name__}")

    def _unlock(self, passphrase: calls.Sealed) -> OpenResult:
        if self.is_open:
            raise AlreadyOpenError(f"the volume {self._request.name} has its key already")
        unlocked = self._enclave.call(calls.Unlock(passphrase, self._request.discard))
        self._keyslot = unlocked.keyslot
        directory = self._owned.directory
        try:
            with _listener(directory.nbd_socket) as listener:
                self._enclave.call(calls.Serve(listener.fileno(), self._request.name))
            self._attached = attach.attach(
                self._request.attach,
                name=self._request.name,
                socket=directory.nbd_socket,
                runtime=directory.path,
                size_bytes=self._facts.data_size_bytes,
                sector_size_bytes=self._facts.sector_size_bytes,
                read_only=self._request.read_only,
            )
        except StrongroomError:
            # Half open is not a state: the keys go, and the name becomes free.
            self._ended = True
            raise
        self._write_record()
        return self._open_result()

    def _close(self, *, force: bool) -> None:
        if self._attached is not None:
            attach.detach(self._attached, force=force)
            self._attached = None
        self._ended = True
        self._enclave.shut_down()
        self._owned.directory.nbd_socket.unlink(missing_ok=True)

    def _terminate(self) -> None:
        # The supervisor wants this process gone, mounted or not: file systems are synced first.
        os.sync()
        try:
            self._close(force=False)
        except MountedError as err:
            _log(f"{err.message}: detaching all the same, as the process is being stopped")
            self._close(force=True)

    def _leash_let_go(self) -> None:
        if not self.is_open:
            self._ended = True

    def _enclave_died(self) -> None:
        raise EnclaveGoneError(
            f"the enclave of {self._request.name} ended unexpectedly", hint="its log says why"
        )

    def abandon(self) -> None:
        """Remove what can be removed after a failure. Never raises."""
        if self._attached is not None:
            attach.clean_stale(self._attached.record)
        self._enclave.end()

    def relay_progress(self, stage: str, done: int, total: int) -> None:
        """Pass the enclave's progress on to the client that waits, if there is one."""
        if self._client is not None:
            with contextlib.suppress(BoundaryError):
                self._client.ocall(calls.ReportProgress(stage, done, total))

    def _write_record(self) -> None:
        attached = {} if self._attached is None else self._attached.record
        self._owned.directory.write_record(
            {
                **attached,
                "image": str(self._request.image.path.absolute()),
                "open": self.is_open,
                "host_pid": os.getpid(),
                "enclave_pid": self._enclave.pid,
                "enclave_started": start_time(self._enclave.pid),
            }
        )

    def write_first_record(self) -> None:
        """Write down what is known before the key is set."""
        self._write_record()

    def _counters(self) -> dict[str, int]:
        if not self.is_open:
            return {}
        return dataclasses.asdict(self._enclave.call(calls.ReadCounters()))

    def _uri(self) -> str:
        return f"nbd+unix:///{self._request.name}?socket={self._owned.directory.nbd_socket}"

    def _device(self) -> str | None:
        device = None if self._attached is None else self._attached.device
        return None if device is None else str(device)

    def _open_result(self) -> OpenResult:
        attached = self._attached
        return OpenResult(
            name=self._request.name,
            image=str(self._request.image.path.absolute()),
            socket=str(self._owned.directory.nbd_socket),
            uri=self._uri(),
            device=self._device(),
            attach="none" if attached is None else attached.kind,
            attach_reason="" if attached is None else attached.reason,
            read_only=self._request.read_only,
            host_pid=os.getpid(),
            enclave_pid=self._enclave.pid,
            size_bytes=self._facts.data_size_bytes,
            sector_size_bytes=self._facts.sector_size_bytes,
            keyslot=-1 if self._keyslot is None else self._keyslot,
            notices=self._facts.notices + (() if attached is None else attached.notices),
        )

    def _status(self) -> StatusResult:
        counters = self._counters()
        return StatusResult(
            name=self._request.name,
            image=str(self._request.image.path.absolute()),
            state="open" if self.is_open else "waiting for key",
            uuid=self._facts.uuid,
            socket=str(self._owned.directory.nbd_socket),
            uri=self._uri(),
            device=self._device(),
            attach="none" if self._attached is None else self._attached.kind,
            read_only=self._request.read_only,
            discard=self._request.discard or self._facts.discard_allowed,
            host_pid=os.getpid(),
            enclave_pid=self._enclave.pid,
            size_bytes=self._facts.data_size_bytes,
            sector_size_bytes=self._facts.sector_size_bytes,
            cipher=self._facts.cipher,
            cipher_backend=self._description.cipher_backend,
            opened_at=datetime.fromtimestamp(self._opened_at, UTC).isoformat(timespec="seconds"),
            uptime_seconds=round(time.time() - self._opened_at, 1),
            tee=self._description.tee,
            simulated=self._description.simulated,
            confinement=tuple(
                MeasureResult(item.name, item.active, item.detail)
                for item in self._description.confinement
            ),
            counters=counters,
            rates=self._rates.rates(counters),
        )


class _ProgressRelay:
    """Stands between the enclave, which is started first, and the daemon, which comes later."""

    def __init__(self) -> None:
        self.daemon: Daemon | None = None

    def progress(self, stage: str, done: int, total: int) -> None:
        if self.daemon is not None:
            self.daemon.relay_progress(stage, done, total)

    def notice(self, text: str) -> None:
        _log(text)


def serve(
    request: OpenRequest, ready: Callable[[VolumeDirectory], None], leash_fd: int | None
) -> None:
    """Run the host process of one volume until it is closed.

    Args:
        request: The volume and its name.
        ready: Called once the header is checked and the control socket answers.
        leash_fd: See :meth:`Daemon.run`.

    Raises:
        StrongroomError: The volume could not be opened, or the enclave died.
    """
    os.umask(0o077)
    with contextlib.ExitStack() as stack:
        image_fd = target.open_image(request.image.path, read_only=request.read_only)
        stack.callback(os.close, image_fd)
        header_fd = _open_header(request, stack)
        target.ensure_not_in_use(request.image.path)
        stack.enter_context(
            target.OpenLock(image_fd, path=request.image.path, read_only=request.read_only)
        )
        owned = stack.enter_context(claim(request.name))
        control = stack.enter_context(_listener(owned.directory.control_socket))
        daemon = _start(request, owned, image_fd, header_fd)
        try:
            daemon.write_first_record()
            ready(owned.directory)
            daemon.run(control, leash_fd)
        finally:
            daemon.abandon()


def _start(request: OpenRequest, owned: Claim, image_fd: int, header_fd: int | None) -> Daemon:
    relay = _ProgressRelay()
    with owned.directory.log.open("ab", buffering=0) as log:
        enclave = launch(relay, log)
    try:
        locked_fd = image_fd if header_fd is None else header_fd
        locked_path = request.image.header or request.image.path
        with target.HeaderLock(locked_fd, path=locked_path):
            facts = enclave.call(calls.LoadDisk(image_fd, header_fd, request.read_only))
        daemon = relay.daemon = Daemon(request, owned, enclave, facts)
    except BaseException:
        enclave.end()
        raise
    return daemon


def _open_header(request: OpenRequest, stack: contextlib.ExitStack) -> int | None:
    if request.image.header is None:
        return None
    header_fd = target.open_image(request.image.header, read_only=request.read_only)
    stack.callback(os.close, header_fd)
    return header_fd


@contextlib.contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        yield listener


@contextlib.contextmanager
def _signals_as_events() -> Iterator[int]:
    """Turn SIGTERM, SIGINT and SIGHUP into bytes on a descriptor."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _json(result: OpenResult | StatusResult) -> control_calls.JsonText:
    return control_calls.JsonText(json.dumps(dataclasses.asdict(result)))


def _log(text: str) -> None:
    sys.stderr.write(f"strongroom host: {text}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class BackgroundOptions:
    """What ``open`` passes to the process that it leaves behind; no secret is among it."""

    image: str
    header: str | None
    name: str
    attach: str
    read_only: bool
    discard: bool


def main() -> int:
    """Run as ``python -I -m strongroom.host.daemon LEASH_FD JSON``, started by ``open``.

    One JSON line goes to the leash: ``{}`` when ready for the key, else the error.
    """
    leash_fd, options = int(sys.argv[1]), BackgroundOptions(**json.loads(sys.argv[2]))
    request = OpenRequest(
        image=ImageReference(
            Path(options.image), None if options.header is None else Path(options.header)
        ),
        name=options.name,
        attach=options.attach,  # type: ignore[arg-type]  # checked by the command line
        read_only=options.read_only,
        discard=options.discard,
    )
    try:
        serve(request, lambda _: _tell(leash_fd, {}), leash_fd)
    except StrongroomError as err:
        _log(err.message)
        with contextlib.suppress(OSError):
            _tell(leash_fd, {"error": type(err).__name__, "message": err.message, "hint": err.hint})
        return err.exit_code
    return 0


def _tell(leash_fd: int, message: dict[str, str]) -> None:
    os.write(leash_fd, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())

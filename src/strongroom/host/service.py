# SPDX-License-Identifier: Apache-2.0
"""One open volume from the host's side: what clients may ask, and every way in which it ends.

The main thread carries out what changes the volume, one order after the other. A second thread
waits for clients on the control socket, the end of the enclave, signals, and, until the volume is
unlocked, the end of the command that started it. Each client has a thread of its own, on which its
question about the state is answered, whatever the main thread waits for.
"""

import contextlib
import functools
import json
import os
import queue
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from strongroom import values
from strongroom.boundary import calls
from strongroom.boundary.channel import Received, Responder
from strongroom.errors import (
    AlreadyOpenError,
    BoundaryError,
    CancelledError,
    KeyslotStateError,
    NotOpenError,
    StrongroomError,
)
from strongroom.host import closing, control_calls
from strongroom.host.attach import Attached, attaching, detaching
from strongroom.host.attach._libc import io_flusher
from strongroom.host.attach.record import process_started
from strongroom.host.contracts import OpenRequest, OpenResult, StatusResult
from strongroom.host.desk import Desk, Order
from strongroom.host.launch import EnclaveProcess
from strongroom.host.listening import log
from strongroom.host.loading import Loaded, Loader
from strongroom.host.patience import while_working, within
from strongroom.host.results import OpenVolume, open_result, status_result
from strongroom.host.runtime import Claim
from strongroom.host.signals import signals_as_events
from strongroom.host.watching import Pulse

_TICK_SECONDS: Final = 5.0
_SIGNAL_READ_BYTES: Final = 64
_SERVE_SECONDS: Final = 30.0
_TERMINATE_SECONDS: Final = 45.0
"""How long a signal lets file systems and flushes take before the volume is closed by force.
systemd kills what has not ended after 90 seconds."""


class Service:
    """One open volume, from the loaded header to the last trace removed."""

    def __init__(
        self,
        request: OpenRequest,
        owned: Claim,
        loader: Loader,
        loaded: Loaded,
    ) -> None:
        self._loader = loader
        self._owned = owned
        self._directory = owned.directory
        self._request = request
        self._take(loaded)
        self._orders: queue.SimpleQueue[Order | Callable[[], None]] = queue.SimpleQueue()
        self._desk = Desk(self._answer)
        self._ended = False
        self._doing = ""
        self._hurry = threading.Event()
        self._let_go = threading.Event()
        self._client: Responder | None = None

    def _take(self, loaded: Loaded) -> None:
        self._enclave, self._mark = loaded.enclave, loaded.mark
        self._volume = OpenVolume(
            request=self._request,
            socket=self._directory.nbd_socket,
            facts=loaded.facts,
            description=loaded.enclave.call(calls.Describe()),
            enclave_pid=loaded.enclave.pid,
            started_at_unix=time.time(),
        )
        image_fd = self._loader.files.image_fd
        self._pulse = Pulse(loaded.enclave, self._volume, image_fd, self._say)

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
            UnflushedError: A signal closed the volume, and its last flush failed.
        """
        with signals_as_events() as signal_fd:
            watching = (control, signal_fd, leash_fd)
            threading.Thread(target=self._watch, args=watching, daemon=True).start()
            try:
                while not self._ended:
                    self._take_order()
            finally:
                self._ended = True
                self._refuse_rest()
                self._desk.close()

    def _take_order(self) -> None:
        try:
            order = self._orders.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            order = self._sample
        if isinstance(order, Order):
            order.carry_out()
        else:
            order()

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                if isinstance(order, Order):
                    order.refuse(_closed_meanwhile(self._name))

    # --- the thread that watches ------------------------------------------------------------------

    def _watch(self, control: socket.socket, signal_fd: int, leash_fd: int | None) -> None:
        with selectors.DefaultSelector() as selector:

            def once(fd: int, event: Callable[[], None]) -> None:
                def note() -> None:
                    selector.unregister(fd)
                    event()

                selector.register(fd, selectors.EVENT_READ, note)

            for at in (control, self._owned.mark):
                is_mark = at is self._owned.mark
                admit = functools.partial(self._desk.admit, at, by_mark=is_mark)
                selector.register(at, selectors.EVENT_READ, admit)
            selector.register(signal_fd, selectors.EVENT_READ, lambda: self._note_signal(signal_fd))
            first = self._enclave
            once(first.pidfd, lambda: self._orders.put(lambda: self._enclave_died(first)))
            if leash_fd is not None:
                once(leash_fd, self._note_let_go)
            while not self._ended:
                for key, _ in selector.select(_TICK_SECONDS):
                    handle: Callable[[], None] = key.data
                    handle()

    def _note_signal(self, signal_fd: int) -> None:
        os.read(signal_fd, _SIGNAL_READ_BYTES)
        if not self.is_open:
            self._hurry.set()
        limit = threading.Timer(_TERMINATE_SECONDS, self._hurry.set)
        limit.daemon = True
        limit.start()
        self._orders.put(self._terminate)

    def _note_let_go(self) -> None:
        self._let_go.set()
        self._orders.put(self._end_if_let_go)

    # --- the threads of clients -------------------------------------------------------------------

    def _answer(self, received: Received, client: Responder) -> object:
        match received.call:
            case control_calls.AskRecipient():
                return self._ordered(self._waiting)
            case control_calls.SetKey(passphrase):
                return self._ordered(lambda: _json(self._unlock(passphrase, client)))
            case control_calls.AskStatus():
                return _json(self._status())
            case control_calls.Close(force):
                if force:
                    self._hurry.set()
                return self._ordered(lambda: self._close_for_client(force=force))
            case other:
                raise NotOpenError(f"the host process does not answer {type(other).__name__}")

    def _ordered(self, do: Callable[[], object]) -> object:
        if self._ended:
            raise _closed_meanwhile(self._name)
        order = Order(do)
        self._orders.put(order)
        return order.result()

    def _status(self) -> StatusResult:
        state, problems = self._pulse.state(self._volume, self._doing)
        return status_result(
            self._volume,
            self._pulse.counters,
            self._pulse.rates(),
            state=state,
            problems=problems,
        )

    # --- the main thread --------------------------------------------------------------------------

    def _waiting(self) -> control_calls.Waiting:
        if self.is_open:
            raise AlreadyOpenError(f"the volume {self._name} has its key already")
        if self._has_header_changed():
            self._load_anew()
        facts = self._volume.facts
        return control_calls.Waiting(
            recipient=self._enclave.call(calls.NewRecipient("unlock"), within(_SERVE_SECONDS)),
            volume=facts.uuid,
            tee=self._volume.description.identity.tee,
            authentication=facts.authentication,
            enrolment=facts.enrolment,
            acceptable=facts.acceptable,
            former_volumes=facts.former_uuids,
        )

    def _has_header_changed(self) -> bool:
        return self._loader.files.header_mark() != self._mark

    def _load_anew(self) -> None:
        """Have another enclave read the header, as this one has read it as it was before."""
        self._say("the header has changed since it was read, and is read anew")
        self._enclave.end()
        try:
            loaded = self._loader.load(self._loader.start())
            self._take(loaded)
        except BaseException:
            self._ended = True
            raise
        self._watch_too(loaded.enclave)
        self.write_record()

    def _watch_too(self, enclave: EnclaveProcess) -> None:
        """Note the end of an enclave that was started later than the thread that watches."""
        pidfd = os.dup(enclave.pidfd)

        def watch() -> None:
            with os.fdopen(pidfd) as held:
                select.select((held,), (), ())
            self._orders.put(lambda: self._enclave_died(enclave))

        threading.Thread(target=watch, daemon=True).start()

    def _unlock(self, passphrase: calls.Sealed, client: Responder) -> OpenResult:
        if self.is_open:
            raise AlreadyOpenError(f"the volume {self._name} has its key already")
        self._doing, self._client = "unlocking", client
        try:
            return self._unlock_now(passphrase)
        except StrongroomError as err:
            self._say(f"not opened: {err.message}")
            raise
        finally:
            self._doing, self._client = "", None

    def _unlock_now(self, passphrase: calls.Sealed) -> OpenResult:
        request = self._volume.request
        patience = while_working(self._enclave.pid, unless=self._is_unwanted)
        # What was accepted is written to the header.
        with self._loader.files.header_lock():
            if self._has_header_changed():
                raise KeyslotStateError(
                    "the header has changed since it was read, and the volume was not opened",
                    hint="try again: the next attempt reads it anew",
                )
            try:
                unlocked = self._enclave.call(calls.Unlock(passphrase, request.discard), patience)
            except BoundaryError as err:
                self._ended = True
                if self._is_unwanted():
                    raise _unwanted() from err
                raise self._with_log(err) from err
        if self._is_unwanted():
            self._ended = True
            raise _unwanted()
        try:
            self._serve()
            attached = self._attach(read_only=request.read_only or unlocked.read_only)
            self._volume = values.replace(self._volume, attached=attached, unlocked=unlocked)
            self.write_record()
        except StrongroomError:
            # Half open is not a state: the keys go, and the name becomes free.
            self._ended = True
            raise
        self._say(f"opened, device {self._volume.device or 'none'}")
        return open_result(self._volume, unlocked)

    def _is_unwanted(self) -> bool:
        """Say whether the command that opens it, or an operator, has given it up meanwhile."""
        return self._let_go.is_set() or self._hurry.is_set()

    def _serve(self) -> None:
        structured = self._volume.request.structured_replies
        with self._owned.listening(self._directory.nbd_socket) as listener:
            self._enclave.serve(listener, self._name, structured_replies=structured)

    def _attach(self, *, read_only: bool) -> Attached:
        request, facts = self._volume.request, self._volume.facts
        with io_flusher():
            return attaching.attach(
                request.attach,
                name=self._name,
                socket=self._directory.nbd_socket,
                runtime=self._directory.path,
                size_bytes=facts.data_size_bytes,
                sector_size_bytes=facts.sector_size_bytes,
                read_only=read_only,
                discard=request.discard or facts.discard_allowed,
                serve_fuse=self._enclave.fuse,
            )

    def _close_for_client(self, *, force: bool) -> control_calls.Closed:
        self._doing = "closing"
        try:
            left, notices = self._close_by_force() if force else self._close()
            self._say(f"closed by a command{' with --force' if force else ''}")
        except StrongroomError as err:
            self._say(err.message if self._ended else f"not closed: {err.message}")
            raise
        finally:
            self._doing = ""
        return control_calls.Closed(_named(left), notices)

    def _close(self) -> closing.Ended:
        hurried = self._hurry.is_set
        if self.is_open:
            self._pulse.ensure_image(self._name)
            closing.flush(self._enclave, self._name, hurried)
        if self._volume.attached is not None:
            detaching.detach(self._volume.attached, force=False, unless=hurried)
            self._volume = values.replace(self._volume, attached=None)
        self._ended = True
        self._directory.nbd_socket.unlink(missing_ok=True)
        if self.is_open:
            self._pulse.sample()
        closing.end_in_order(self._enclave, self._name)
        closing.ensure_written(self._name, self._pulse.failed_writes())
        self._owned.forget_log()
        return closing.Ended((), ())

    def _close_by_force(self) -> closing.Ended:
        self._ended = True
        self._directory.nbd_socket.unlink(missing_ok=True)
        attached, self._volume = self._volume.attached, values.replace(self._volume, attached=None)
        ended = closing.end_by_force(self._enclave, attached, self._name, self._say)
        closing.ensure_written(self._name, self._pulse.failed_writes())
        self._owned.forget_log()
        return ended

    def _terminate(self) -> None:
        """Close, by force if need be, as the supervisor wants this process gone."""
        self._say("a signal ends it")
        self._doing = "closing"
        if not closing.is_answering(self._enclave):
            self._hurry.set()
        if self._volume.attached is not None:
            attached, limit = self._volume.attached, _TERMINATE_SECONDS
            detaching.write_back(attached, limit, unless=self._hurry.is_set)
        try:
            self._close()
        except StrongroomError as err:
            if self._ended:
                raise
            self._say(f"{err.message}: closing by force, as the process is being stopped")
            for notice in self._close_by_force().notices:
                self._say(notice)

    def _end_if_let_go(self) -> None:
        if not self.is_open:
            self._ended = True

    def _enclave_died(self, enclave: EnclaveProcess) -> None:
        if enclave is not self._enclave:
            return
        self.write_record(state="enclave ended")
        raise self._with_log(self._enclave.gone("unexpectedly"))

    def _with_log(self, error: BoundaryError) -> BoundaryError:
        """Keep the log of an enclave that failed, and say where it is."""
        self._say("; ".join(filter(None, (error.message, error.hint))))
        kept = self._owned.keep_log()
        if kept is None:
            return error
        hint = f"{error.hint}; " if error.hint else ""
        return type(error)(error.message, hint=f"{hint}its log is kept in {kept}")

    def _sample(self) -> None:
        if self.is_open:
            self._pulse.sample()

    def abandon(self) -> None:
        """Remove what can be removed after a failure. Never raises."""
        attached, self._volume = self._volume.attached, values.replace(self._volume, attached=None)
        if attached is not None:
            with contextlib.suppress(OSError, StrongroomError):
                for point in detaching.detach(attached, force=True):
                    self._say(closing.left_words(point))
        self._enclave.end()

    def relay_progress(self, stage: str, done: int, total: int) -> None:
        """Pass the enclave's progress on to the client that waits, if there is one."""
        if self._client is not None:
            try:
                self._client.ocall(calls.ReportProgress(stage, done, total))
            except BoundaryError:
                self._client = None

    def write_record(self, state: str = "") -> None:
        """Write down what a later command needs, should this process be killed."""
        attached = self._volume.attached
        self._owned.write_record(
            {
                **({} if attached is None else attached.record),
                "image": self._volume.image,
                "open": self.is_open,
                "state": state,
                "attached_device": self._volume.device,
                "enclave_pid": self._enclave.pid,
                "enclave_started": process_started(self._enclave.pid),
            }
        )

    @property
    def _name(self) -> str:
        return self._volume.request.name

    def _say(self, text: str) -> None:
        log(text, self._name)


def _unwanted() -> CancelledError:
    return CancelledError("the volume was given up before it was open")


def _closed_meanwhile(name: str) -> NotOpenError:
    return NotOpenError(f"the volume {name} was closed by another command meanwhile")


def _named(points: tuple[str, ...]) -> tuple[str, ...]:
    """Return mount points as they go into an answer: what does not fit is counted."""
    most = control_calls.MOST_LEFT
    shown = tuple(point.encode(errors="backslashreplace").decode() for point in points)
    if len(shown) <= most:
        return shown
    return (*shown[: most - 1], f"{len(shown) - most + 1} more mount points")


def _json(result: OpenResult | StatusResult) -> control_calls.JsonText:
    return control_calls.JsonText(json.dumps(values.asdict(result)))

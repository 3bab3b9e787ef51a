# SPDX-License-Identifier: Apache-2.0
"""The threads that move bytes between one stream, the boundary and the clients' sockets.

The host end takes clients from a listening socket and gives each a channel; the enclave end makes
a socket pair for each channel and hands one half to whoever serves it.

Nobody waits for a client. The reader takes frames from the stream, never writes to it, and passes
data on only as far as the client's socket takes it at once. The pump alone writes to the stream:
one frame of each channel in turn, and the boundary's before the next. It also passes on what had
to wait. So no client stops another, and neither end can stop the other's reader.
"""

import contextlib
import functools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from strongroom.boundary.mux.channels import BoundaryChannel, Connection
from strongroom.boundary.mux.frames import (
    HEADER_BYTES,
    MAX_CHANNELS,
    MAX_DATA_BYTES,
    PREFACE,
    FrameParser,
    Header,
    Kind,
)
from strongroom.boundary.mux.watch import Gate, Watch
from strongroom.errors import BoundaryError

_JOIN_SECONDS: Final = 5.0
_NO_DESCRIPTORS_SECONDS: Final = 0.1
"""How long to leave clients alone when the process has run out of descriptors."""


class Acceptor(Protocol):
    """Serves what the host connects."""

    def __call__(self, connection: socket.socket, /) -> None:
        """Take a connected stream socket and return at once; ``OSError`` refuses it."""


class PairSource(Protocol):
    """Makes socket pairs; a confined process may have to keep them in stock."""

    def __call__(self) -> tuple[socket.socket, socket.socket]:
        """Return two connected stream sockets, or raise ``OSError``."""


class Multiplexer:
    """One end of a multiplexed stream. It owns both descriptors, which may be the same one.

    Args:
        read_fd: A pipe or stream socket to read from. Both are made non-blocking; where that is
            not possible, :meth:`close` does not wait for a read or write under way.
        write_fd: One to write to.
        pairs: On the enclave's side, where channels get their sockets from. Without it this is the
            host's side, which alone opens channels.
        on_end: Called, on a thread of this class, when the other side has left. Not called for a
            violation, which the boundary channel raises.
        stall_seconds: How long the boundary's channel waits for the other side within a message.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        pairs: PairSource | None = None,
        on_end: Callable[[], None] | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._pairs = pairs
        self._on_end = on_end
        self._state = threading.Condition()
        self._connections: dict[int, Connection] = {}
        self._acceptor: Acceptor | None = None
        self._listener: socket.socket | None = None
        self._input_over = self._woken = self._stopped = False
        # Made here, as a confined process makes no more sockets.
        self._stop_sensor, self._stop = socket.socketpair()
        self._wake_sensor, self._waker = socket.socketpair()
        self._readable = Gate(read_fd, select.POLLIN, self._stop_sensor)
        self._writable = Gate(write_fd, select.POLLOUT, self._stop_sensor)
        self._watch = Watch()
        self._watch.set(self._wake_sensor, select.POLLIN, self._note_woken)
        self._watch.set(self._stop_sensor, select.POLLIN, lambda _: None)
        self._outbound = memoryview(bytearray(HEADER_BYTES + MAX_DATA_BYTES))
        self._threads = [
            threading.Thread(target=self._read, name="mux-read", daemon=True),
            threading.Thread(target=self._pump, name="mux-pump", daemon=True),
        ]
        self.boundary: Final = BoundaryChannel(self._state, self._wake, self.close, stall_seconds)
        for descriptor in (read_fd, write_fd):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, False)

    def start(self) -> None:
        """Start the two threads; until then nothing is read or written."""
        for thread in self._threads:
            thread.start()

    def accept(self, acceptor: Acceptor | None) -> None:
        """Say who serves the connections that the host opens from now on; at first nobody."""
        with self._state:
            self._acceptor = acceptor

    def forward(self, listener: socket.socket) -> None:
        """Carry everyone who connects to ``listener``, which is duplicated. Once at most."""
        own = listener.dup()
        own.settimeout(0)
        with self._state:
            self._listener = own
            self._wake()

    def close(self) -> None:
        """End the stream and close every socket. It may be called again, and by any thread."""
        with self._state:
            if self._stopped:
                return
            self._stopped = True
            self.boundary.end_input(None)
            self.boundary.end_output()
        self._stop.close()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)
        # A thread that hangs in the kernel keeps its descriptors: their numbers must not be reused.
        if not any(thread.is_alive() for thread in self._threads):
            self._drop_connections()
            for end in (self._stop_sensor, self._wake_sensor, self._waker):
                end.close()
            for descriptor in {self._read_fd, self._write_fd}:
                os.close(descriptor)

    # --- the reader -------------------------------------------------------------------------------

    def _read(self) -> None:
        parser = FrameParser()
        buffer = memoryview(bytearray(HEADER_BYTES + MAX_DATA_BYTES))
        violation = None
        try:
            while size := self._receive(buffer):
                for header, piece in parser.feed(buffer[:size]):
                    with self._state:
                        self._take(header, piece)
        except OSError:
            pass  # The other side is gone, as at the end of the stream.
        except BoundaryError as err:
            violation = err
        with self._state:
            left = violation is None and not self._stopped
            self._input_over = True
            self.boundary.end_input(violation)
            self._wake()
        if left and self._on_end is not None:
            self._on_end()

    def _receive(self, into: memoryview) -> int:
        while True:
            try:
                return os.readv(self._read_fd, [into])
            except BlockingIOError:
                if not self._readable.wait():
                    return 0

    def _take(self, header: Header, piece: memoryview) -> None:
        if header.channel == 0:
            self.boundary.take(header, piece)
        elif (connection := self._connections.get(header.channel)) is not None:
            connection.take(header, piece)
            if connection.flow.is_over:
                # At once: the next frame may be the one that opens this number again.
                del self._connections[header.channel]
            # Data that went through needs the pump only when credit is due.
            quiet = connection.wanted_events() == connection.watched_events
            if header.kind is Kind.DATA and quiet and not connection.flow.credit_due:
                return
        elif self._pairs is not None and header.kind is Kind.OPEN:
            self._connections[header.channel] = Connection(self._connect(self._pairs))
        else:
            raise BoundaryError(f"a {header.kind.name} frame is about no open channel")
        self._wake()

    def _connect(self, pairs: PairSource) -> socket.socket | None:
        if self._acceptor is None:
            return None
        with contextlib.suppress(OSError):
            ours, theirs = pairs()
            try:
                self._acceptor(theirs)
            except OSError:
                ours.close()
                theirs.close()
                raise
            return ours
        return None

    def _wake(self) -> None:
        # With the state locked. One byte is enough until the pump has taken it.
        if not self._woken and not self._stopped:
            self._woken = True
            self._waker.send(b"w")

    # --- the pump ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        try:
            with contextlib.suppress(OSError):
                self._write(PREFACE)
                while not self._stopped:
                    self._write_owed()
                    for attend, events in self._watch.wait():
                        attend(events)
        finally:
            with self._state:
                self.boundary.end_output()
                self._drop_connections()

    def _note_woken(self, _: int) -> None:
        with self._state:
            self._woken = False
            self._wake_sensor.recv(1)

    def _write_owed(self) -> None:
        while frames := self._owed():
            self._write(frames)

    def _owed(self) -> bytes:
        """Return what is to be written to every channel, and see to what is watched."""
        with self._state:
            # Whatever was owed before has been written by now.
            self.boundary.note_written()
            if self._input_over:
                self._drop_connections()
            elif self._listener is not None:
                self._watch.set(self._listener, select.POLLIN, self._open)
            frames = self.boundary.owed()
            for number, connection in list(self._connections.items()):
                frames += self._owed_to(number, connection)
            return frames

    def _owed_to(self, number: int, connection: Connection) -> bytes:
        frames = b""
        for header in connection.owed():
            frames += header._replace(channel=number).encode()
            if header.kind is Kind.CLOSE:
                self._close(connection)
        if connection.flow.is_over:
            del self._connections[number]
        elif (events := connection.wanted_events()) != connection.watched_events:
            attend = functools.partial(self._carry, number, connection)
            self._watch.set(connection, events, attend)
            connection.watched_events = events
        return frames

    def _carry(self, number: int, connection: Connection, events: int) -> None:
        """Attend to a connection's socket."""
        with self._state:
            connection.pass_on()
            size = min(connection.may_receive(), MAX_DATA_BYTES)
        if not size:
            return
        data = self._outbound[HEADER_BYTES : HEADER_BYTES + size]
        size = connection.receive(data, events)
        with self._state:
            if not size or connection.flow.close_received:
                return
            connection.flow.sendable -= size
        self._outbound[:HEADER_BYTES] = Header(Kind.DATA, number, size).encode()
        self._write(self._outbound[: HEADER_BYTES + size])
        self._write_owed()

    def _open(self, _: int) -> None:
        """Take a client, and give it a channel or hang up."""
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            time.sleep(_NO_DESCRIPTORS_SECONDS)
            return
        with self._state:
            numbers = range(1, MAX_CHANNELS + 1)
            number = next((n for n in numbers if n not in self._connections), None)
            if number is None:
                client.close()
                return
            self._connections[number] = Connection(client)
        self._write(Header(Kind.OPEN, number, 0).encode())
        self._write_owed()

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._write_fd, rest) :]
            except BlockingIOError:
                if not self._writable.wait():
                    raise BrokenPipeError(None, "the stream was closed") from None

    def _close(self, connection: Connection) -> None:
        self._watch.forget(connection)
        connection.watched_events = 0
        connection.close()

    def _drop_connections(self) -> None:
        for connection in self._connections.values():
            self._close(connection)
        self._connections.clear()
        if self._listener is not None:
            self._watch.forget(self._listener)
            self._listener.close()
            self._listener = None

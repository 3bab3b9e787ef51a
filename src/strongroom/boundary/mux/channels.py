# SPDX-License-Identifier: Apache-2.0
"""The two kinds of channel: the boundary's own, and a connection's.

Neither locks anything by itself. What says so below is called with the multiplexer's state locked.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

from strongroom.boundary.mux.frames import MAX_DATA_BYTES, Flow, Header, Kind
from strongroom.boundary.stream import refuse_descriptors
from strongroom.errors import BoundaryError


class BoundaryChannel:
    """Channel 0: a :class:`strongroom.boundary.stream.ByteStream` without descriptors.

    One thread at a time may send. What has been sent is with the kernel when :meth:`send` returns.
    With ``stall_seconds`` no :meth:`send` or :meth:`receive` takes longer: it raises
    ``TimeoutError``.
    """

    carries_descriptors = False

    def __init__(
        self,
        state: threading.Condition,
        wake: Callable[[], None],
        close: Callable[[], None],
        stall_seconds: float | None,
    ) -> None:
        self._state = state
        self._stall_seconds = stall_seconds
        self._wake = wake
        self._close = close
        self._flow = Flow()
        self._incoming = bytearray()
        self._outgoing = memoryview(b"")
        self._sending = self._input_over = self._output_over = False
        self._violation: BoundaryError | None = None

    def send(self, data: bytes, descriptors: list[int]) -> None:
        """See :class:`strongroom.boundary.stream.ByteStream`."""
        refuse_descriptors(descriptors)
        with self._state:
            self._outgoing, self._sending = memoryview(data), True
            self._wake()
            if not self._state.wait_for(
                lambda: not self._sending or self._is_stuck(), self._stall_seconds
            ):
                raise TimeoutError
            if self._sending:
                raise BrokenPipeError(None, "the stream has ended")

    def receive(self, size: int) -> tuple[bytes, list[int]]:
        """See :class:`strongroom.boundary.stream.ByteStream`.

        Raises:
            BoundaryError: The other side broke the rules, on whatever channel.
        """
        with self._state:
            if not self._state.wait_for(self._has_input, self._stall_seconds):
                raise TimeoutError
            if self._violation is not None:
                raise BoundaryError(self._violation.message)
            data = bytes(self._incoming[:size])
            del self._incoming[:size]
            self._flow.consume(len(data))
            if self._flow.credit_due:
                self._wake()
            return data, []

    def wait_readable(self, seconds: float) -> bool:
        """See :class:`strongroom.boundary.stream.ByteStream`."""
        with self._state:
            return self._state.wait_for(self._has_input, seconds)

    def close(self) -> None:
        """End the whole stream, with all of its channels."""
        self._close()

    def take(self, header: Header, piece: memoryview) -> None:
        """Note a frame or a piece of data that came. The state is locked.

        Raises:
            BoundaryError: It is not allowed now.
        """
        if piece:
            self._incoming += piece
        else:
            self._flow.receive(header)
        self._state.notify_all()

    def owed(self) -> bytes:
        """Return the frames that are to be written now. The state is locked."""
        frames = b""
        if credit := self._flow.grant():
            frames += Header(Kind.CREDIT, 0, credit).encode()
        size = min(len(self._outgoing), self._flow.sendable, MAX_DATA_BYTES)
        if size:
            frames += Header(Kind.DATA, 0, size).encode() + self._outgoing[:size]
            self._outgoing = self._outgoing[size:]
            self._flow.sendable -= size
        return frames

    def note_written(self) -> None:
        """Note that what was owed is with the kernel. The state is locked."""
        if self._sending and not self._outgoing:
            self._sending = False
            self._state.notify_all()

    def end_input(self, violation: BoundaryError | None) -> None:
        """Tell the receiver that nothing more comes, and why. The state is locked."""
        self._violation = self._violation or violation
        self._input_over = True
        self._state.notify_all()

    def end_output(self) -> None:
        """Tell the sender that nothing more goes. The state is locked."""
        self._output_over = True
        self._state.notify_all()

    def _has_input(self) -> bool:
        return bool(self._incoming) or self._input_over

    def _is_stuck(self) -> bool:
        return self._output_over or (self._input_over and self._flow.sendable == 0)


class Connection:
    """One NBD connection: its socket on this side, and what the socket has not taken yet.

    ``local`` is ``None`` for a connection that is refused. All is called with the state locked,
    but :meth:`receive`, which is the pump's.
    """

    def __init__(self, local: socket.socket | None) -> None:
        self.flow = Flow()
        self.watched_events = 0
        self._local = local
        self._backlog = bytearray()
        self._read_over = False
        self._broken = local is None
        if local is not None:
            local.settimeout(0)

    def fileno(self) -> int:
        """Return the socket's descriptor, negative without one."""
        return -1 if self._local is None else self._local.fileno()

    def take(self, header: Header, piece: memoryview) -> None:
        """Note a frame that came, or pass on a piece of data.

        Raises:
            BoundaryError: It is not allowed now.
        """
        if not piece:
            self.flow.receive(header)
            self.pass_on()
        elif not self._broken:
            sent = 0 if self._backlog else self._send(piece)
            self._backlog += piece[sent:]

    def pass_on(self) -> None:
        """Give the socket as much as it takes without waiting."""
        if self._backlog and not self._broken:
            del self._backlog[: self._send(self._backlog)]
        if self.flow.end_received and not self._backlog and self._local is not None:
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_WR)

    def may_receive(self) -> int:
        """Return how many bytes there is a use for now."""
        if self._broken or self._read_over:
            return 0
        # After CLOSE nobody wants them, but whoever waits to write them would not read either.
        return MAX_DATA_BYTES if self.flow.close_received else self.flow.sendable

    def receive(self, into: memoryview, events: int) -> int:
        """Receive from the socket without waiting; 0 for nothing, also at the end.

        Args:
            into: At most what :meth:`may_receive` says.
            events: What poll said of the socket.
        """
        try:
            size = 0 if self._local is None else self._local.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError:
            size, events = 0, select.POLLHUP
        if size == 0:
            self._read_over = True
            # Gone altogether, and not only done with sending: what comes for it is of no use.
            self._broken = self._broken or bool(events & select.POLLHUP)
        return size

    def owed(self) -> Iterator[Header]:
        """Yield the frames that are to be written, without the channel's number.

        After CLOSE the socket must be closed.
        """
        if credit := self.flow.grant():
            yield Header(Kind.CREDIT, 0, credit)
        if self.flow.close_sent:
            return
        if self._read_over and not self.flow.end_sent:
            self.flow.end_sent = True
            yield Header(Kind.END, 0, 0)
        if self._is_finished():
            self.flow.close_sent = True
            yield Header(Kind.CLOSE, 0, 0)

    def wanted_events(self) -> int:
        """Return what to be told of by poll."""
        if self._broken:
            return 0
        reading = select.POLLIN if self.may_receive() else 0
        return reading | (select.POLLOUT if self._backlog else 0)

    def close(self) -> None:
        """Close the socket; what it has not taken is dropped."""
        self._broken = True
        self._backlog.clear()
        if self._local is not None:
            self._local.close()

    def _is_finished(self) -> bool:
        flow = self.flow
        delivered = flow.end_received and not self._backlog
        reset = flow.close_received and not flow.end_received
        return self._broken or reset or (delivered and (flow.end_sent or flow.close_received))

    def _send(self, data: memoryview | bytearray) -> int:
        """Return how much the socket took, or that there is no use for it any more."""
        if self._local is None:
            return len(data)
        try:
            sent = self._local.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._broken = True
            return len(data)
        self.flow.consume(sent)
        return sent

# SPDX-License-Identifier: Apache-2.0
"""Frames over a byte stream: a UNIX socket pair, a pair of pipes, or TCP on loopback.

A frame is a 4-byte big-endian length and that many bytes. Only the UNIX socket carries file
descriptors; they come with the first byte of their frame.
"""

import array
import contextlib
import os
import select
import socket
import struct
from typing import Final, Protocol

from strongroom.boundary.schema import MAX_DESCRIPTORS
from strongroom.errors import BoundaryError, NotAnsweringError

MAX_FRAME_BYTES: Final = 1024 * 1024
"""Largest frame; the largest declared message, a header dump, is half of it."""

_LENGTH_BYTES: Final = 4
_FD_BYTES: Final = array.array("i").itemsize
# Plain integers: for each frame of a TPM's command, an operation on a flag costs as much as a read.
_ANCILLARY_BYTES: Final = socket.CMSG_LEN(MAX_DESCRIPTORS * _FD_BYTES)
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
_TIMEVAL: Final = struct.Struct("ll")
_MID_MESSAGE: Final = "the other side of the boundary stopped in the middle of a message"


class EndOfStreamError(BoundaryError):
    """The other side has closed the stream between two frames."""

    exit_code = BoundaryError.exit_code


class StalledError(NotAnsweringError):
    """The other side stopped in the middle of a message: the stream is of no use any more."""

    exit_code = NotAnsweringError.exit_code


class ByteStream(Protocol):
    """A reliable stream of bytes in both directions."""

    @property
    def carries_descriptors(self) -> bool:
        """Whether file descriptors can travel beside the bytes."""

    def send(self, data: bytes, descriptors: list[int]) -> None:
        """Send all of ``data``; the descriptors stay the caller's to close."""

    def receive(self, size: int) -> tuple[bytes, list[int]]:
        """Return 1 to ``size`` bytes and what descriptors came with them; empty at the end."""

    def wait_readable(self, seconds: float) -> bool:
        """Wait for bytes, or for the end of the stream, and say whether they came in time."""

    def close(self) -> None:
        """Close the stream."""


class UnixStream:
    """A connected UNIX stream socket, which carries descriptors.

    Args:
        connected: The socket, which is owned from now on.
        stall_seconds: How long one :meth:`send` or :meth:`receive` may wait, and raise an
            ``OSError`` then; ``None`` leaves the socket as it is.
    """

    carries_descriptors = True

    def __init__(self, connected: socket.socket, *, stall_seconds: int | None = None) -> None:
        self._socket = connected
        if stall_seconds is not None:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                connected.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(stall_seconds, 0))

    def send(self, data: bytes, descriptors: list[int]) -> None:
        """See :class:`ByteStream`."""
        sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else 0
        # Sending nothing is not nothing: it fails when the receiver has answered and left.
        if rest := data[sent:]:
            self._socket.sendall(rest)

    def receive(self, size: int) -> tuple[bytes, list[int]]:
        """See :class:`ByteStream`."""
        # Not recv_fds(): before Python 3.14 it ignores its flags, and descriptors survive an exec.
        data, ancillary, flags, _ = self._socket.recvmsg(size, _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
        descriptors = _descriptors_in(ancillary) if ancillary else []
        if flags & _TRUNCATED:
            close_all(descriptors)
            raise BoundaryError("a boundary message came with too many descriptors")
        return data, descriptors

    def wait_readable(self, seconds: float) -> bool:
        """See :class:`ByteStream`."""
        return _readable(self._socket.fileno(), seconds)

    def close(self) -> None:
        """See :class:`ByteStream`."""
        self._socket.close()


class TcpStream:
    """A connected TCP socket on loopback. It carries no descriptors and authenticates nobody."""

    carries_descriptors = False

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, data: bytes, descriptors: list[int]) -> None:
        """See :class:`ByteStream`."""
        refuse_descriptors(descriptors)
        self._socket.sendall(data)

    def receive(self, size: int) -> tuple[bytes, list[int]]:
        """See :class:`ByteStream`."""
        return self._socket.recv(size), []

    def wait_readable(self, seconds: float) -> bool:
        """See :class:`ByteStream`."""
        return _readable(self._socket.fileno(), seconds)

    def close(self) -> None:
        """See :class:`ByteStream`."""
        self._socket.close()


class PipeStream:
    """Two one-way descriptors, such as standard input and output. It carries no descriptors."""

    carries_descriptors = False

    def __init__(self, *, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd

    def send(self, data: bytes, descriptors: list[int]) -> None:
        """See :class:`ByteStream`."""
        refuse_descriptors(descriptors)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._write_fd, rest) :]

    def receive(self, size: int) -> tuple[bytes, list[int]]:
        """See :class:`ByteStream`."""
        return os.read(self._read_fd, size), []

    def wait_readable(self, seconds: float) -> bool:
        """See :class:`ByteStream`."""
        return _readable(self._read_fd, seconds)

    def close(self) -> None:
        """See :class:`ByteStream`."""
        close_all([self._read_fd, self._write_fd])


def send_frame(stream: ByteStream, payload: bytes, descriptors: list[int]) -> None:
    """Send one frame.

    Raises:
        BoundaryError: It is larger than :data:`MAX_FRAME_BYTES`, or the other side is gone.
        StalledError: The other side does not take it, and the stream has a limit for that.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise BoundaryError(f"a boundary message of {len(payload)} bytes is too large")
    try:
        stream.send(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload, descriptors)
    except (BlockingIOError, TimeoutError) as err:
        raise StalledError(_MID_MESSAGE) from err
    except OSError as err:
        raise EndOfStreamError(f"the other side of the boundary is gone: {err.strerror}") from err


def receive_frame(stream: ByteStream) -> tuple[bytes, list[int]]:
    """Return one frame and its descriptors, which the caller owns.

    Raises:
        EndOfStreamError: The stream ended between two frames.
        BoundaryError: The frame is empty, too large or cut short, or has too many descriptors.
        StalledError: The rest of it does not come, and the stream has a limit for that.
    """
    descriptors: list[int] = []
    try:
        head = _receive_exactly(stream, _LENGTH_BYTES, descriptors, at_start=True)
        size = int.from_bytes(head, "big")
        if not 1 <= size <= MAX_FRAME_BYTES:
            raise BoundaryError(f"a boundary message claims {size} bytes")
        return _receive_exactly(stream, size, descriptors, at_start=False), descriptors
    except BaseException:
        close_all(descriptors)
        raise


def _receive_exactly(
    stream: ByteStream, size: int, descriptors: list[int], *, at_start: bool
) -> bytes:
    received = bytearray()
    while len(received) < size:
        try:
            data, came = stream.receive(size - len(received))
        except (BlockingIOError, TimeoutError) as err:
            raise StalledError(_MID_MESSAGE) from err
        except OSError as err:
            raise EndOfStreamError(f"the boundary broke: {err.strerror}") from err
        descriptors += came
        if len(descriptors) > MAX_DESCRIPTORS:
            raise BoundaryError("a boundary message came with too many descriptors")
        if not data:
            if at_start and not received:
                raise EndOfStreamError("the other side of the boundary has left")
            raise BoundaryError("the boundary was cut in the middle of a message")
        received += data
    return bytes(received)


def _readable(descriptor: int, seconds: float) -> bool:
    # Not select(), which knows no descriptor beyond 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _FD_BYTES])
    return found.tolist()


def refuse_descriptors(descriptors: list[int]) -> None:
    """Raise for a stream that cannot carry descriptors.

    Raises:
        BoundaryError: There are any.
    """
    if descriptors:
        raise BoundaryError("this transport carries no file descriptors")


def close_all(descriptors: list[int]) -> None:
    """Close descriptors, also those that are closed already."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)

# SPDX-License-Identifier: Apache-2.0
"""The streams that a host can give its enclave: a UNIX socket, two pipes, or TCP on loopback.

Each is made before the enclave starts, tells what the process is to inherit, and becomes a
connection once it runs. The other side is :mod:`strongroom.enclave.transport`.
"""

import contextlib
import fcntl
import hmac
import os
import selectors
import socket
import subprocess
import time
from typing import Final, Protocol, assert_never

from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.stream import ByteStream, UnixStream
from strongroom.boundary.token import TOKEN_BYTES
from strongroom.errors import EnclaveGoneError
from strongroom.host.contracts import Transport
from strongroom.values import dataclass

_CONNECT_SECONDS: Final = 10.0
_BACKLOG: Final = 128
_STALL_SECONDS: Final = 10
"""How long an enclave may stop in the middle of a message, or not take one."""
_PIPE_BYTES: Final = 1024 * 1024
"""What a pipe is asked to hold; the kernel may grant less, which only costs speed."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The host's end. ``multiplexer`` brings clients where no listening socket can be passed."""

    stream: ByteStream
    multiplexer: Multiplexer | None


class Link(Protocol):
    """A stream in the making."""

    @property
    def address(self) -> str:
        """What the enclave is told."""

    @property
    def stdin(self) -> int:
        """What it inherits as standard input."""

    @property
    def stdout(self) -> int | None:
        """The same for standard output; ``None`` for the log."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What else it inherits."""

    def connect(self) -> Connected:
        """Return the host's end, once the enclave runs.

        Raises:
            EnclaveGoneError: It did not connect.
        """

    def close(self) -> None:
        """Close what is the enclave's, and all if :meth:`connect` was not called."""


def link(transport: Transport) -> Link:
    """Return a new stream of one kind."""
    match transport:
        case "fd":
            return UnixLink()
        case "stdio":
            return PipeLink()
        case "tcp":
            return TcpLink()
        case _:
            assert_never(transport)


class UnixLink:
    """A socket pair, the only one that carries descriptors."""

    stdin, stdout = subprocess.DEVNULL, None

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unconnected = contextlib.ExitStack()
        self._unconnected.enter_context(self._ours)
        self.address = f"fd:{self._theirs.fileno()}"
        self.descriptors = (self._theirs.fileno(),)

    def connect(self) -> Connected:
        """See :class:`Link`."""
        self._unconnected.pop_all()
        return Connected(UnixStream(self._ours, stall_seconds=_STALL_SECONDS), None)

    def close(self) -> None:
        """See :class:`Link`."""
        self._theirs.close()
        self._unconnected.close()


class PipeLink:
    """Two pipes, as standard input and output."""

    address, descriptors = "stdio", ()

    def __init__(self) -> None:
        self.stdin, self._write_fd = os.pipe()
        self._read_fd, self.stdout = os.pipe()
        self._unconnected = contextlib.ExitStack()
        self._unconnected.callback(os.close, self._write_fd)
        self._unconnected.callback(os.close, self._read_fd)

    def connect(self) -> Connected:
        """See :class:`Link`."""
        self._unconnected.pop_all()
        for descriptor in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return _multiplexed(self._read_fd, self._write_fd)

    def close(self) -> None:
        """See :class:`Link`."""
        os.close(self.stdin)
        os.close(self.stdout)
        self._unconnected.close()


class TcpLink:
    """TCP on loopback. A token tells the enclave from everybody else who can connect."""

    stdout, descriptors = None, ()

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self.address = f"tcp:{self._listener.getsockname()[1]}"
        self._token = os.urandom(TOKEN_BYTES)
        self.stdin, writer = os.pipe()
        os.write(writer, self._token)
        os.close(writer)

    def connect(self) -> Connected:
        """See :class:`Link`."""
        connected = self._accept()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = connected.detach()
        return _multiplexed(descriptor, descriptor)

    def close(self) -> None:
        """See :class:`Link`."""
        os.close(self.stdin)
        self._listener.close()

    def _accept(self) -> socket.socket:
        """Return the connection that begins with the token; strangers do not hold it up."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as strangers:
            selector.register(self._listener, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.fd == self._listener.fileno():
                        stranger = strangers.enter_context(self._listener.accept()[0])
                        selector.register(stranger, selectors.EVENT_READ, (stranger, bytearray()))
                        continue
                    connected: socket.socket
                    heard: bytearray
                    connected, heard = key.data
                    piece = _receive(connected, TOKEN_BYTES - len(heard))
                    heard += piece
                    if hmac.compare_digest(heard, self._token):
                        return connected.dup()
                    # Judged when it is whole, or a guess could be made byte by byte.
                    if not piece or len(heard) == TOKEN_BYTES:
                        selector.unregister(connected)
                        connected.close()
        raise EnclaveGoneError("the enclave did not connect")


def _receive(connected: socket.socket, size: int) -> bytes:
    try:
        return connected.recv(size, socket.MSG_DONTWAIT)
    except OSError:
        return b""


def _multiplexed(read_fd: int, write_fd: int) -> Connected:
    multiplexer = Multiplexer(read_fd, write_fd, stall_seconds=_STALL_SECONDS)
    multiplexer.start()
    return Connected(multiplexer.boundary, multiplexer)

# SPDX-License-Identifier: Apache-2.0
"""Which stream the host gave: a UNIX socket, standard input and output, or TCP on loopback.

Only the socket carries descriptors, and so the disk and a listening socket. The other two are what
some TEEs allow: the disk is then a file that the enclave was started with, and clients come
through the same stream.
"""

import os
import resource
import socket
from collections.abc import Callable
from typing import Final

from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.stream import ByteStream, UnixStream
from strongroom.boundary.token import TOKEN_BYTES
from strongroom.errors import UsageError
from strongroom.values import dataclass

_CONNECT_SECONDS: Final = 10.0
_STOCK: Final = 256
"""Clients that can be served one after the other where the kernel makes no sockets any more."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The open descriptors of a stream, which may be the same one; ``kind`` is how it was named."""

    kind: str
    read_fd: int
    write_fd: int


@dataclass(frozen=True, slots=True)
class Boundary:
    """How the host is reached.

    Attributes:
        stream: What the calls go through.
        multiplexer: What carries clients where the stream cannot carry a listening socket. It is
            not started yet, as threads that exist before the confinement are not confined.
    """

    stream: ByteStream
    multiplexer: Multiplexer | None


class PairStock:
    """Socket pairs, made while that is allowed: the confinement forbids to make more."""

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        count = _STOCK if limit == resource.RLIM_INFINITY else min(_STOCK, limit // 4)
        self._pairs = [socket.socketpair() for _ in range(count)]

    def __call__(self) -> tuple[socket.socket, socket.socket]:
        """Return a pair, a new one where the kernel still makes them."""
        try:
            return socket.socketpair()
        except PermissionError:
            if not self._pairs:
                raise
            return self._pairs.pop()


def open_ends(address: str) -> Ends:
    """Return the ends of ``fd:N``, ``stdio`` or ``tcp:PORT``.

    Raises:
        UsageError: The address has another form, or names no such descriptor or port.
    """
    kind, _, argument = address.partition(":")
    try:
        match kind:
            case "fd":
                with socket.socket(fileno=int(argument)) as connected:
                    connected.setblocking(True)  # noqa: FBT003 - the standard library's signature
                    descriptor = connected.detach()
                return Ends(kind, descriptor, descriptor)
            case "stdio" if not argument:
                return Ends(kind, *_standard_streams())
            case "tcp":
                return Ends(kind, *_connected(int(argument)))
            case _:
                raise UsageError(f"{address!r} is no boundary address")
    except (ValueError, OSError, OverflowError) as err:
        raise UsageError(f"the boundary {address!r} cannot be opened: {err}") from err


def boundary_over(ends: Ends, on_end: Callable[[], None]) -> Boundary:
    """Return the boundary over open ends, in the process that is to serve.

    Args:
        ends: What :func:`open_ends` returned.
        on_end: Called when the host leaves a multiplexed stream, on a thread of its own.
    """
    if ends.kind == "fd":
        return Boundary(UnixStream(socket.socket(fileno=ends.read_fd)), None)
    multiplexer = Multiplexer(ends.read_fd, ends.write_fd, pairs=PairStock(), on_end=on_end)
    return Boundary(multiplexer.boundary, multiplexer)


def _standard_streams() -> tuple[int, int]:
    # What the program prints by mistake must not enter the boundary: it goes to standard error.
    ends = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    _forget_standard_input()
    return ends


def _connected(port: int) -> tuple[int, int]:
    token = _read_token()
    with socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS) as connected:
        connected.settimeout(None)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.sendall(token)
        descriptor = connected.detach()
    return descriptor, descriptor


def _read_token() -> bytes:
    token = b""
    while len(token) < TOKEN_BYTES:
        piece = os.read(0, TOKEN_BYTES - len(token))
        if not piece:
            raise UsageError("standard input holds no token for the TCP boundary")
        token += piece
    _forget_standard_input()
    return token


def _forget_standard_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

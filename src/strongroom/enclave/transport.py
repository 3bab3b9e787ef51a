# SPDX-License-Identifier: Apache-2.0
"""Which stream the host gave: a UNIX socket, standard input and output, or TCP on loopback.

Only the socket carries descriptors, and so the disk; the other two are what some TEEs allow.
"""

import os
import socket
from typing import Final

from strongroom.boundary.stream import ByteStream, PipeStream, TcpStream, UnixStream
from strongroom.errors import UsageError

_MAX_PORT: Final = 65535
_CONNECT_SECONDS: Final = 10.0


def open_stream(address: str) -> ByteStream:
    """Return the stream for ``fd:N``, ``stdio`` or ``tcp:PORT``.

    Raises:
        UsageError: The address has another form, or names no such descriptor or port.
    """
    kind, _, argument = address.partition(":")
    try:
        match kind:
            case "fd":
                connected = socket.socket(fileno=int(argument))
                connected.setblocking(True)  # noqa: FBT003 - the standard library's signature
                return UnixStream(connected)
            case "stdio" if not argument:
                return _standard_streams()
            case "tcp":
                port = int(argument)
                connected = socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS)
                connected.settimeout(None)
                return TcpStream(connected)
            case _:
                raise UsageError(f"{address!r} is no boundary address")
    except (ValueError, OSError) as err:
        raise UsageError(f"the boundary {address!r} cannot be opened: {err}") from err


def _standard_streams() -> PipeStream:
    # What the program prints by mistake must not enter the boundary: it goes to standard error.
    stream = PipeStream(read_fd=os.dup(0), write_fd=os.dup(1))
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return stream

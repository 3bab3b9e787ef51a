# SPDX-License-Identifier: Apache-2.0
"""The client's side of NBD's fixed newstyle handshake, up to transmission.

The kernel's client speaks simple replies only, so structured replies are not asked for. The server
is our own enclave, but the socket is all we know of it: every number is checked before use.

Spec: NBD protocol, "Fixed newstyle negotiation", NBD_OPT_GO.
"""

import socket
import struct
import time
from pathlib import Path
from typing import Final, NoReturn

from strongroom.errors import BoundaryError, PlatformError
from strongroom.values import dataclass

HAS_FLAGS: Final = 1 << 0
READ_ONLY: Final = 1 << 1
CAN_MULTI_CONN: Final = 1 << 8

_MAGIC: Final = b"NBDMAGICIHAVEOPT"
_REPLY_MAGIC: Final = 0x0003E889045565A9
_FIXED_NEWSTYLE: Final = 1 << 0
_NO_ZEROES: Final = 1 << 1
_OPT_GO: Final = 7
_REP_ACK: Final = 1
_REP_INFO: Final = 3
_REP_ERROR: Final = 1 << 31
_INFO_EXPORT: Final = 0
_INFO_BLOCK_SIZE: Final = 3

_GREETING: Final = struct.Struct(">16sH")
_REPLY: Final = struct.Struct(">QIII")
_EXPORT: Final = struct.Struct(">HQH")
_BLOCK_SIZE: Final = struct.Struct(">HIII")
_INFO_TYPE: Final = struct.Struct(">H")

_REPLY_LIMIT: Final = 16
"""Replies to one option; ours are an export, block sizes, perhaps a name, and the end."""
_LENGTH_LIMIT: Final = 8192
"""Bytes of one reply; the longest text that NBD allows is 4096."""
_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Export:
    """What a server says of its export. ``flags`` are NBD's transmission flags."""

    size_bytes: int
    flags: int
    minimum_block_bytes: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket in transmission phase."""

    socket: socket.socket
    export: Export


def connect(path: Path) -> Connection:
    """Connect to an NBD server on a UNIX socket and choose its default export.

    Raises:
        PlatformError: Nobody listens there, or the answer took too long.
        BoundaryError: The server broke the protocol, or refused the export.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.connect(str(path))
        export = negotiate(connection)
        connection.settimeout(None)
    except OSError as err:
        connection.close()
        raise PlatformError(f"the volume's socket {path} does not serve: {err}") from err
    except BaseException:
        connection.close()
        raise
    return Connection(connection, export)


def negotiate(connection: socket.socket) -> Export:
    """Run the handshake on a connected socket.

    Raises:
        BoundaryError: The server broke the protocol, or refused the export.
        OSError: The connection failed or the time was up.
    """
    reader = _Reader(connection, time.monotonic() + _TIMEOUT_SECONDS)
    magic, flags = _GREETING.unpack(reader.exactly(_GREETING.size))
    if magic != _MAGIC or not flags & _FIXED_NEWSTYLE:
        _refuse("the server does not speak fixed newstyle NBD")
    name = b""
    request = struct.pack(f">I{len(name)}sHH", len(name), name, 1, _INFO_BLOCK_SIZE)
    connection.sendall(
        struct.pack(
            ">I8sII", flags & (_FIXED_NEWSTYLE | _NO_ZEROES), _MAGIC[8:], _OPT_GO, len(request)
        )
        + request
    )
    return _read_export(reader)


def _read_export(reader: "_Reader") -> Export:  # noqa: RET503 - it returns or refuses
    export: tuple[int, int] | None = None
    minimum = 1
    for _ in range(_REPLY_LIMIT):
        kind, data = _read_reply(reader)
        if kind == _REP_ACK:
            if export is None or data:
                _refuse("the server ended the handshake without an export")
            return Export(*export, minimum)
        if kind != _REP_INFO or len(data) < _INFO_TYPE.size:
            _refuse("the server sent an unexpected reply")
        (info,) = _INFO_TYPE.unpack_from(data)
        if info == _INFO_EXPORT:
            _, size, flags = _unpack(_EXPORT, data)
            export = (size, flags)
        elif info == _INFO_BLOCK_SIZE:
            _, minimum, _, _ = _unpack(_BLOCK_SIZE, data)
    _refuse("the server does not end the handshake")


def _read_reply(reader: "_Reader") -> tuple[int, bytes]:
    magic, option, kind, length = _REPLY.unpack(reader.exactly(_REPLY.size))
    if magic != _REPLY_MAGIC or option != _OPT_GO or length > _LENGTH_LIMIT:
        _refuse("the server sent a malformed reply")
    data = reader.exactly(length)
    if kind & _REP_ERROR:
        _refuse(f"the server refused the export (error {kind & ~_REP_ERROR})")
    return kind, data


def _unpack(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != form.size:
        _refuse("the server sent a reply of the wrong length")
    values: tuple[int, ...] = form.unpack(data)
    return values


def _refuse(what: str) -> NoReturn:
    raise BoundaryError(f"NBD handshake failed: {what}")


class _Reader:
    """Reads exact lengths before one deadline, so that a slow drip of bytes cannot stretch it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._deadline = deadline

    def exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the handshake took too long")
            self._socket.settimeout(left)
            part = self._socket.recv(length - len(data))
            if not part:
                _refuse("the server hung up")
            data += part
        return data

# SPDX-License-Identifier: Apache-2.0
"""D-Bus, as much of it as one method call needs that takes nothing and returns descriptors.

::

    message   'l' | type u8 | flags u8 | version 1 u8 | body size u32 | serial u32
              | fields: size u32, then each at a multiple of 8: code u8, signature, value
              | padding to a multiple of 8 | body

The bus and what is behind it are no more trusted than a TPM's socket: every number is checked
before it is used, and every wait is bounded.

Spec: D-Bus Specification 0.41, "Message Protocol" and "Authentication Protocol".
"""

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.limits import Deadline
from strongroom.host.tpm.stream import connect_unix
from strongroom.values import dataclass

_METHOD_CALL: Final = 1
_METHOD_RETURN: Final = 2
_ERROR: Final = 3

_PATH: Final = 1
_INTERFACE: Final = 2
_MEMBER: Final = 3
_ERROR_NAME: Final = 4
_REPLY_SERIAL: Final = 5
_DESTINATION: Final = 6
_TEXT_SIGNATURES: Final = {_PATH: b"o", _INTERFACE: b"s", _MEMBER: b"s", _DESTINATION: b"s"}

_FIXED_BYTES: Final = 16
_MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Answers here are some hundred bytes; D-Bus would allow 128 MiB."""
_MAX_MESSAGES: Final = 64
"""How many signals of others are passed over while waiting for an answer."""
_MAX_LINE_BYTES: Final = 1024
_MAX_DESCRIPTORS: Final = 4


@dataclass(frozen=True, slots=True)
class Method:
    """A method without arguments, by where it is on the bus."""

    destination: str
    path: str
    interface: str
    name: str


class MethodError(TpmTransportError):
    """The bus or the called object answered with an error; ``name`` is D-Bus's name of it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the message bus answered with {name}")
        self.name = name


_HELLO: Final = Method(
    "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"
)


def call_for_descriptors(bus: str, method: Method, deadline: Deadline) -> tuple[int, ...]:
    """Call a method and return the file descriptors of its answer, which are then the caller's.

    Args:
        bus: The message bus's UNIX socket.
        method: What to call. The bus starts the destination if it can.
        deadline: When to give up.

    Raises:
        MethodError: The bus or the method refused.
        TpmTransportError: There is no bus, it broke the protocol, or did not answer in time.
    """
    with contextlib.closing(_Bus(connect_unix(bus, deadline), deadline)) as connection:
        connection.authenticate()
        connection.call(_HELLO)
        connection.call(method)
        return connection.take_descriptors()


class _Bus:
    """One connection. Descriptors that nobody took are closed with it."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._serial = 0

    def authenticate(self) -> None:
        """Say who we are, which the bus asks the kernel, and that we take descriptors."""
        user = str(os.geteuid()).encode().hex()
        self._send(f"\0AUTH EXTERNAL {user}\r\n".encode())
        self._expect_line(b"OK ")
        self._send(b"NEGOTIATE_UNIX_FD\r\n")
        self._expect_line(b"AGREE_UNIX_FD")
        self._send(b"BEGIN\r\n")

    def call(self, method: Method) -> None:
        """Call a method and wait for its answer.

        Raises:
            MethodError: The answer is an error.
        """
        self._serial += 1
        self._send(_method_call(method, self._serial))
        for _ in range(_MAX_MESSAGES):
            kind, fields = self._message()
            if fields.get(_REPLY_SERIAL) != self._serial:
                continue
            if kind == _METHOD_RETURN:
                return
            if kind == _ERROR:
                raise MethodError(str(fields.get(_ERROR_NAME, "an error without a name")))
        raise TpmTransportError("the message bus sends everything but an answer")

    def take_descriptors(self) -> tuple[int, ...]:
        """Return what was received, which is no longer ours."""
        taken, self._descriptors = tuple(self._descriptors), []
        return taken

    def close(self) -> None:
        """Close the connection and what nobody took."""
        self._socket.close()
        for descriptor in self.take_descriptors():
            os.close(descriptor)

    def _message(self) -> tuple[int, dict[int, str | int]]:
        order, kind, body_bytes, fields_bytes = _parse_fixed(self._receive(_FIXED_BYTES))
        if fields_bytes + body_bytes > _MAX_MESSAGE_BYTES:
            raise _broken("a message is too long")
        fields = self._receive(_aligned(fields_bytes, 8))[:fields_bytes]
        self._receive(body_bytes)
        return kind, _parse_fields(order, fields)

    def _expect_line(self, start: bytes) -> None:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise _broken("a line is too long")
            self._fill()
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer[:] = rest
        if not line.startswith(start):
            raise TpmTransportError("the message bus does not let us in")

    def _receive(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> None:
        with _translated(self._deadline):
            self._socket.settimeout(self._deadline.left())
            received, descriptors = _receive_with_descriptors(self._socket)
        self._descriptors += descriptors
        if not received:
            raise _broken("it ended")
        if len(self._descriptors) > _MAX_DESCRIPTORS:
            raise _broken("too many descriptors")
        self._buffer += received

    def _send(self, data: bytes) -> None:
        with _translated(self._deadline):
            self._socket.settimeout(self._deadline.left())
            self._socket.sendall(data)


def _receive_with_descriptors(connected: socket.socket) -> tuple[bytes, list[int]]:
    item_bytes = array.array("i").itemsize
    received, ancillary, _flags, _address = connected.recvmsg(
        4096, socket.CMSG_SPACE(_MAX_DESCRIPTORS * item_bytes), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % item_bytes])
    return received, descriptors.tolist()


def _method_call(method: Method, serial: int) -> bytes:
    fields = b""
    for code, value in (
        (_PATH, method.path),
        (_DESTINATION, method.destination),
        (_INTERFACE, method.interface),
        (_MEMBER, method.name),
    ):
        text = value.encode("ascii")
        fields = _padded(fields)
        fields += bytes([code, 1]) + _TEXT_SIGNATURES[code] + b"\0"
        fields += struct.pack("<I", len(text)) + text + b"\0"
    head = struct.pack("<cBBBIII", b"l", _METHOD_CALL, 0, 1, 0, serial, len(fields))
    return _padded(head + fields)


def _parse_fixed(head: bytes) -> tuple[str, int, int, int]:
    """Return the byte order, the message's type, the size of its body and of its fields."""
    order = {b"l": "<", b"B": ">"}.get(head[:1])
    if order is None or head[3] != 1:
        raise _broken("a message starts with nonsense")
    body_bytes, _serial, fields_bytes = struct.unpack_from(f"{order}III", head, 4)
    return order, head[1], body_bytes, fields_bytes


def _parse_fields(order: str, data: bytes) -> dict[int, str | int]:
    """Return the header fields whose values are texts or numbers; there are no others."""
    fields: dict[int, str | int] = {}
    at = 0
    try:
        while at < len(data):
            at = _aligned(at, 8)
            code, signature_bytes = data[at], data[at + 1]
            signature = data[at + 2 : at + 2 + signature_bytes]
            at += 3 + signature_bytes
            if signature == b"g":
                at += 2 + data[at]
                continue
            at = _aligned(at, 4)
            (number,) = struct.unpack_from(f"{order}I", data, at)
            at += 4
            if signature == b"u":
                fields[code] = number
            elif signature in {b"s", b"o"} and at + number < len(data):
                fields[code] = data[at : at + number].decode("ascii")
                at += number + 1
            else:
                raise _broken("a header field has an unknown type or ends outside")
    except (IndexError, ValueError, struct.error) as err:
        raise _broken("a header field is malformed") from err
    return fields


def _aligned(size: int, grid: int) -> int:
    return -(-size // grid) * grid


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data), 8), b"\0")


def _broken(why: str) -> TpmTransportError:
    return TpmTransportError(f"the message bus broke its protocol: {why}")


@contextlib.contextmanager
def _translated(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except TimeoutError as err:
        raise deadline.missed() from err
    except OSError as err:
        raise TpmTransportError(f"the message bus broke: {err.strerror or err}") from err

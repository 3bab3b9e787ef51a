# SPDX-License-Identifier: Apache-2.0
"""Generic netlink, as much of it as one request and its answer need.

Every message is ``nlmsghdr | genlmsghdr | attributes``, an attribute is ``length, type, data``
padded to four bytes, and all integers are in the machine's order.

Spec: netlink(7); linux/genetlink.h.
"""

import os
import socket
import struct
import sys
from types import TracebackType
from typing import Final, Self

from strongroom.errors import PlatformError

Attribute = tuple[int, bytes]

_NETLINK_GENERIC: Final = 16
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_CONTROLLER: Final = 16
_GET_FAMILY: Final = 3
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

_MESSAGE: Final = struct.Struct("=IHHII")
_GENERIC: Final = struct.Struct("=BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")

_RECEIVE_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 30.0


class GenericNetlink:
    """A connection to one generic netlink family of the kernel.

    Raises:
        FileNotFoundError: The kernel has no such family.
        OSError: The kernel refused; ``errno`` says why.
    """

    def __init__(self, family: str) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        try:
            self._socket.settimeout(_TIMEOUT_SECONDS)
            self._socket.bind((0, 0))
            name = pack(_FAMILY_NAME, family.encode() + b"\0")
            answer = self._ask(_CONTROLLER, _GET_FAMILY, name)
            self._family = int.from_bytes(dict(answer)[_FAMILY_ID], sys.byteorder)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, command: int, attributes: bytes) -> tuple[Attribute, ...]:
        """Send one command and return the attributes of the answer, if it has any.

        Raises:
            OSError: The kernel refused; ``errno`` says why.
        """
        return self._ask(self._family, command, attributes)

    def _ask(self, family: int, command: int, attributes: bytes) -> tuple[Attribute, ...]:
        self._sequence += 1
        body = _GENERIC.pack(command, 1, 0) + attributes
        size = _MESSAGE.size + len(body)
        header = _MESSAGE.pack(size, family, _REQUEST | _ACK, self._sequence, 0)
        self._socket.sendall(header + body)
        answer: tuple[Attribute, ...] = ()
        while True:
            # The acknowledgement comes last, so the answer is complete with it.
            for kind, data in self._receive():
                if kind == family:
                    answer = parse(data[_GENERIC.size :])
                elif kind in {_NLMSG_ERROR, _NLMSG_DONE}:
                    (code,) = _ERROR.unpack_from(data)
                    if code != 0:
                        raise OSError(-code, os.strerror(-code))
                    return answer

    def _receive(self) -> list[tuple[int, bytes]]:
        """Receive one datagram and return kind and data of the messages that answer us."""
        datagram = self._socket.recv(_RECEIVE_BYTES)
        messages = []
        while len(datagram) >= _MESSAGE.size:
            size, kind, _, sequence, _ = _MESSAGE.unpack_from(datagram)
            if not _MESSAGE.size <= size <= len(datagram):
                raise PlatformError("the kernel sent a malformed netlink message")
            if sequence == self._sequence:
                messages.append((kind, datagram[_MESSAGE.size : size]))
            datagram = datagram[_aligned(size) :]
        return messages


def pack(kind: int, data: bytes) -> bytes:
    """Return one attribute."""
    packed = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data
    return packed + bytes(_aligned(len(packed)) - len(packed))


def pack_nested(kind: int, *attributes: bytes) -> bytes:
    """Return one attribute that holds others."""
    return pack(kind | _NESTED, b"".join(attributes))


def pack_u32(kind: int, value: int) -> bytes:
    """Return one attribute with a 32-bit number."""
    return pack(kind, struct.pack("=I", value))


def pack_u64(kind: int, value: int) -> bytes:
    """Return one attribute with a 64-bit number."""
    return pack(kind, struct.pack("=Q", value))


def parse(data: bytes) -> tuple[Attribute, ...]:
    """Split bytes into attributes.

    Raises:
        PlatformError: A length lies outside the data.
    """
    found = []
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= size <= len(data):
            raise PlatformError("the kernel sent a malformed netlink attribute")
        found.append((kind & _TYPE_MASK, data[_ATTRIBUTE.size : size]))
        data = data[_aligned(size) :]
    return tuple(found)


def _aligned(size: int) -> int:
    return (size + 3) & ~3

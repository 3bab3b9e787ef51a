# SPDX-License-Identifier: Apache-2.0
"""What is on the wire where one byte stream carries the boundary and NBD connections.

It exists for streams that carry no file descriptors. Channel 0 is the boundary; channels 1 to 64
are connections that the host opens. All numbers are big endian::

    each side, once   "SRMX" | version (4 bytes)
    then frames       kind (1) | channel (1) | zero (2) | size (4) | data (size bytes, DATA only)

    DATA    size bytes, 1 to 256 KiB, no more than the receiver's credit
    CREDIT  the receiver has passed size bytes on, and takes as many more
    OPEN    the host: this channel begins
    END     no more data from this side; the other direction goes on
    CLOSE   nothing more at all from this side, and nothing that still comes is wanted

The size of all others is 0. A side that receives CLOSE answers with its own; a number is free
again when both have crossed.
CLOSE without END before it is a reset. Credit begins with 512 KiB in each direction of each
channel, so that this is all that a side ever buffers of one channel.

Nothing here reads, writes or waits. Everything is checked as if the other side were hostile, and
what is out of order is a :class:`BoundaryError`.

Spec: ``spec/boundary.md``, "Streams without descriptors".
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from strongroom.errors import BoundaryError

PREFACE: Final = b"SRMX\x00\x00\x00\x01"
"""What each side sends first: the protocol and its version."""

MAX_CHANNELS: Final = 64
"""Connections at a time, as many as the NBD server takes from a listener."""

WINDOW_BYTES: Final = 512 * 1024
"""What may be on its way in one direction of one channel: some times what loopback delays."""

MAX_DATA_BYTES: Final = 256 * 1024
"""Largest DATA frame: large enough to be cheap, small enough that others need not wait long."""

_HEADER: Final = struct.Struct(">BBHI")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a frame means."""

    DATA = 0
    CREDIT = 1
    OPEN = 2
    END = 3
    CLOSE = 4


_KINDS: Final = frozenset(Kind)
_SIZED: Final = {Kind.DATA: MAX_DATA_BYTES, Kind.CREDIT: WINDOW_BYTES}
"""The kinds that have a size, and the largest one."""


class Header(NamedTuple):
    """The first 8 bytes of a frame, all of them for every kind but DATA."""

    kind: Kind
    channel: int
    size: int

    def encode(self) -> bytes:
        """Return it as it is on the wire."""
        return _HEADER.pack(self.kind, self.channel, 0, self.size)

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Return what 8 bytes mean.

        Raises:
            BoundaryError: An unknown kind or channel, or a size that the kind cannot have.
        """
        number, channel, zero, size = _HEADER.unpack(data)
        if number not in _KINDS or zero or channel > MAX_CHANNELS:
            raise BoundaryError("a multiplexed frame has an unknown form")
        kind = Kind(number)
        largest = _SIZED.get(kind, 0)
        if size > largest or (size == 0) != (largest == 0):
            raise BoundaryError(f"a {kind.name} frame claims {size} bytes")
        if channel == 0 and kind not in _SIZED:
            raise BoundaryError(f"a {kind.name} frame is about the boundary itself")
        return cls(kind, channel, size)


class FrameParser:
    """Finds frames in a stream that arrives in arbitrary pieces. Holds at most one header."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._preface_seen = False
        self._data: Header | None = None
        self._data_rest = 0

    def feed(self, received: memoryview) -> Iterator[tuple[Header, memoryview]]:
        """Yield each frame's header, and after a DATA header its bytes in pieces.

        A header comes once, with an empty view; pieces of data come with the same header. The
        views are valid until the next call.

        Raises:
            BoundaryError: The bytes are no frames of this version.
        """
        while received:
            if self._data is not None:
                piece, received = received[: self._data_rest], received[self._data_rest :]
                header = self._data
                self._data_rest -= len(piece)
                if self._data_rest == 0:
                    self._data = None
                yield header, piece
                continue
            missing = HEADER_BYTES - len(self._head)
            self._head += received[:missing]
            received = received[missing:]
            if len(self._head) == HEADER_BYTES:
                head = bytes(self._head)
                self._head.clear()
                yield from self._begin(head)

    def _begin(self, head: bytes) -> Iterator[tuple[Header, memoryview]]:
        if not self._preface_seen:
            if head != PREFACE:
                raise BoundaryError("the other side does not speak this multiplexing version")
            self._preface_seen = True
            return
        header = Header.decode(head)
        if header.kind is Kind.DATA:
            self._data, self._data_rest = header, header.size
        yield header, memoryview(b"")


class Flow:
    """One channel as the rules see it: what each side may still do.

    Attributes:
        sendable: Bytes that the other side still takes.
        receivable: Bytes that the other side may still send.
    """

    __slots__ = (
        "_consumed",
        "close_received",
        "close_sent",
        "end_received",
        "end_sent",
        "receivable",
        "sendable",
    )

    def __init__(self) -> None:
        self.sendable = self.receivable = WINDOW_BYTES
        self.end_sent = self.end_received = False
        self.close_sent = self.close_received = False
        self._consumed = 0

    @property
    def is_over(self) -> bool:
        """Whether both sides have closed it, so that its number is free."""
        return self.close_sent and self.close_received

    def receive(self, header: Header) -> None:
        """Note a frame that came.

        Raises:
            BoundaryError: The other side may not send it, or not now.
        """
        if self.close_received or (self.end_received and header.kind is Kind.DATA):
            raise BoundaryError(f"a {header.kind.name} frame came after the channel's end")
        match header.kind:
            case Kind.DATA:
                self.receivable -= header.size
            case Kind.CREDIT:
                self.sendable += header.size
            case Kind.CLOSE:
                self.close_received = True
            case Kind.END if not self.end_received:
                self.end_received = True
            case _:
                raise BoundaryError(f"a channel got {header.kind.name} twice")
        if self.receivable < 0:
            raise BoundaryError("a channel sent more than it had credit for")
        if self.sendable > WINDOW_BYTES:
            raise BoundaryError("a channel was given credit for what was never sent")

    def consume(self, count: int) -> None:
        """Note that ``count`` received bytes are no longer buffered."""
        self._consumed += count

    @property
    def credit_due(self) -> int:
        """What credit is to be sent now; 0 for none yet.

        A quarter of the window is collected first: small messages cost no frames of credit, and
        three quarters always stay in use.
        """
        return 0 if self._consumed < WINDOW_BYTES // 4 or self.close_sent else self._consumed

    def grant(self) -> int:
        """Return the credit that is due, and count it as sent."""
        count = self.credit_due
        self._consumed -= count
        self.receivable += count
        return count

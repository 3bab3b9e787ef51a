# SPDX-License-Identifier: Apache-2.0
"""A relay that lies about one message, and tidies the TPM up behind itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from strongroom.errors import TpmTransportError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.device import LOADED_SESSIONS
from strongroom.tpm.marshal import u16, u32
from tests.swtpm import Swtpm

if TYPE_CHECKING:
    import socket

Side = Literal["command", "response"]
SIDES: Final[tuple[Side, ...]] = ("command", "response")

_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Carried:
    """One command, and what came back for it."""

    command: bytes
    response: bytes

    @property
    def code(self) -> int:
        return int.from_bytes(self.command[6:10], "big")

    def side(self, side: Side) -> bytes:
        return self.command if side == "command" else self.response


class Lie(Protocol):
    """What a relay does to one exchange in the place of carrying it."""

    def __call__(self, liar: "Liar", command: bytes, /) -> bytes:
        """Return an answer, or raise what a relay raises."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A lie: one bit of the command or of the response is changed."""

    side: Side
    bit: int

    def __call__(self, liar: "Liar", command: bytes) -> bytes:
        if self.side == "command":
            return liar.raw(flipped(command, self.bit))
        answer = liar.raw(command)
        return flipped(answer, self.bit) if self.bit < 8 * len(answer) else answer


def flipped(message: bytes, bit: int) -> bytes:
    changed = bytearray(message)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


class Liar:
    """Carries commands to an swtpm without looking at them, but for the one that it lies about."""

    def __init__(self, tpm: Swtpm) -> None:
        self._tpm = tpm
        self._connection: socket.socket | None = None
        self._lie: tuple[int, Lie] | None = None
        self._is_armed = False
        self.carried: list[Carried] = []
        """All that was exchanged while the relay was armed, as its client saw it."""

    def arm(self, about: "tuple[int, Lie] | None") -> None:
        """Count messages from here on, and lie about one of them."""
        self._is_armed, self.carried, self._lie = True, [], about

    def disarm(self) -> None:
        self._is_armed = False

    def transmit(self, command: bytes) -> bytes:
        if not self._is_armed:
            return self.raw(command)
        if self._lie is not None and self._lie[0] == len(self.carried):
            # Its number is taken also if it raises.
            self.carried.append(Carried(command, b""))
            self.carried[-1] = Carried(command, self._lie[1](self, command))
        else:
            self.carried.append(Carried(command, self.raw(command)))
        return self.carried[-1].response

    def raw(self, command: bytes) -> bytes:
        """Carry any bytes, and return what comes back."""
        if self._connection is None:
            self._connection = self._tpm.connect()
            self._connection.settimeout(_SECONDS)
        try:
            self._connection.sendall(command)
            answer = self._connection.recv(4096)
        except OSError as err:
            self.close()
            raise TpmTransportError(f"swtpm does not answer: {err}") from err
        if not answer:
            self.close()
            raise TpmTransportError("swtpm hung up")
        return answer

    def tidy(self, *, but: int = 0) -> None:
        """Flush whatever is loaded, but for one session."""
        for kind in (LOADED_SESSIONS, 0x80000000):
            for handle in self._handles(kind):
                if handle == but:
                    continue
                body = u32(handle)
                self.raw(u16(0x8001) + u32(14) + u32(CommandCode.FLUSH_CONTEXT) + body)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _handles(self, first: int) -> list[int]:
        asked = u16(0x8001) + u32(22) + u32(CommandCode.GET_CAPABILITY)
        answer = self.raw(asked + u32(1) + u32(first) + u32(64))
        return [
            int.from_bytes(answer[place : place + 4], "big")
            for place in range(19, len(answer) - 3, 4)
        ]


@contextlib.contextmanager
def lying(tpm: Swtpm) -> Iterator[Liar]:
    liar = Liar(tpm)
    try:
        yield liar
    finally:
        liar.close()

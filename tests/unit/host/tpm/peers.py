# SPDX-License-Identifier: Apache-2.0
"""The other end of a TPM's socket, that does what a TPM would not."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import TpmTransportError
from strongroom.host.tpm import Relay
from strongroom.host.tpm.limits import TimeLimits
from tests.tpm_bridges import read, read_message

GET_RANDOM: Final = bytes.fromhex("8001 0000000c 0000017b 0010")
CREATE_PRIMARY: Final = bytes.fromhex("8001 0000000a 00000131")
LIMIT_SECONDS: Final = 0.2
SLACK_SECONDS: Final = 10.0
"""How late a bound may be noticed on a busy machine; who waits without one waits for longer."""
QUICK: Final = TimeLimits(slow_seconds=30, other_seconds=LIMIT_SECONDS, connect_seconds=30)
"""Quick to give up, but for :data:`CREATE_PRIMARY`, which is for what must be answered."""
_NOBODY: Final = 65534

Behaviour = Callable[["Peer", socket.socket], None]


def response(size: int = 10, *, fill: bytes = b"r") -> bytes:
    """Return a response of so many bytes."""
    return struct.pack(">HII", 0x8001, size, 0) + fill * (size - 10)


@dataclass
class Peer:
    """What a hostile peer was sent, and how often it was connected to."""

    address: str
    commands: list[bytes] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def received(self) -> list[bytes]:
        """Return what it was sent, once that is anything: its thread may be late."""
        end = time.monotonic() + 30
        while not self.commands and time.monotonic() < end:
            time.sleep(0.001)
        return self.commands

    def read_command(self, connected: socket.socket) -> bytes:
        """Read a bare command and remember it."""
        command = read_message(connected)
        self.commands.append(command)
        return command


@contextlib.contextmanager
def peer(behave: Behaviour, *, path: Path | None = None) -> Iterator[Peer]:
    """Serve connections on a UNIX socket, or TCP, one after the other, each with ``behave``."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        found = Peer(f"swtpm:host=127.0.0.1,port={listener.getsockname()[1]}")
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        found = Peer(f"swtpm:path={path}")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = listener.accept()
                found.connections += 1
                with connected, contextlib.suppress(OSError, EOFError):
                    connected.settimeout(30)
                    behave(found, connected)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield found
    finally:
        found.over.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def doomed(message: str) -> bytes:
    """Return a command that is to fail with this: only who misses the limit has a short one."""
    return GET_RANDOM if message.startswith("within") else CREATE_PRIMARY


def refused(relay: Relay, command: bytes = GET_RANDOM) -> TpmTransportError:
    """Return the error of a command that must fail, and in time."""
    start = time.monotonic()
    with pytest.raises(TpmTransportError) as caught:
        relay.transmit(command)
    assert time.monotonic() - start < LIMIT_SECONDS + SLACK_SECONDS
    return caught.value


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Be somebody whom files can be closed to, in all threads."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# --- behaviours -----------------------------------------------------------------------------------


def answers(*parts: bytes) -> Behaviour:
    """Answer every command with this."""

    def behave(it: Peer, connected: socket.socket) -> None:
        while True:
            it.read_command(connected)
            for part in parts:
                connected.sendall(part)

    return behave


def answers_and_ends(data: bytes) -> Behaviour:
    """Answer one command with this, and end the connection."""

    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        connected.sendall(data)

    return behave


def never_answers(it: Peer, connected: socket.socket) -> None:
    """Take a command and say nothing until the test is over."""
    it.read_command(connected)
    it.over.wait(60)


def drips(it: Peer, connected: socket.socket) -> None:
    """Answer with the longest response, one byte at a time, each well before the limit."""
    it.read_command(connected)
    for byte in response(4096):
        connected.sendall(bytes([byte]))
        if it.over.wait(LIMIT_SECONDS / 10):
            return


def resets(it: Peer, connected: socket.socket) -> None:
    """Take a command and reset the connection."""
    it.read_command(connected)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_number(connected: socket.socket) -> int:
    """Read an integer of the simulator's protocol."""
    return int.from_bytes(read(connected, 4))

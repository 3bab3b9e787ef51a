# SPDX-License-Identifier: Apache-2.0
"""The TCP transport takes its own enclave, whoever else connects first."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.stream import receive_frame, send_frame
from strongroom.boundary.token import TOKEN_BYTES
from strongroom.errors import EnclaveGoneError
from strongroom.host import transport
from strongroom.host.transport import Connected, TcpLink

pytestmark = pytest.mark.unit


@pytest.fixture
def link() -> Iterator[TcpLink]:
    made = TcpLink()
    yield made
    made.close()


@contextlib.contextmanager
def stranger(link: TcpLink, says: bytes) -> Iterator[socket.socket]:
    port = int(link.address.removeprefix("tcp:"))
    with socket.create_connection(("127.0.0.1", port), 20) as connected:
        connected.sendall(says)
        yield connected


def enclave(link: TcpLink, token: bytes) -> Multiplexer:
    with stranger(link, token) as connected:
        descriptor = connected.detach()
    return Multiplexer(descriptor, descriptor, pairs=socket.socketpair)


def connect(link: TcpLink) -> tuple[threading.Thread, list[Connected]]:
    connected: list[Connected] = []
    thread = threading.Thread(target=lambda: connected.append(link.connect()))
    thread.start()
    return thread, connected


def test_only_the_one_with_the_token_is_taken(link: TcpLink) -> None:
    token = os.read(link.stdin, 100)
    assert len(token) == TOKEN_BYTES
    wrong = bytes([*token[:-1], token[-1] ^ 1])
    with (
        stranger(link, b"") as silent,
        stranger(link, token[:-1]) as short,
        stranger(link, wrong) as guesser,
        stranger(link, token[1:] + token[:1]) as other,
    ):
        thread, connected = connect(link)
        assert guesser.recv(1) == b""
        assert other.recv(1) == b""
        # These may still say the right thing, so they wait, and hold nobody up.
        ours = enclave(link, token)
        ours.start()
        thread.join(20)
        ended = threading.Thread(target=send_frame, args=(ours.boundary, b"hello", []))
        ended.start()
        assert receive_frame(connected[0].stream) == (b"hello", [])
        ended.join()
        assert silent.recv(1) == b""
        assert short.recv(1) == b""
        ours.close()
        connected[0].stream.close()


def test_a_stranger_learns_nothing_from_how_it_is_refused(link: TcpLink) -> None:
    token = os.read(link.stdin, TOKEN_BYTES)
    with stranger(link, b"") as guesser:
        thread, connected = connect(link)
        # A wrong first byte is not told from a right one before all are there.
        guesser.sendall(bytes([token[0] ^ 1]))
        guesser.settimeout(0.2)
        with pytest.raises(TimeoutError):
            guesser.recv(1)
        guesser.settimeout(20)
        guesser.sendall(token[1:])
        assert guesser.recv(1) == b""
        ours = enclave(link, token)
        thread.join(20)
        ours.close()
        connected[0].stream.close()


def test_nobody_with_the_token_is_an_enclave_that_is_gone(
    link: TcpLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_CONNECT_SECONDS", 0.2)
    with stranger(link, bytes(TOKEN_BYTES)), pytest.raises(EnclaveGoneError):
        link.connect()

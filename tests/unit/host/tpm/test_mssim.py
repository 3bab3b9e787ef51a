# SPDX-License-Identifier: Apache-2.0
"""The simulator's framing: what it is sent, and what a broken one does."""

import socket
import struct
import threading
from typing import Self

import pytest

from strongroom.host.tpm import Relay, parse_address
from strongroom.host.tpm.limits import Deadline
from strongroom.host.tpm.mssim import MssimTransport
from tests.tpm_bridges import read
from tests.unit.host.tpm.peers import (
    CREATE_PRIMARY,
    QUICK,
    Behaviour,
    Peer,
    doomed,
    read_number,
    refused,
    response,
)

pytestmark = pytest.mark.unit


def simulator(commands: Behaviour, refuses: bytes = bytes(4)) -> "Simulator":
    return Simulator(commands, refuses)


class Simulator:
    """Two neighbouring ports, one after the other in one thread each."""

    def __init__(self, commands: Behaviour, platform_answer: bytes) -> None:
        self.signals: list[int] = []
        self.peer = Peer("")
        self._commands = commands
        self._platform_answer = platform_answer

    def __enter__(self) -> Self:
        while True:
            first = socket.create_server(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second = socket.create_server(("127.0.0.1", port + 1))
            except OSError:
                first.close()
                continue
            break
        self.address = f"mssim:port={port}"
        self._listeners = (first, second)
        self._threads = [
            threading.Thread(target=self._serve, args=(first, self._on_commands)),
            threading.Thread(target=self._serve, args=(second, self._on_platform)),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.over.set()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(60)

    def _on_commands(self, connected: socket.socket) -> None:
        self.peer.connections += 1
        self._commands(self.peer, connected)

    def _on_platform(self, connected: socket.socket) -> None:
        while True:
            self.signals.append(read_number(connected))
            if self.signals[-1] == 20:
                return
            connected.sendall(self._platform_answer)

    def _serve(self, listener: socket.socket, serve: object) -> None:
        assert callable(serve)
        try:
            while True:
                connected, _ = listener.accept()
                with connected:
                    connected.settimeout(30)
                    try:
                        serve(connected)
                    except (OSError, EOFError):
                        continue
        except OSError:
            return


def simulated(*parts: bytes) -> Behaviour:
    """Read framed commands and answer each with this."""

    def behave(it: Peer, connected: socket.socket) -> None:
        while read_number(connected) == 8:
            assert read(connected, 1) == b"\0", "locality 0"
            it.commands.append(read(connected, read_number(connected)))
            for part in parts:
                connected.sendall(part)
            if not parts or not parts[-1]:
                return

    return behave


def framed(body: bytes, *, size: int | None = None, status: int = 0) -> bytes:
    return struct.pack(">I", len(body) if size is None else size) + body + struct.pack(">I", status)


def test_the_simulator_is_turned_on_and_left_politely() -> None:
    with simulator(simulated(framed(response(20)))) as it:
        with Relay(parse_address(it.address), limits=QUICK) as relay:
            for _ in range(2):
                assert relay.transmit(CREATE_PRIMARY) == response(20)
        assert it.peer.commands == [CREATE_PRIMARY, CREATE_PRIMARY], "and no startup"
        assert it.signals[:2] == [1, 11], "power, then NV"
        assert it.peer.connections == 1


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (simulated(framed(response(20), size=4097)), "4097 bytes"),
        (simulated(framed(response(20), size=0xFFFFFFFF)), "4294967295 bytes"),
        (simulated(framed(response(20), size=9)), "9 bytes"),
        (simulated(framed(response(20), size=21)), "within 0.2 seconds"),
        (simulated(framed(response(20), status=1)), "ended its answer with 1"),
        (simulated(framed(response(20))[:-4]), "within 0.2 seconds"),
        (simulated(framed(response(20))[:-1], b""), "ended before"),
        (simulated(framed(response(20))[:10], b""), "ended before"),
        (simulated(), "ended before"),
        (simulated(b"\0"), "within 0.2 seconds"),
    ],
)
def test_a_broken_frame_is_an_error_in_time(behave: Behaviour, message: str) -> None:
    with simulator(behave) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        command = doomed(message)
        assert message in refused(relay, command).message
        assert it.peer.received() == [command]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(struct.pack(">I", 1), "refused platform signal 1"), (b"", "within 0.2 seconds")],
)
def test_a_platform_that_refuses_or_hangs_is_an_error(answer: bytes, message: str) -> None:
    with simulator(simulated(framed(response(20))), answer) as it:
        relay = Relay(parse_address(it.address), limits=QUICK)
        assert message in refused(relay, doomed(message)).message
        assert not it.peer.commands


def test_a_simulator_that_does_not_read_delays_no_close() -> None:
    with simulator(never_reads) as it:
        transport = MssimTransport("127.0.0.1", int(it.address.rpartition("=")[2]), Deadline(30))
        transport.close()
        transport.close()


def never_reads(it: Peer, _connected: socket.socket) -> None:
    it.over.wait(60)

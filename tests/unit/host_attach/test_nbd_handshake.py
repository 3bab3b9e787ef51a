# SPDX-License-Identifier: Apache-2.0
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from strongroom.errors import BoundaryError
from strongroom.host.attach.nbd_handshake import Export, negotiate

pytestmark = pytest.mark.unit

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
CLIENT_BYTES = 4 + 16 + 4 + 4 + 2 + 2
EXPORT = struct.pack(">HQH", 0, 1 << 20, 0x107)
BLOCKS = struct.pack(">HIII", 3, 512, 4096, 1 << 25)


def reply(
    kind: int, data: bytes = b"", *, magic: int = 0x0003E889045565A9, option: int = 7
) -> bytes:
    return struct.pack(">QIII", magic, option, kind, len(data)) + data


ACK = reply(1)


class Server:
    """The other end of a socket pair, whose words are fixed beforehand."""

    def __init__(self) -> None:
        self.client, self.server = socket.socketpair()
        self.heard = b""

    def negotiate(self, *said: bytes) -> Export:
        def serve() -> None:
            # The client hangs up in the middle of what it refuses.
            with suppress(OSError):
                self.server.sendall(b"".join(said))
                self.server.shutdown(socket.SHUT_WR)
                while part := self.server.recv(4096):
                    self.heard += part

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return negotiate(self.client)
        finally:
            self.client.close()
            thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.client.close()
    made.server.close()


def test_the_export_is_read_and_the_request_is_as_the_protocol_says(server: Server) -> None:
    export = server.negotiate(GREETING, reply(3, EXPORT), reply(3, BLOCKS), ACK)
    assert export == Export(size_bytes=1 << 20, flags=0x107, minimum_block_bytes=512)
    assert server.heard == (
        struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 8) + struct.pack(">IHH", 0, 1, 3)
    )


def test_an_unknown_information_is_passed_over(server: Server) -> None:
    name = struct.pack(">H", 1) + b"export"
    assert server.negotiate(GREETING, reply(3, name), reply(3, EXPORT), ACK).flags == 0x107


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([b"NBDMAGIC" + b"\0" * 10], id="oldstyle"),
        pytest.param([b"NBDMAGICIHAVEOPT" + b"\0\0"], id="not fixed newstyle"),
        pytest.param([GREETING[:5]], id="hangs up in the greeting"),
        pytest.param([GREETING], id="hangs up after the greeting"),
        pytest.param([GREETING, ACK], id="no export"),
        pytest.param([GREETING, reply(3, EXPORT), reply(1, b"x")], id="data with the end"),
        pytest.param([GREETING, reply(3, EXPORT[:-1]), ACK], id="short export"),
        pytest.param([GREETING, reply(3, EXPORT + b"x"), ACK], id="long export"),
        pytest.param([GREETING, reply(3, b"\0"), ACK], id="no information type"),
        pytest.param([GREETING, reply(2, EXPORT), ACK], id="unexpected kind"),
        pytest.param([GREETING, reply(0x80000006, b"unknown")], id="refused"),
        pytest.param([GREETING, reply(3, EXPORT, magic=1), ACK], id="wrong magic"),
        pytest.param([GREETING, reply(3, EXPORT, option=6), ACK], id="wrong option"),
        pytest.param(
            [GREETING, struct.pack(">QIII", 0x0003E889045565A9, 7, 3, 1 << 31)], id="huge"
        ),
        pytest.param([GREETING, *[reply(3, EXPORT)] * 40], id="never ends"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_refused(server: Server, said: list[bytes]) -> None:
    with pytest.raises(BoundaryError):
        server.negotiate(*said)


def test_a_silent_server_does_not_hang_the_client(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.host.attach.nbd_handshake._TIMEOUT_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        negotiate(server.client)

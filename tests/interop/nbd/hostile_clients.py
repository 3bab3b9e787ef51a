# SPDX-License-Identifier: Apache-2.0
"""Clients that break the protocol; each function takes the path of a UNIX socket.

After each of them the server must still answer others; :func:`check_alive` tells. They expect to be
cut off, or answered with an error, in a bounded time.
"""

import contextlib
import random
import socket
import struct
from collections.abc import Callable

Client = Callable[[str], None]
TIMEOUT_SECONDS = 30
OPTION_MAGIC = b"IHAVEOPT"
REQUEST_MAGIC = 0x25609513
FIXED_NO_ZEROES = struct.pack(">I", 3)
OPT_EXPORT_NAME, OPT_LIST, OPT_GO = 1, 3, 7
CMD_READ, CMD_WRITE, CMD_FLUSH = 0, 1, 3


def connect(path: str) -> socket.socket:
    """Connect and read the greeting."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT_SECONDS)
    client.connect(path)
    assert receive(client, 18)[:16] == b"NBDMAGICIHAVEOPT"
    return client


def receive(client: socket.socket, length: int) -> bytes:
    """Receive exactly ``length`` bytes."""
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise ConnectionError(f"cut off after {len(data)} of {length} bytes")
        data += piece
    return data


def transmission(path: str) -> socket.socket:
    """Connect and enter transmission with simple replies."""
    client = connect(path)
    client.sendall(FIXED_NO_ZEROES + option(OPT_EXPORT_NAME, b""))
    receive(client, 10)
    return client


def option(number: int, data: bytes, *, length: int | None = None) -> bytes:
    """Return an option, with a lie about its length if one is given."""
    size = len(data) if length is None else length
    return OPTION_MAGIC + struct.pack(">II", number, size) + data


def request(command: int, offset: int, length: int, *, flags: int = 0, cookie: int = 1) -> bytes:
    """Return the head of a request."""
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset, length)


def expect_cut_off(client: socket.socket) -> None:
    """Require that the server closes the connection."""
    with client, contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass


def check_alive(path: str) -> None:
    """Read the first sector over a new connection."""
    with transmission(path) as client:
        client.sendall(request(CMD_READ, 0, 512))
        assert receive(client, 16)[4:8] == bytes(4)
        receive(client, 512)


def noise(path: str) -> None:
    """Random bytes instead of a handshake, and instead of requests."""
    rng = random.Random(3)
    for start in (connect, transmission):
        for _ in range(20):
            client = start(path)
            with contextlib.suppress(OSError):
                client.sendall(rng.randbytes(rng.choice((28, 200, 70_000))))
                client.shutdown(socket.SHUT_WR)
            expect_cut_off(client)


def unknown_client_flags(path: str) -> None:
    """Handshake flags that were never offered."""
    client = connect(path)
    client.sendall(struct.pack(">I", 0x80000003))
    expect_cut_off(client)


def huge_option(path: str) -> None:
    """An option that says it is 4 GiB long."""
    client = connect(path)
    client.sendall(FIXED_NO_ZEROES + option(OPT_GO, b"", length=2**32 - 1))
    expect_cut_off(client)


def endless_options(path: str) -> None:
    """Options without end."""
    client = connect(path)
    with contextlib.suppress(ConnectionError):
        client.sendall(FIXED_NO_ZEROES + option(99, b"") * 100_000)
    expect_cut_off(client)


def other_name(path: str) -> None:
    """An export that does not exist, asked for in the way that knows no error."""
    client = connect(path)
    client.sendall(FIXED_NO_ZEROES + option(OPT_EXPORT_NAME, b"no such export"))
    expect_cut_off(client)


def endless_write(path: str) -> None:
    """A write of 4 GiB: nobody waits for its payload."""
    client = transmission(path)
    client.sendall(request(CMD_WRITE, 0, 2**32 - 1) + bytes(4096))
    expect_cut_off(client)


def oversized_write(path: str) -> None:
    """A write just above the limit is refused, and the stream stays in step."""
    length = 33 * 1024 * 1024
    with transmission(path) as client:
        client.sendall(request(CMD_WRITE, 0, length) + bytes(length))
        assert receive(client, 16)[4:8] == struct.pack(">I", 22)
        client.sendall(request(CMD_FLUSH, 0, 0))
        assert receive(client, 16)[4:8] == bytes(4)


def left_in_the_middle(path: str) -> None:
    """Clients that vanish after a part of a request, or without reading their answers."""
    for sent in (
        request(CMD_WRITE, 0, 4096)[:20],
        request(CMD_WRITE, 0, 4096) + bytes(4095),
        request(CMD_WRITE, 0, 1 << 24) + bytes(1 << 20),
        request(CMD_READ, 0, 1 << 24) * 8,
        request(CMD_READ, 0, 4096) * 5000,
    ):
        client = transmission(path)
        client.sendall(sent)
        client.close()


CLIENTS: tuple[Client, ...] = (
    noise,
    unknown_client_flags,
    huge_option,
    endless_options,
    other_name,
    endless_write,
    oversized_write,
    left_in_the_middle,
)

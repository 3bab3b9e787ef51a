# SPDX-License-Identifier: Apache-2.0
"""The core's volume and its NBD connection, without any process around them."""

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom._core import Secret, Volume, read_secret_file, serve_nbd_connection
from strongroom.errors import BoundsError, StrongroomError, UnsupportedCipherError
from tests.interop.nbd import offline
from tests.interop.nbd.hostile_clients import (
    CMD_FLUSH,
    CMD_READ,
    CMD_WRITE,
    FIXED_NO_ZEROES,
    OPT_EXPORT_NAME,
    option,
    receive,
    request,
)

pytestmark = pytest.mark.interop

KEY: Final = bytes(range(1, 65))
NAME: Final = "core"
SEGMENT_OFFSET: Final = 8192
SIZE: Final = 256 * 1024
JOIN_SECONDS: Final = 10
EPERM: Final = 1


def secret(value: bytes) -> Secret:
    """Let the core read bytes from a pipe."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as file:
        file.write(value)
        file.close()
        return read_secret_file(reader)


def volume(
    image: Path,
    *,
    sector: int = 4096,
    read_only: bool = False,
    discard: bool = False,
    cipher: str = "aes-xts-plain64",
    offset: int = SEGMENT_OFFSET,
    size: int = SIZE,
) -> Volume:
    """Open the segment of an image, which is made if it is not there."""
    if not image.exists():
        image.write_bytes(random.Random(1).randbytes(SEGMENT_OFFSET + SIZE))
    with image.open("rb" if read_only else "r+b") as file:
        return Volume(
            file.fileno(),
            secret(KEY),
            cipher=cipher,
            segment_offset_bytes=offset,
            segment_size_bytes=size,
            sector_size_bytes=sector,
            iv_tweak=0,
            read_only=read_only,
            discard=discard,
        )


@dataclass(frozen=True, slots=True)
class Client:
    """The other end of a connection, in transmission with simple replies."""

    connection: socket.socket

    def call(self, command: int, offset: int, length: int, payload: bytes = b"") -> bytes | int:
        """Return what was read, or the error number."""
        self.connection.sendall(request(command, offset, length) + payload)
        number = struct.unpack(">I", receive(self.connection, 16)[4:8])[0]
        if number:
            return int(number)
        return receive(self.connection, length) if command == CMD_READ else b""


@contextlib.contextmanager
def served(opened: Volume, name: str = NAME) -> Iterator[Client]:
    """Serve a volume on one end of a socket pair, and require that the thread ends."""
    ours, theirs = socket.socketpair()
    ours.settimeout(JOIN_SECONDS)
    thread = threading.Thread(
        target=serve_nbd_connection,
        args=(opened, theirs.fileno()),
        kwargs={"export_name": NAME, "structured_replies": False},
        daemon=True,
    )
    thread.start()
    try:
        with ours:
            assert receive(ours, 18)[:16] == b"NBDMAGICIHAVEOPT"
            ours.sendall(FIXED_NO_ZEROES + option(OPT_EXPORT_NAME, name.encode()))
            assert struct.unpack(">Q", receive(ours, 10)[:8])[0] == SIZE
            yield Client(ours)
    finally:
        thread.join(JOIN_SECONDS)
        theirs.close()
        assert not thread.is_alive()


@pytest.mark.parametrize("sector", [512, 1024, 2048, 4096])
def test_written_bytes_are_aes_xts(tmp_path: Path, sector: int) -> None:
    image = tmp_path / "image"
    opened = volume(image, sector=sector)
    data = random.Random(sector).randbytes(SIZE)
    untouched = image.read_bytes()[:SEGMENT_OFFSET]
    with served(opened) as client:
        assert client.call(CMD_WRITE, 0, SIZE, data) == b""
        assert client.call(CMD_READ, 777, 10_000) == data[777:10_777]
        assert client.call(CMD_FLUSH, 0, 0) == b""
    assert opened.read(1, SIZE - 1) == data[1:]
    opened.close()
    stored = image.read_bytes()
    assert stored[:SEGMENT_OFFSET] == untouched
    assert offline.decrypt(KEY, stored[SEGMENT_OFFSET:], sector_bytes=sector) == data


def test_counters_tell_what_was_done(tmp_path: Path) -> None:
    opened = volume(tmp_path / "image")
    with served(opened) as client:
        client.call(CMD_WRITE, 0, 4096, bytes(4096))
        client.call(CMD_READ, 0, 8192)
        client.call(CMD_FLUSH, 0, 0)
        assert opened.counters()["connections"] == 1
    counters = opened.counters()
    assert counters["connections"] == 0
    assert (counters["reads"], counters["writes"], counters["flushes"]) == (1, 1, 1)
    assert (counters["read_bytes"], counters["written_bytes"]) == (8192, 4096)
    assert counters["errors"] == 0


def test_two_connections_see_each_other(tmp_path: Path) -> None:
    opened = volume(tmp_path / "image")
    with served(opened) as one, served(opened) as other:
        for turn in range(20):
            writer, reader = (one, other) if turn % 2 else (other, one)
            data = bytes([turn]) * 1000
            writer.call(CMD_WRITE, 100 * turn, 1000, data)
            assert reader.call(CMD_READ, 100 * turn, 1000) == data


def test_read_only_volume_refuses_a_write(tmp_path: Path) -> None:
    image = tmp_path / "image"
    volume(image).close()
    before = image.read_bytes()
    opened = volume(image, read_only=True)
    with served(opened) as client:
        assert client.call(CMD_WRITE, 0, 512, bytes(512)) == EPERM
    assert image.read_bytes() == before


def test_another_name_is_cut_off(tmp_path: Path) -> None:
    opened = volume(tmp_path / "image")
    with pytest.raises(ConnectionError), served(opened, "another"):
        pass


def test_closed_volume_gives_nothing(tmp_path: Path) -> None:
    opened = volume(tmp_path / "image")
    opened.close()
    opened.close()
    with pytest.raises(StrongroomError):
        opened.read(0, 512)


def test_refused_reads(tmp_path: Path) -> None:
    opened = volume(tmp_path / "image")
    for offset, length in ((SIZE, 1), (SIZE - 1, 2), (0, 1024 * 1024 + 1), (2**64 - 1, 1)):
        with pytest.raises(BoundsError):
            opened.read(offset, length)


@pytest.mark.parametrize(
    ("offset", "size", "sector"),
    [
        (SEGMENT_OFFSET + 1, SIZE - 512, 512),
        (SEGMENT_OFFSET, SIZE - 1, 512),
        (SEGMENT_OFFSET, SIZE - 512, 4096),
        (SEGMENT_OFFSET, 0, 4096),
        (2**63, SIZE, 4096),
        (SEGMENT_OFFSET, 2**63, 4096),
    ],
)
def test_refused_geometry(tmp_path: Path, offset: int, size: int, sector: int) -> None:
    with pytest.raises(BoundsError):
        volume(tmp_path / "image", offset=offset, size=size, sector=sector)


@pytest.mark.parametrize("cipher", ["aes-cbc-essiv:sha256", "cipher_null-ecb", "aes-xts-plain", ""])
def test_refused_ciphers(tmp_path: Path, cipher: str) -> None:
    with pytest.raises(UnsupportedCipherError):
        volume(tmp_path / "image", cipher=cipher)

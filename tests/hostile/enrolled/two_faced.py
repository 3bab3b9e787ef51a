# SPDX-License-Identifier: Apache-2.0
"""A disk that is one thing when it is read first, and another when it is read again.

In this process it stands behind ``os.pread``; for other processes behind a file of nbdfuse, for
which this speaks as much of the NBD protocol as libnbd asks for.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pytest

OPTION_GO: Final = 7
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = range(4)
HAS_FLAGS_AND_FLUSH: Final = 1 | 4


class TwoFacedDisk:
    """A disk, and who read what of it.

    Attributes:
        present: What is on it: the first answer to every read.
    """

    def __init__(self, first: bytes, again: bytes) -> None:
        assert len(first) == len(again)
        self.present = bytearray(first)
        self._again: bytes | bytearray = again
        self._seen = bytearray(len(first))
        self.reads = 0
        self.second_reads: list[int] = []

    def read(self, offset: int, length: int) -> bytes:
        """Answer a read: with the truth, or with the other face if any of it was read before."""
        self.reads += 1
        seen = self._seen[offset : offset + length]
        face: bytes | bytearray = self.present
        if any(seen):
            self.second_reads.append(offset)
            face = self._again
        self._seen[offset : offset + length] = b"\1" * len(seen)
        return bytes(face[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Store what is written. To read that back is a second read all the same."""
        self.present[offset : offset + len(data)] = data

    def read_as_written(self) -> None:
        """Answer every read with the truth from now on."""
        self._again = self.present

    def bytes_read(self) -> int:
        """Return how many bytes were read, once or more often."""
        return sum(self._seen)

    def forget(self) -> None:
        """Let another life begin."""
        self._seen = bytearray(len(self.present))
        self.second_reads = []
        self.reads = 0


@contextlib.contextmanager
def behind_pread(disk: TwoFacedDisk) -> Iterator[int]:
    """A descriptor that this process reads and writes the disk through."""
    descriptor = os.memfd_create("two-faced")
    os.ftruncate(descriptor, len(disk.present))
    inode = os.fstat(descriptor).st_ino
    pread, pwrite = os.pread, os.pwrite

    def two_faced_pread(fd: int, length: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino != inode:
            return pread(fd, length, offset)
        return disk.read(offset, length)

    def two_faced_pwrite(fd: int, data: bytes, offset: int) -> int:
        if os.fstat(fd).st_ino != inode:
            return pwrite(fd, data, offset)
        disk.write(offset, bytes(data))
        return len(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", two_faced_pread)
        patch.setattr(os, "pwrite", two_faced_pwrite)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def mounted(disk: TwoFacedDisk, place: Path) -> Iterator[Path]:
    """A file that other processes read and write the disk through."""
    place.mkdir()
    path = place / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=_serve, args=(disk, listener), daemon=True)
        server.start()
        directory = place / "mount"
        directory.mkdir()
        process = subprocess.Popen(
            ["nbdfuse", str(directory / "image"), "--unix", str(path)],
            stdin=subprocess.DEVNULL,
        )
        try:
            _wait_for(directory / "image", process)
            yield directory / "image"
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(directory)], check=False, timeout=30)
            process.wait(30)
            server.join(30)
    shutil.rmtree(place)


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if path.exists():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    pytest.fail("nbdfuse did not mount the disk")


def _serve(disk: TwoFacedDisk, listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client, client.makefile("rb") as incoming, contextlib.suppress(OSError):
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        incoming.read(4)
        _negotiate(client, incoming, len(disk.present))
        while head := incoming.read(28):
            _, _, command, cookie, offset, length = struct.unpack(">IHHQQI", head)
            if command == DISCONNECT:
                return
            answer = b""
            if command == READ:
                answer = disk.read(offset, length)
            elif command == WRITE:
                disk.write(offset, incoming.read(length))
            client.sendall(struct.pack(">IIQ", 0x67446698, 0, cookie) + answer)


def _negotiate(client: socket.socket, incoming: BinaryIO, size_bytes: int) -> None:
    while True:
        _, option, length = struct.unpack(">8sII", incoming.read(16))
        incoming.read(length)
        replies = [(REPLY_UNSUPPORTED, b"")]
        if option == OPTION_GO:
            export = struct.pack(">HQH", 0, size_bytes, HAS_FLAGS_AND_FLUSH)
            replies = [(REPLY_INFO, export), (REPLY_ACK, b"")]
        for kind, data in replies:
            client.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)
        if option == OPTION_GO:
            return

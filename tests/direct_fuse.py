# SPDX-License-Identifier: Apache-2.0
"""A file system in memory whose files go past the page cache, as sshfs or 9p can be mounted.

The kernel then moves bytes between the program's own pages and the server, and has to pin them.
``python direct_fuse.py MOUNT_POINT`` serves until it is unmounted.

Spec: linux/fuse.h, protocol 7.31.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IN = struct.Struct("=IIQQIIII")
OUT = struct.Struct("=IiQ")
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
DIRECT_IO = 1
ROOT = 1
MAX_WRITE = 65536


@dataclass
class Node:
    """A file or directory; the kernel never forgets one here."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[bytes, int] = field(default_factory=dict)
    links: int = 1


class Server:
    """Answers the kernel's requests from a tree of nodes."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o755)}
        self.answers: dict[int, Callable[[Node, bytes], bytes]] = {
            1: lambda node, body: self.entry(self.child(node, body[:-1])),
            3: lambda node, _: struct.pack("=QII", 0, 0, 0) + self.attributes(node),
            4: self.set_attributes,
            9: lambda node, body: self.make(node, body[8:-1], stat.S_IFDIR | self.first(body)),
            10: lambda node, body: self.unlink(node, body[:-1]),
            12: lambda node, body: self.rename(node, body[8:], self.first64(body)),
            13: lambda node, body: self.link(node, body[8:-1], self.first64(body)),
            14: lambda *_: self.opened(),
            15: self.read,
            16: self.write,
            18: lambda *_: b"",
            20: lambda *_: b"",
            25: lambda *_: b"",
            27: lambda *_: struct.pack("=QII", 0, 0, 0),
            29: lambda *_: b"",
            30: lambda *_: b"",
            35: self.create,
            45: lambda node, body: self.rename(node, body[16:], self.first64(body)),
        }

    def run(self) -> None:
        """Serve until the file system is unmounted."""
        while True:
            try:
                request = os.read(self.device, MAX_WRITE + 4096)
            except OSError as err:
                if err.errno in {errno.ENOENT, errno.EINTR}:
                    continue
                return
            _, opcode, unique, number, *_ = IN.unpack_from(request)
            body = request[IN.size :]
            if opcode in {2, 42}:
                continue
            try:
                answer, code = self.answer(opcode, number, body), 0
            except OSError as err:
                answer, code = b"", -(err.errno or errno.EIO)
            os.write(self.device, OUT.pack(OUT.size + len(answer), code, unique) + answer)

    def answer(self, opcode: int, number: int, body: bytes) -> bytes:
        """Return what goes back, without its header."""
        if opcode == 26:
            return struct.pack(
                "=IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 10, MAX_WRITE, 1, 16, 0, *[0] * 8
            )
        if opcode not in self.answers:
            raise OSError(errno.ENOSYS, "no such call")
        return self.answers[opcode](self.nodes[number], body)

    @staticmethod
    def first(body: bytes) -> int:
        return int(struct.unpack_from("=I", body)[0])

    @staticmethod
    def first64(body: bytes) -> int:
        return int(struct.unpack_from("=Q", body)[0])

    @staticmethod
    def opened() -> bytes:
        return struct.pack("=QII", 0, DIRECT_IO, 0)

    def child(self, node: Node, name: bytes) -> Node:
        if name not in node.children:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        return self.nodes[node.children[name]]

    @staticmethod
    def attributes(node: Node) -> bytes:
        size = len(node.data)
        rest = (0, 0, 0, node.mode, node.links, 0, 0, 0, 4096, 0)
        return ATTR.pack(node.number, size, (size + 511) // 512, 0, 0, 0, *rest)

    def entry(self, node: Node) -> bytes:
        return struct.pack("=QQQQII", node.number, 0, 0, 0, 0, 0) + self.attributes(node)

    def add(self, node: Node, name: bytes, mode: int) -> Node:
        if name in node.children:
            raise FileExistsError(errno.EEXIST, "exists")
        number = max(self.nodes) + 1
        self.nodes[number] = Node(number, mode)
        node.children[name] = number
        return self.nodes[number]

    def make(self, node: Node, name: bytes, mode: int) -> bytes:
        return self.entry(self.add(node, name, mode))

    def create(self, node: Node, body: bytes) -> bytes:
        mode = struct.unpack_from("=II", body)[1]
        return self.entry(self.add(node, body[16:-1], mode)) + self.opened()

    def unlink(self, node: Node, name: bytes) -> bytes:
        self.child(node, name).links -= 1
        del node.children[name]
        return b""

    def rename(self, node: Node, names: bytes, into: int) -> bytes:
        old, new = names[:-1].split(b"\0")
        self.nodes[into].children[new] = self.child(node, old).number
        del node.children[old]
        return b""

    def link(self, node: Node, name: bytes, old: int) -> bytes:
        if name in node.children:
            raise FileExistsError(errno.EEXIST, "exists")
        self.nodes[old].links += 1
        node.children[name] = old
        return self.entry(self.nodes[old])

    def set_attributes(self, node: Node, body: bytes) -> bytes:
        valid, _, _, size = struct.unpack_from("=IIQQ", body)
        mode = struct.unpack_from("=I", body, 68)[0]
        if valid & 1:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & 8:
            node.data = node.data[:size].ljust(size, b"\0")
        return struct.pack("=QII", 0, 0, 0) + self.attributes(node)

    @staticmethod
    def read(node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        return bytes(node.data[offset : offset + size])

    @staticmethod
    def write(node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        node.data = node.data.ljust(offset, b"\0")
        node.data[offset : offset + size] = body[40 : 40 + size]
        return struct.pack("=II", size, 0)


def main(mount_point: str) -> None:
    """Mount the file system, say so on standard output, and serve it."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"direct", mount_point.encode(), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount")
    print("mounted", flush=True)
    Server(device).run()


if __name__ == "__main__":
    main(sys.argv[1])

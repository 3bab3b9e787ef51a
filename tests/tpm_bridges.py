# SPDX-License-Identifier: Apache-2.0
"""Ports in front of a real TPM: one for several programs at once, one that speaks as a simulator.

Each hands whole commands on to one swtpm, one at a time, and understands nothing of them.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

_HEADER_BYTES: Final = 10
_SECONDS: Final = 60.0


class _Upstream:
    """The one connection to an swtpm's UNIX socket."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def exchange(self, command: bytes) -> bytes:
        with self._lock:
            self._socket.sendall(command)
            return read_message(self._socket)

    def close(self) -> None:
        self._socket.close()


class Bridge:
    """Listens on ports of 127.0.0.1, with a thread for each connection.

    Args:
        path: The UNIX socket of an swtpm that nobody else uses.
        handlers: For each port what answers a connection there, until it returns or the
            connection ends. Port 0 is any free one.
    """

    def __init__(
        self, path: Path, handlers: dict[int, Callable[[socket.socket, _Upstream], None]]
    ) -> None:
        self._upstream = _Upstream(path)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        try:
            for port, handler in handlers.items():
                listener = socket.create_server(("127.0.0.1", port))
                self._open.append(listener)
                self._start(self._accept, listener, handler)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        for connected in tuple(self._open):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()
        self._upstream.close()
        for thread in self._threads:
            thread.join(_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(
        self, listener: socket.socket, handler: Callable[[socket.socket, _Upstream], None]
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = listener.accept()
                self._open.append(connected)
                self._start(self._serve, connected, handler)

    def _serve(
        self, connected: socket.socket, handler: Callable[[socket.socket, _Upstream], None]
    ) -> None:
        with connected, contextlib.suppress(OSError, EOFError):
            handler(connected, self._upstream)


def shared_port(path: Path, port: int) -> Bridge:
    """Return a port that speaks as swtpm does, but to any number of programs at once."""

    def handle(connected: socket.socket, upstream: _Upstream) -> None:
        while True:
            connected.sendall(upstream.exchange(read_message(connected)))

    return Bridge(path, {port: handle})


def mssim_ports(path: Path, port: int, signals: list[int]) -> Bridge:
    """Return what speaks as Microsoft's simulator, on a port and the one above it.

    ``signals`` receives what clients ask of the platform.
    """
    number = struct.Struct(">I")

    def commands(connected: socket.socket, upstream: _Upstream) -> None:
        while True:
            match number.unpack(read(connected, 4))[0]:
                case 8:
                    _locality, size = struct.unpack(">BI", read(connected, 5))
                    response = upstream.exchange(read(connected, size))
                    connected.sendall(number.pack(len(response)) + response + number.pack(0))
                case _:
                    return

    def platform(connected: socket.socket, _upstream: _Upstream) -> None:
        while True:
            (signal,) = number.unpack(read(connected, 4))
            signals.append(signal)
            if signal == 20:
                return
            connected.sendall(number.pack(0))

    return Bridge(path, {port: commands, port + 1: platform})


def read_message(connected: socket.socket) -> bytes:
    """Read one command or response, by its header's size."""
    header = read(connected, _HEADER_BYTES)
    return header + read(connected, int.from_bytes(header[2:6]) - _HEADER_BYTES)


def read(connected: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < size:
        part = connected.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data

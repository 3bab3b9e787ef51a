# SPDX-License-Identifier: Apache-2.0
"""A real TPM in software (swtpm), and libtss2 that talks to it over a wire of ours."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from tpm2_pytss.TCTI import PyTCTI

START_SECONDS: Final = 10
ANSWER_SECONDS: Final = 30
HEADER_BYTES: Final = 10
# libtss2 prints what it refuses, which is what tests make it do.
os.environ.setdefault("TSS2_LOG", "all+none")

Transmit: TypeAlias = Callable[[bytes], bytes]
"""Takes a command and returns the response."""


class Wire(PyTCTI):  # type: ignore[misc] # the bindings have no types
    """Carries libtss2's commands through any function."""

    def __init__(self, transmit: Transmit) -> None:
        super().__init__(max_size=4096)
        self._carry = transmit
        self._response = b""

    def do_transmit(self, command: bytes) -> None:
        """Take a command."""
        self._response = self._carry(bytes(command))

    def do_receive(self, timeout: int) -> bytes:  # noqa: ARG002 - the response is here already
        """Give the response."""
        return self._response


@contextlib.contextmanager
def simulator(place: Path) -> Iterator[Transmit]:
    """Run swtpm on a socket in ``place``, not started up; yields what transmits to it."""
    path = place / "tpm.sock"
    command = ["swtpm", "socket", "--tpm2", "--flags", "not-need-init"]
    command += ["--tpmstate", f"dir={place}", "--server", f"type=unixio,path={path}"]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            with contextlib.closing(_connection(path)) as connection:
                yield lambda command: _exchange(connection, command)
        finally:
            process.kill()


def _connection(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection.connect(str(path))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return connection


def _exchange(connection: socket.socket, command: bytes) -> bytes:
    connection.sendall(command)
    header = _exactly(connection, HEADER_BYTES)
    return header + _exactly(connection, int.from_bytes(header[2:6]) - HEADER_BYTES)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise EOFError
        received += part
    return received

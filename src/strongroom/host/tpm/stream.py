# SPDX-License-Identifier: Apache-2.0
"""TPM commands over a stream socket, with every wait bounded."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Final

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.limits import HEADER_BYTES, Deadline, response_size

_QUEUE_SECONDS: Final = 0.05
_ANYTHING: Final = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Stream:
    """A connected socket whose reads and writes end with a deadline, however slowly bytes drip."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of it.

        Raises:
            TpmTransportError: The other side does not take it, or not in time.
        """
        unsent = memoryview(data)
        while unsent:
            with _translated(deadline):
                self._socket.settimeout(deadline.left())
                unsent = unsent[self._socket.send(unsent) :]

    def receive(self, size: int, deadline: Deadline) -> bytes:
        """Return exactly so many bytes, a number that was checked before.

        Raises:
            TpmTransportError: They did not all come, or not in time.
        """
        received = bytearray()
        while len(received) < size:
            with _translated(deadline):
                self._socket.settimeout(deadline.left())
                part = self._socket.recv(size - len(received))
            if not part:
                raise TpmTransportError("the TPM's connection ended before its answer did")
            received += part
        return bytes(received)

    def readable(self) -> bool:
        """Tell, without waiting, that there is something to read, or an end."""
        poll = select.poll()
        poll.register(self._socket, _ANYTHING)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class RawStream:
    """Commands and responses with nothing around them, as swtpm and the access broker speak.

    A :class:`strongroom.host.tpm.transport.Transport`. A response's own header is all that says
    where it ends.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._stream = Stream(connected)

    def transmit(self, command: bytes, deadline: Deadline) -> bytes:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        self._stream.send(command, deadline)
        header = self._stream.receive(HEADER_BYTES, deadline)
        return header + self._stream.receive(response_size(header) - HEADER_BYTES, deadline)

    def lost(self) -> bool:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        return self._stream.readable()

    def close(self) -> None:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        self._stream.close()


def connect_tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to a TCP port, of the first of the host's addresses that has one.

    Looking a name up is bounded by the system's resolver only.

    Raises:
        TpmTransportError: Nobody answers there.
    """
    where = f"{host}, port {port}"
    refused: TpmTransportError | None = None
    with unreachable(where):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _name, address in found:
        try:
            with unreachable(where), contextlib.ExitStack() as stack:
                connected = stack.enter_context(socket.socket(family, kind, protocol))
                connected.settimeout(deadline.left())
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stack.pop_all()
                return connected
        except TpmTransportError as err:
            refused = err
    raise refused or TpmTransportError(f"{host} has no address")


def connect_unix(path: str, deadline: Deadline) -> socket.socket:
    """Return a connection to a UNIX socket.

    Raises:
        TpmTransportError: Nobody answers there.
    """
    with contextlib.ExitStack() as stack, unreachable(path):
        connected = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        while not _connected_to(connected, path, deadline):
            time.sleep(min(_QUEUE_SECONDS, deadline.left()))
        stack.pop_all()
        return connected


def _connected_to(unconnected: socket.socket, path: str, deadline: Deadline) -> bool:
    """Connect, unless too many wait there already: the kernel does not queue us with a timeout."""
    unconnected.settimeout(deadline.left())
    try:
        unconnected.connect(path)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def unreachable(where: str) -> Iterator[None]:
    """Say of an error of the system which TPM could not be reached.

    Raises:
        TpmTransportError: Instead of an :class:`OSError`.
    """
    try:
        yield
    except TimeoutError as err:
        raise TpmTransportError(f"the TPM at {where} does not answer in time") from err
    except UnicodeError as err:
        raise TpmTransportError(f"{where} is no place: a label is empty or too long") from err
    except OSError as err:
        raise TpmTransportError(
            f"no TPM can be reached at {where}: {err.strerror or err}",
            hint="start it, or name another with --tpm",
        ) from err


@contextlib.contextmanager
def _translated(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except TimeoutError as err:
        raise deadline.missed() from err
    except OSError as err:
        raise TpmTransportError(f"the TPM's connection broke: {err.strerror or err}") from err

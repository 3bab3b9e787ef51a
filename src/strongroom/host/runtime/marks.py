# SPDX-License-Identifier: Apache-2.0
"""The mark of a live volume: a listening socket without a file, which only its host's end removes.

Its address is ``sr:RUNTIME/NAME:NONCE`` in the abstract namespace of UNIX sockets, so removing the
runtime directory does not remove it, and the volume is still found and reached. The kernel ends it
with the process, whatever ends that.

Every user can make such an address, and reach it. So a mark counts only if the kernel says that
the process behind it is one of the caller's (``SO_PEERCRED``), in the same PID namespace: a
container may share the network and the user's number, but is another machine to us. The host asks
the same of its clients there. The nonce keeps other users from taking the address first. Network
namespaces have marks of their own: across them, the lock and the record say what lives.

Spec: unix(7), "Abstract sockets"; proc_pid_status(5), NSpid.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.host.runtime.directory import is_name

_PREFIX: Final = "sr:"
_NONCE_BYTES: Final = 4
ADDRESS_BYTES: Final = len("sr:/:") + 2 * _NONCE_BYTES + 1
"""What an address has besides the two names, with the zero byte in front."""
_BACKLOG: Final = 4096
_SHOWN: Final = Path("/proc/net/unix")
_CREDENTIALS: Final = struct.Struct("=3i")
"""``struct ucred``: process, user, group."""


def make(root: Path, name: str) -> socket.socket:
    """Return the listening socket that is the mark of a volume of this process.

    Raises:
        OSError: The address is too long, or the system has no more sockets.
    """
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mark.bind(b"\0" + _beginning(root, name) + os.urandom(_NONCE_BYTES).hex().encode())
        mark.listen(_BACKLOG)
    except BaseException:
        mark.close()
        raise
    return mark


def living(root: Path) -> frozenset[str]:
    """Return the names of the caller's volumes in a runtime directory whose mark is there."""
    beginning = _PREFIX.encode() + _shown(root) + b"/"
    found = set()
    for address in _addresses():
        name = address.removeprefix(beginning).rpartition(b":")[0].decode(errors="replace")
        if address.startswith(beginning) and name not in found and is_name(name):
            with contextlib.suppress(OSError), _reached(address) as connection:
                if is_of_caller(connection) and _is_near(connection):
                    found.add(name)
    return frozenset(found)


def connect(root: Path, name: str) -> socket.socket | None:
    """Return a connection to the host process of a volume, or ``None`` if it has no mark."""
    beginning = _beginning(root, name)
    for address in _addresses():
        if address.startswith(beginning):
            with contextlib.suppress(OSError):
                connection = _reached(address)
                if is_of_caller(connection) and _is_near(connection):
                    connection.settimeout(None)
                    return connection
                connection.close()
    return None


def is_of_caller(connection: socket.socket) -> bool:
    """Say whether the process at the other end is of the same user as this one."""
    return _credentials(connection)[1] == os.geteuid()


def may_ask(connection: socket.socket, *, by_mark: bool) -> bool:
    """Say whether a client may ask a volume of this process: its own user, and root.

    The path of a socket keeps others out by itself. At a mark only the PID namespace does that.
    """
    is_known = _credentials(connection)[1] in {0, os.geteuid()}
    return is_known and (not by_mark or _is_near(connection))


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end; a process that does not show here is 0."""
    facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(facts)
    return int(pid), int(user)


def _is_near(connection: socket.socket) -> bool:
    """Say whether the process at the other end is in the PID namespace of this one."""
    depth = _depth_of(_credentials(connection)[0])
    return depth != 0 and depth == _depth_of(os.getpid())


def _depth_of(pid: int) -> int:
    """Return how many PID namespaces of a process show here; 0 if the process does not.

    It is 1 on a kernel without PID namespaces.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return next((len(line.split()) - 1 for line in lines if line.startswith("NSpid:")), 1)


def _beginning(root: Path, name: str) -> bytes:
    return _PREFIX.encode() + _shown(root) + f"/{name}:".encode()


def _shown(root: Path) -> bytes:
    # The same directory by whatever way it was named; it may be gone.
    return os.path.realpath(os.fsencode(root))


def _addresses() -> Iterator[bytes]:
    """Yield the abstract addresses that listen and may be marks."""
    try:
        lines = _SHOWN.read_bytes().split(b"\n")
    except OSError:
        return
    beginning = b"@" + _PREFIX.encode()
    for line in lines:
        address = line.split(None, 7)[-1] if line.count(b" ") else b""
        if address.startswith(beginning):
            yield address[1:]


def _reached(address: bytes) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A queue that is full must not hold us.
        connection.setblocking(False)  # noqa: FBT003 - the library's signature
        connection.connect(b"\0" + address)
    except BaseException:
        connection.close()
        raise
    return connection

# SPDX-License-Identifier: Apache-2.0
"""The command line's side of a volume's control socket."""

import contextlib
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from strongroom.boundary.calls import Call, Done, ReportProgress
from strongroom.boundary.channel import (
    Caller,
    Handler,
    Patience,
    PeerLeftError,
    PeerSilentError,
    Received,
    registry_of,
)
from strongroom.boundary.stream import UnixStream
from strongroom.errors import (
    BoundaryError,
    EnclaveGoneError,
    NoPermissionError,
    NotAnsweringError,
    NotOpenError,
    StrongroomError,
)
from strongroom.host import runtime
from strongroom.host.attach._bounded import wait_until
from strongroom.host.contracts import Reporter
from strongroom.host.control_calls import CONTROL_OCALLS
from strongroom.host.patience import is_stopped, while_running
from strongroom.host.runtime import VolumeDirectory, marks, place

ResultT = TypeVar("ResultT")

_UCRED: Final = struct.Struct("iII")
"""``struct ucred``: pid, uid, gid. Spec: unix(7)."""
_STALL_SECONDS: Final = 10
_CONNECT_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 5.0


def ask(
    directory: VolumeDirectory,
    request: Call[ResultT],
    report: Reporter,
    *,
    patience: Patience | None = None,
) -> ResultT:
    """Ask a volume's host process one thing.

    It is reached by the socket in its directory, or, if that was removed, by its mark.

    Args:
        directory: The volume's.
        request: What is asked.
        report: Where its progress goes.
        patience: How long to wait; by default until the host process ends, or is stopped for
            long.

    Raises:
        NotOpenError: Nobody listens, or the volume was closed meanwhile.
        NoPermissionError: The socket belongs to another user.
        NotAnsweringError: The host process did not answer in time.
        EnclaveGoneError: The host process died.
        StrongroomError: What the host process raised.
    """
    with reached(directory) as host:
        return host.ask(request, report, patience)


class Host:
    """The host process of one volume, at the other end of a connection."""

    def __init__(self, directory: VolumeDirectory, connection: socket.socket) -> None:
        self._directory = directory
        self._connection = connection
        self._socket: os.stat_result | None = None
        with contextlib.suppress(OSError):
            self._socket = directory.control_socket.stat()
        self._log = _mark_of(directory.kept_log)
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid: int = _UCRED.unpack(packed)[0]
        """Its process, as the kernel tells: 0 in another PID namespace."""
        self.pidfd = -1
        if self.pid > 0:
            with contextlib.suppress(OSError):
                self.pidfd = os.pidfd_open(self.pid)

    def ask(
        self, request: Call[ResultT], report: Reporter, patience: Patience | None = None
    ) -> ResultT:
        """Ask one thing, once for a connection. Raises as :func:`ask`."""
        stream = UnixStream(self._connection, stall_seconds=_STALL_SECONDS)
        caller = Caller(stream, registry_of(CONTROL_OCALLS), _relay_to(report))
        name = self._directory.name
        try:
            return caller.call(request, patience or while_running(self.pid))
        except PeerLeftError as err:
            raise _left(self._directory, self._log) from err
        except PeerSilentError as err:
            raise _silent(name, self.pid) from err

    def await_end(self, seconds: float) -> bool:
        """Wait until it has ended, and say whether that came in time."""
        return wait_until(self.has_ended, seconds)

    def has_the_name(self) -> bool:
        """Tell whether the volume's name still leads to it."""
        with contextlib.suppress(OSError):
            there = self._directory.control_socket.stat()
            return self._socket is not None and os.path.samestat(there, self._socket)
        return False

    def kill(self) -> bool:
        """Kill it, whatever it does, and say whether it is gone."""
        if self.pidfd < 0:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return wait_until(self.has_ended, _KILL_SECONDS)

    def has_ended(self) -> bool:
        """Tell whether it has ended."""
        if self.pidfd < 0:
            return not self.has_the_name()
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))


@contextlib.contextmanager
def reached(directory: VolumeDirectory) -> Iterator[Host]:
    """Connect to a volume's host process, for the length of a block. Raises as :func:`ask`."""
    connection = _by_socket(directory) or marks.connect(place.root(), directory.name)
    if connection is None:
        crashed = _mark_of(directory.kept_log) is not None
        hint = runtime.kept_words(directory) if crashed else "see `strongroom list`"
        raise NotOpenError(f"no volume named {directory.name} is open", hint=hint)
    with connection:
        if not marks.is_of_caller(connection):
            raise NoPermissionError(f"the volume {directory.name} belongs to another user")
        host = Host(directory, connection)
        try:
            yield host
        finally:
            if host.pidfd >= 0:
                os.close(host.pidfd)


def _mark_of(file: Path) -> tuple[int, int] | None:
    """Return what tells one version of a file from the next."""
    try:
        info = file.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns


def _left(directory: VolumeDirectory, before: tuple[int, int] | None) -> StrongroomError:
    """Return what it means that a host process ended without an answer.

    Args:
        directory: The volume's.
        before: The mark of its kept log when it was asked; that may be of an earlier crash.
    """
    kept = directory.kept_log
    if _mark_of(kept) in {None, before}:
        return NotOpenError(f"the volume {directory.name} was closed meanwhile")
    return EnclaveGoneError(
        f"the host process of {directory.name} ended before it answered",
        hint=f"its log is kept in {kept}",
    )


def _silent(name: str, pid: int) -> NotAnsweringError:
    stopped = ": it is stopped" if is_stopped(pid) else ""
    return NotAnsweringError(
        f"the host process of {name} (process {pid}) does not answer{stopped}",
        hint=f"`strongroom close --force {name}` ends it",
    )


def _by_socket(directory: VolumeDirectory) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with directory.opened() as fd:
            # With a full queue, the kernel would have us wait for a process that is stopped.
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(f"/proc/self/fd/{fd}/{directory.control_socket.name}")
            connection.settimeout(None)
    except OSError:
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _relay_to(report: Reporter) -> Handler:
    def answer(received: Received) -> object:
        match received.call:
            case ReportProgress(stage, done, total):
                report.progress(stage, done, total)
                return Done()
            case other:
                raise BoundaryError(f"the command line does not answer {type(other).__name__}")

    return answer

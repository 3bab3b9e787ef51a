# SPDX-License-Identifier: Apache-2.0
"""The command line's side of a volume's control socket."""

import contextlib
import socket
from collections.abc import Iterator
from typing import TypeVar

from strongroom.boundary.calls import Call, Done, ReportProgress
from strongroom.boundary.channel import Caller, Handler, Received, registry_of
from strongroom.boundary.stream import UnixStream
from strongroom.errors import BoundaryError, NoPermissionError, NotOpenError
from strongroom.host.contracts import Reporter
from strongroom.host.control_calls import CONTROL_OCALLS
from strongroom.host.runtime import VolumeDirectory, marks, place

ResultT = TypeVar("ResultT")


def ask(
    directory: VolumeDirectory,
    request: Call[ResultT],
    report: Reporter,
    *,
    seconds: float | None = None,
) -> ResultT:
    """Ask a volume's host process one thing.

    It is reached by the socket in its directory, or, if that was removed, by its mark.

    Args:
        directory: The volume's.
        request: What is asked.
        report: Where its progress goes.
        seconds: How long to wait for each part of the answer; without an end by default.

    Raises:
        NotOpenError: No process listens.
        NoPermissionError: The socket, or the process at it, is another user's.
        StrongroomError: What the host process raised.
    """
    with _connected(directory) as connection:
        connection.settimeout(seconds)
        caller = Caller(UnixStream(connection), registry_of(CONTROL_OCALLS), _relay_to(report))
        return caller.call(request)


@contextlib.contextmanager
def _connected(directory: VolumeDirectory) -> Iterator[socket.socket]:
    connection = _by_socket(directory) or marks.connect(place.root(), directory.name)
    if connection is None:
        raise NotOpenError(
            f"no volume named {directory.name} is open", hint="see `strongroom list`"
        )
    with connection:
        if not marks.is_of_caller(connection):
            raise NoPermissionError(f"the volume {directory.name} belongs to another user")
        yield connection


def _by_socket(directory: VolumeDirectory) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with directory.opened() as fd:
            connection.connect(f"/proc/self/fd/{fd}/{directory.control_socket.name}")
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

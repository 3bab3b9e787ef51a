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
from strongroom.host.runtime import VolumeDirectory

ResultT = TypeVar("ResultT")


def ask(directory: VolumeDirectory, request: Call[ResultT], report: Reporter) -> ResultT:
    """Ask a volume's host process one thing.

    Raises:
        NotOpenError: Nobody listens.
        NoPermissionError: The socket belongs to another user.
        StrongroomError: What the host process raised.
    """
    with _connected(directory) as connection:
        caller = Caller(UnixStream(connection), registry_of(CONTROL_OCALLS), _relay_to(report))
        return caller.call(request)


@contextlib.contextmanager
def _connected(directory: VolumeDirectory) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(directory.control_socket))
        except PermissionError as err:
            raise NoPermissionError(
                f"the volume {directory.name} belongs to another user", hint="run as root"
            ) from err
        except OSError as err:
            raise NotOpenError(
                f"no volume named {directory.name} is open", hint="see `strongroom list`"
            ) from err
        yield connection


def _relay_to(report: Reporter) -> Handler:
    def answer(received: Received) -> object:
        match received.call:
            case ReportProgress(stage, done, total):
                report.progress(stage, done, total)
                return Done()
            case other:
                raise BoundaryError(f"the command line does not answer {type(other).__name__}")

    return answer

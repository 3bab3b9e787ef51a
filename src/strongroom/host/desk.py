# SPDX-License-Identifier: Apache-2.0
"""The clients of a volume's host process: each has a thread of its own.

So one that waits for the disk, or says nothing, keeps no other from an answer. What changes the
volume is an :class:`Order`: the main thread carries those out, one after the other.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from strongroom.boundary.channel import Received, Responder, registry_of
from strongroom.boundary.stream import UnixStream
from strongroom.errors import BoundaryError, StrongroomError
from strongroom.host.control_calls import CONTROL_CALLS
from strongroom.host.runtime import marks

MAX_CLIENTS: Final = 64
"""More at a time are sent away; each is one command that waits."""
_CLIENT_SECONDS: Final = 30.0
_LEAVING_SECONDS: Final = 2.0


class Order:
    """Something for the main thread to do, and what came of it."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self._ended = threading.Event()
        self._answer: object = None
        self._error: StrongroomError | None = None

    def carry_out(self) -> None:
        """Do it. What it raises goes to the client that waits."""
        try:
            self._answer = self._do()
        except StrongroomError as err:
            self._error = err
        finally:
            self._ended.set()

    def refuse(self, error: StrongroomError) -> None:
        """Tell the client that it is not done."""
        self._error = error
        self._ended.set()

    def result(self) -> object:
        """Wait for the end, and return the answer.

        Raises:
            StrongroomError: What it failed with.
        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._answer


class Answerer(Protocol):
    """Answers one client, on the thread of that client."""

    def __call__(self, received: Received, client: Responder) -> object:
        """Return the answer, or raise a :class:`StrongroomError`."""


class Desk:
    """Takes clients from the control socket."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self._state = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def admit(self, control: socket.socket, *, by_mark: bool) -> None:
        """Take one client that has connected, if it may ask.

        Args:
            control: Where it has connected.
            by_mark: That is the mark, which every user reaches.
        """
        try:
            connection, _ = control.accept()
        except OSError:
            return
        if not marks.may_ask(connection, by_mark=by_mark):
            connection.close()
            return
        connection.settimeout(_CLIENT_SECONDS)
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._state:
            if len(self._threads) >= MAX_CLIENTS:
                connection.close()
                return
            try:
                thread.start()
            except RuntimeError:
                connection.close()
                return
            self._threads.add(thread)

    def close(self) -> None:
        """Wait a moment for the clients that have their answers."""
        end = time.monotonic() + _LEAVING_SECONDS
        with self._state:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            client = Responder(UnixStream(connection), registry_of(CONTROL_CALLS))
            # A client that leaves, stalls or talks nonsense is its own problem.
            with contextlib.suppress(BoundaryError):
                client.serve_one(lambda received: self._answer(received, client))
        with self._state:
            self._threads.discard(threading.current_thread())

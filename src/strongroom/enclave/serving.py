# SPDX-License-Identifier: Apache-2.0
"""Serving a volume to clients that come through the boundary's own stream.

The counterpart of :class:`strongroom._core.NbdServer`, which takes clients from a listening socket.
"""

import contextlib
import signal
import socket
import threading
import time
from typing import Final

from strongroom._core import Volume, serve_nbd_connection
from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.mux.frames import MAX_CHANNELS
from strongroom.errors import StrongroomError

_GRACE_SECONDS: Final = 5.0
"""How long requests that have arrived may take to finish when serving stops."""
_LAST_GRACE_SECONDS: Final = 5.0
"""How long threads may take to end after their sockets have been shut down."""


class ChannelServer:
    """Serves one volume to every connection of a multiplexer, each on a thread of its own.

    The threads hold the GIL only to begin and to end.
    """

    def __init__(
        self,
        volume: Volume,
        multiplexer: Multiplexer,
        *,
        export_name: str,
        structured_replies: bool,
    ) -> None:
        self._volume = volume
        self._multiplexer = multiplexer
        self._export_name = export_name
        self._structured_replies = structured_replies
        self._state = threading.Lock()
        self._served: dict[socket.socket, threading.Thread] = {}
        self._stopping = False
        multiplexer.accept(self._accept)

    def stop(self) -> None:
        """Accept nobody any more, finish requests in flight, close connections, join the threads.

        It takes 10 seconds at most; threads that wait for a disk that hangs are left behind.
        """
        self._multiplexer.accept(None)
        with self._state:
            self._stopping = True
        # What has been sent stays readable; then the client seems to be gone.
        self._shut_down(socket.SHUT_RD)
        if not self._join(_GRACE_SECONDS):
            self._shut_down(socket.SHUT_RDWR)
            self._join(_LAST_GRACE_SECONDS)

    def _accept(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._state:
            # A thread may outlive its channel by a moment.
            if self._stopping or len(self._served) >= MAX_CHANNELS:
                raise ConnectionRefusedError
            try:
                thread.start()
            except RuntimeError as err:
                raise ConnectionRefusedError from err
            self._served[connection] = thread

    def _serve(self, connection: socket.socket) -> None:
        # As in the Rust server: no handler's frame may ever hold this thread's registers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with connection, contextlib.suppress(StrongroomError):
            # Whose fault it was is counted in the volume; the client knows, or is gone.
            serve_nbd_connection(
                self._volume,
                connection.fileno(),
                export_name=self._export_name,
                structured_replies=self._structured_replies,
            )
        with self._state:
            self._served.pop(connection, None)

    def _shut_down(self, how: int) -> None:
        with self._state:
            for connection in self._served:
                with contextlib.suppress(OSError):
                    connection.shutdown(how)

    def _join(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._state:
            threads = list(self._served.values())
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

# SPDX-License-Identifier: Apache-2.0
"""A volume from the moment on which it has its key: serving it, flushing it, and its end.

Erasing the key never waits for the disk, and nothing here waits for it without a limit. What waits
in the kernel for a disk that hangs is a thread of its own.
"""

import os
import stat
import threading
from typing import Final

from strongroom._core import FuseServer, NbdServer, Volume
from strongroom.boundary import calls
from strongroom.boundary.mux import Multiplexer
from strongroom.enclave.serving import ChannelServer
from strongroom.errors import BoundaryError, DiskError, PlatformError, StrongroomError

_FUSE_NUMBER: Final = os.makedev(10, 229)
"""Of ``/dev/fuse``. Spec: Documentation/admin-guide/devices.txt."""

_FLUSH_STEP_SECONDS: Final = 1.0
_LAST_FLUSH_SECONDS: Final = 5.0


class UnlockedVolume:
    """Serves one volume, by NBD and by FUSE."""

    def __init__(self, volume: Volume, multiplexer: Multiplexer | None) -> None:
        self._volume = volume
        self._multiplexer = multiplexer
        self._server: NbdServer | ChannelServer | None = None
        self._fuse: FuseServer | None = None
        self._flushing: _Flushing | None = None

    def counters(self) -> calls.Counters:
        """Return running totals."""
        return calls.Counters(**self._volume.counters())

    def serve(self, call: calls.Serve) -> calls.Done:
        """Serve whoever connects, by NBD.

        Raises:
            BoundaryError: It is served already, or what was passed is no socket.
        """
        if self._server is not None:
            raise BoundaryError("the volume is served already")
        if call.listener is None:
            if self._multiplexer is None:
                raise BoundaryError("no listener was passed, and no clients are carried")
            self._server = ChannelServer(
                self._volume,
                self._multiplexer,
                export_name=call.export_name,
                structured_replies=call.structured_replies,
            )
            return calls.Done()
        if not stat.S_ISSOCK(os.fstat(call.listener).st_mode):
            raise BoundaryError("the listener is no socket")
        self._server = NbdServer(
            self._volume,
            call.listener,
            export_name=call.export_name,
            structured_replies=call.structured_replies,
        )
        return calls.Done()

    def serve_fuse(self, devices: tuple[int, ...], file_name: str) -> calls.Done:
        """Serve the one file of a mounted FUSE file system.

        Raises:
            BoundaryError: It is served already, or a descriptor is not one of ``/dev/fuse``.
        """
        if self._fuse is not None:
            raise BoundaryError("the volume is served by FUSE already")
        if not devices or not all(_is_fuse_device(device) for device in devices):
            raise BoundaryError("a descriptor is not one of /dev/fuse")
        self._fuse = FuseServer(self._volume, devices, file_name=file_name)
        return calls.Done()

    def flush(self) -> calls.Flushed:
        """Make what was written before the call durable, and wait a second for that.

        Raises:
            DiskError: That failed, now or earlier.
        """
        flushing = self._flushing
        if flushing is None:
            flushing = self._flushing = _Flushing(self._volume)
        done = flushing.ended(_FLUSH_STEP_SECONDS)
        if done:
            self._flushing = None
            flushing.check()
        return calls.Flushed(done)

    def erase(self) -> None:
        """Erase the key. Never waits for the disk; later requests fail. Never raises."""
        self._volume.erase()

    def stop_serving(self) -> None:
        """Accept no client any more and end all connections. Takes 20 seconds at most."""
        if self._fuse is not None:
            self._fuse.stop()
            self._fuse = None
        if self._server is not None:
            self._server.stop()
            self._server = None

    def end(self) -> None:
        """Stop serving, erase the key, flush what was acknowledged.

        Raises:
            DiskError: The flush failed, or the disk does not answer; the key is erased.
        """
        self.stop_serving()
        self.erase()
        flushing = _Flushing(self._volume)
        if not flushing.ended(_LAST_FLUSH_SECONDS):
            raise DiskError(
                f"the disk did not flush what was written within {_LAST_FLUSH_SECONDS:.0f} seconds"
            )
        flushing.check()

    def close(self) -> None:
        """Release the disk, which may wait for it: the last of all. Never raises."""
        self._volume.close()


class _Flushing:
    """One flush, on a thread of its own, which stays behind if the disk hangs."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._error: StrongroomError | None = None
        self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as err:
            raise PlatformError("no thread could be started for a flush") from err

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._volume.flush()
        except StrongroomError as err:
            self._error = err


def _is_fuse_device(device: int) -> bool:
    status = os.fstat(device)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _FUSE_NUMBER

# SPDX-License-Identifier: Apache-2.0
"""The host process that ``open`` leaves behind, and the leash it is on until it is open."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import Final, Self

from strongroom import errors
from strongroom.errors import EnclaveGoneError, StrongroomError
from strongroom.host import runtime
from strongroom.host.contracts import OpenRequest
from strongroom.host.request import encode_request
from strongroom.host.runtime import VolumeDirectory
from strongroom.host.silence import Silent
from strongroom.host.starting.process import translating_start
from strongroom.host.state import state_directory

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 2.0


class Background:
    """A host process on a leash: unless :meth:`keep` is called, it ends with the ``with`` block.

    The leash is a socket pair; when this process dies, the kernel lets go of it too.
    """

    def __init__(self, request: OpenRequest) -> None:
        self.directory = VolumeDirectory(request.name)
        self._leash, theirs = socket.socketpair()
        with theirs, translating_start():
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "strongroom.host.daemon"),
                    *(str(theirs.fileno()), encode_request(request)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept:
            # It lives on; nobody waits for it here, and init does once this process has ended.
            self._process.returncode = 0
            self._leash.close()
            return
        self._leash.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # It waits for its enclave, which may be deep in a derivation and leaves with it.
            self._process.kill()
            self._process.wait()
            runtime.sweep(Silent())

    def keep(self) -> None:
        """Let the process live on: the volume is open."""
        self._kept = True

    def await_ready(self) -> None:
        """Wait until the process takes the key.

        Raises:
            StrongroomError: What it failed with.
        """
        self._leash.settimeout(_START_SECONDS)
        with self._leash.makefile("rb") as stream, contextlib.suppress(TimeoutError):
            line = stream.readline(64 * 1024)
            if line:
                _raise_error_in(json.loads(line))
                return
        raise EnclaveGoneError(
            "the host process ended while starting", hint=self.directory.log_tail()
        )


def _environment() -> dict[str, str]:
    """Return the environment, with directories that mean the same from another place."""
    moved = {
        "STRONGROOM_RUNTIME_DIR": runtime.root(),
        "STRONGROOM_STATE_DIR": state_directory().absolute(),
    }
    return {**os.environ, **{name: str(path) for name, path in moved.items()}}


def _raise_error_in(message: dict[str, str]) -> None:
    if not message:
        return
    kind = getattr(errors, message["error"], StrongroomError)
    error: StrongroomError = kind(message["message"], hint=message["hint"])
    raise error

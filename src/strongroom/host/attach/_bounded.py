# SPDX-License-Identifier: Apache-2.0
"""Waiting with an end: a device whose server hangs must not hang us."""

import threading
import time
from collections.abc import Callable
from typing import Final

_POLL_SECONDS: Final = 0.005


class Blocking:
    """A call that may block for ever in the kernel, run in a thread of its own.

    A thread that waits for a block device cannot be interrupted; it comes back when the device
    answers or is taken away. It is a daemon thread, so it never keeps the process alive.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="blocking-call", daemon=True)
        self._thread.start()

    def ended(self, timeout_seconds: float, *, unless: Callable[[], bool] | None = None) -> bool:
        """Wait for the call's end, at most so long, and say whether it came.

        Args:
            timeout_seconds: The limit.
            unless: Asked again and again; once it says yes, the wait ends too.

        Raises:
            OSError: The call ended with this error.
        """
        if unless is None:
            self._thread.join(timeout_seconds)
        else:
            wait_until(lambda: unless() or not self._thread.is_alive(), timeout_seconds)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._call()
        except OSError as err:
            self._error = err


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Wait for what the kernel reports only on being asked, and say whether it came."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True

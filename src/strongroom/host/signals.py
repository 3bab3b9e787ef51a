# SPDX-License-Identifier: Apache-2.0
"""Signals to a host process, as something to wait for beside its sockets."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

_FAULTS: Final = frozenset(
    {
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT),
        *(signal.SIGTRAP, signal.SIGSYS),
    }
)
_NOT_ENDING: Final = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
        *(signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them: the call fails instead
    }
)
_ENDING_SIGNALS: Final = tuple(sorted(signal.valid_signals() - _FAULTS - _NOT_ENDING))
"""Every signal of which a process without a handler would end, but for its own faults."""


@contextlib.contextmanager
def signals_as_events() -> Iterator[int]:
    """Turn the signals that ask a process to end into bytes on a descriptor."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = {number: signal.signal(number, lambda *_: None) for number in _ENDING_SIGNALS}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in previous.items():
            signal.signal(number, handler)
        # The other end stays open: a thread may still wait for it.
        os.close(writer)

# SPDX-License-Identifier: Apache-2.0
"""How long a command may take, and how large it and its answer may be.

::

    command    tag u16 | size u32 | command code u32  | ...
    response   tag u16 | size u32 | response code u32 | ...

Spec: TPM 2.0 Part 1, 18.1 (command and response structures); Part 3, 5.2.
"""

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from strongroom.errors import InternalError, TpmTransportError
from strongroom.values import dataclass

MAX_BYTES: Final = 4096
"""Of a command and of a response: what the kernel, swtpm and libtss2 have room for."""
HEADER_BYTES: Final = 10

SILENCE_SECONDS: Final = 2.0
"""After which an operator is told that the TPM has not answered yet."""
AFTER_SILENCE_SECONDS: Final = 0.5
"""How long a TPM that missed a limit may take for each later command, until it answers again."""

_HEADER: Final = struct.Struct(">HII")

_CREATE_PRIMARY: Final = 0x131
_CREATE: Final = 0x153
_CREATE_LOADED: Final = 0x191
_VERIFY_SIGNATURE: Final = 0x177
_SLOW: Final = frozenset({_CREATE_PRIMARY, _CREATE, _CREATE_LOADED, _VERIFY_SIGNATURE})
"""The commands that the kernel's driver gives 300 seconds: a chip searches for primes as long as it
takes to find them, and some chips check signatures that slowly while their self test runs."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long one command may take, from the moment on which the TPM is ours.

    The kernel's driver gives up on a chip after 300 seconds for slow commands and 120 for what it
    has no shorter limit for. We wait a little longer than that, so that what is reported is what
    the driver found, and because a device that is closed while its driver still waits makes the
    next program wait.

    Attributes:
        slow_seconds: For commands that make keys.
        other_seconds: For all others.
        connect_seconds: For reaching the TPM, as a part of the above.
    """

    slow_seconds: float = 310.0
    other_seconds: float = 130.0
    connect_seconds: float = 10.0

    def of(self, code: int) -> float:
        """Return the seconds for a command, by its command code."""
        return self.slow_seconds if code in _SLOW else self.other_seconds

    def at_most(self, seconds: float | None) -> "TimeLimits":
        """Return limits of which none is longer than this; ``None`` shortens none."""
        if seconds is None:
            return self
        return TimeLimits(
            slow_seconds=min(self.slow_seconds, seconds),
            other_seconds=min(self.other_seconds, seconds),
            connect_seconds=min(self.connect_seconds, seconds),
        )


@contextlib.contextmanager
def telling(say: Callable[[], None]) -> Iterator[None]:
    """Call ``say`` once, from another thread, if the block takes :data:`SILENCE_SECONDS`."""
    timer = threading.Timer(SILENCE_SECONDS, say)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


class Deadline:
    """The end of one command, whatever it waits for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left, always more than 0.

        Raises:
            TpmTransportError: None are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.missed()
        return left

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._end

    def missed(self) -> TpmTransportError:
        """Return what to raise when it has passed."""
        return TpmTransportError(
            f"the TPM did not answer within {self._seconds:.3g} seconds",
            hint="another program may be using it; an swtpm serves one at a time",
        )

    def sooner(self, seconds: float) -> "Deadline":
        """Return a deadline that is at most so far away, and not after this one.

        Raises as :meth:`left`.
        """
        return self if self.left() <= seconds else Deadline(seconds)


def command_code(command: bytes) -> int:
    """Return the code of a command whose header says how long it is.

    Raises:
        InternalError: It is shorter than a header, longer than :data:`MAX_BYTES`, or has not the
            size that it says. On a stream, what follows would be taken for another command.
    """
    if not HEADER_BYTES <= len(command) <= MAX_BYTES:
        raise InternalError(f"a TPM command of {len(command)} bytes")
    _tag, size, code = _HEADER.unpack_from(command)
    if size != len(command):
        raise InternalError(f"a TPM command of {len(command)} bytes that says it has {size}")
    return int(code)


def response_size(header: bytes) -> int:
    """Return how many bytes a response has, by its header of :data:`HEADER_BYTES`.

    Raises:
        TpmTransportError: As :func:`check_response_size`.
    """
    _tag, size, _code = _HEADER.unpack(header)
    return check_response_size(int(size))


def check_response_size(size: int) -> int:
    """Return a response's size in bytes if it is possible.

    Whether it is what the response's own header says is for the enclave to check.

    Raises:
        TpmTransportError: It is less than a header or more than :data:`MAX_BYTES`.
    """
    if not HEADER_BYTES <= size <= MAX_BYTES:
        raise TpmTransportError(f"the TPM's answer says that it has {size} bytes")
    return size

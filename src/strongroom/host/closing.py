# SPDX-License-Identifier: Apache-2.0
"""How an open volume ends: with everything flushed, or by force within a minute.

Closing flushes while all of it is still there, and gives up with the volume open. Closing by force
always ends: what hangs is given a few seconds, then the keys are erased, which waits for no disk,
and the rest is cut off. Decision 042.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from strongroom.boundary import calls
from strongroom.errors import (
    BoundaryError,
    DiskError,
    EnclaveGoneError,
    NotAnsweringError,
    UnflushedError,
)
from strongroom.host.attach import Attached, detaching
from strongroom.host.launch import EnclaveProcess
from strongroom.host.patience import within

FLUSH_SECONDS: Final = 120.0
"""As for a device: enough for gigabytes on a slow disk."""
_ANSWER_SECONDS: Final = 10.0
_ALIVE_SECONDS: Final = 2.0
_WRITE_BACK_SECONDS: Final = 10.0
_ERASED_FLUSH_SECONDS: Final = 1.0
"""Without the keys, nothing is written back any more."""
_FORCED_END_SECONDS: Final = 15.0


class Ended(NamedTuple):
    """What is to be told of a volume that is closed."""

    left: tuple[str, ...]
    """Where file systems are mounted that give errors now."""
    notices: tuple[str, ...]


def left_words(point: str) -> str:
    """Return what to say of a file system whose device is gone."""
    return f"the file system at {point} gives errors from now on: unmount it"


def flush(enclave: EnclaveProcess, name: str, hurried: Callable[[], bool]) -> None:
    """Make what clients have written durable, as long as the volume can still stay open.

    Raises:
        DiskError: That failed, did not end in time, or the volume is being closed by force.
        NotAnsweringError: The enclave does not answer.
    """
    end = time.monotonic() + FLUSH_SECONDS
    while not hurried():
        try:
            if enclave.call(calls.Flush(), within(_ANSWER_SECONDS, unless=hurried)).done:
                return
        except DiskError as err:
            raise DiskError(
                f"still open, as what was written cannot be flushed: {err.message}",
                hint=f"`strongroom close --force {name}` gives up what was not written",
            ) from err
        except NotAnsweringError as err:
            if hurried():
                break
            raise NotAnsweringError(
                f"still open: {err.message}", hint=f"`strongroom close --force {name}` ends it"
            ) from err
        if time.monotonic() > end:
            raise DiskError(
                f"still open, as the disk did not flush within {FLUSH_SECONDS:.0f} seconds",
                hint=f"`strongroom close --force {name}` gives up what was not written",
            )
    raise DiskError("the volume is being closed by force")


def end_in_order(enclave: EnclaveProcess, name: str) -> None:
    """End the enclave of a volume whose device is gone and that was flushed a moment ago.

    Raises:
        UnflushedError: It is closed, and the last flush failed.
    """
    try:
        enclave.shut_down()
    except (DiskError, NotAnsweringError) as err:
        raise UnflushedError(
            f"{name} is closed, but what was written last may be lost: {err.message}"
        ) from err


def ensure_written(name: str, failed_writes: str) -> None:
    """Make sure that no write failed while a volume, which is closed now, was open.

    Args:
        name: The volume's.
        failed_writes: A sentence about the writes that failed; empty if none did.

    Raises:
        UnflushedError: One did.
    """
    if failed_writes:
        raise UnflushedError(f"{name} is closed, but {failed_writes}")


def end_by_force(
    enclave: EnclaveProcess, attached: Attached | None, name: str, say: Callable[[str], None]
) -> Ended:
    """Take a volume's device away and end its enclave, whatever hangs; return what to tell.

    Raises:
        UnflushedError: It is closed, and a flush had failed: written data may be lost.
    """
    notices: list[str] = []
    flush_seconds = detaching.FORCED_FLUSH_SECONDS
    answers = is_answering(enclave)
    if not answers:
        # Its memory goes with it, and nothing waits for it any more.
        if not enclave.kill():
            notices.append(_lingers(enclave))
        notices.append("the enclave did not answer and was killed; what was not flushed is lost")
    elif attached is not None and not detaching.write_back(attached, _WRITE_BACK_SECONDS):
        enclave.erase()
        flush_seconds = _ERASED_FLUSH_SECONDS
    left: tuple[str, ...] = ()
    if attached is not None:
        left = detaching.detach(attached, force=True, flush_seconds=flush_seconds)
    for point in left:
        say(left_words(point))
    if answers:
        _end(enclave, name)
    return Ended(left, tuple(notices))


def _end(enclave: EnclaveProcess, name: str) -> None:
    erased = enclave.erase()
    keys = "its keys are erased" if erased else f"its keys go with process {enclave.pid}"
    try:
        enclave.shut_down(within(_FORCED_END_SECONDS))
    except EnclaveGoneError:
        return
    except NotAnsweringError as err:
        why = "the disk does not answer"
        raise UnflushedError(f"{name} is closed, {keys}, written data may be lost: {why}") from err
    except DiskError as err:
        why = err.message
        raise UnflushedError(f"{name} is closed, {keys}, written data may be lost: {why}") from err


def _lingers(enclave: EnclaveProcess) -> str:
    return f"process {enclave.pid} ends when the disk answers, and its keys with it"


def is_answering(enclave: EnclaveProcess) -> bool:
    """Tell whether an enclave answers within two seconds."""
    with contextlib.suppress(BoundaryError):
        enclave.call(calls.Describe(), within(_ALIVE_SECONDS))
        return True
    return False

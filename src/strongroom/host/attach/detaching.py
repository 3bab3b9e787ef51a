# SPDX-License-Identifier: Apache-2.0
"""Take a block device away: flushed if that is possible at all, and never waiting without an end.

A device whose server hangs keeps everybody who waits for it in an uninterruptible sleep. So what
may block runs in a thread, and when its time is up the device is cut off from its server, which
ends every wait with an error.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.errors import DiskError, MountedError
from strongroom.host.attach._bounded import Blocking
from strongroom.host.attach._libc import sync_file_system, unmount_lazily
from strongroom.host.attach.backend import Attached, Backend
from strongroom.host.attach.link import remove_link
from strongroom.host.attach.usage import claim, device_uses, in_use, processes_with

_FLUSH_SECONDS: Final = 120.0
"""Enough for gigabytes of cached writes on a slow disk; a flush in progress is not a hang."""
_FORCED_FLUSH_SECONDS: Final = 10.0
_FORCED_STEP_SECONDS: Final = 10.0
_AFTER_ABORT_SECONDS: Final = 5.0
_VISITOR_SECONDS: Final = 2.0
"""How long programs that look at a device for a moment, such as udev's, may keep it."""
_COPIES_SECONDS: Final = 3.0
"""How long a mount namespace that is just being made may hold copies of mounts that are gone here:
a container's or a service's, and for some milliseconds that of an enclave that starts."""


def detach(attached: Attached, *, force: bool) -> None:
    """Flush and take away what :func:`attach` made. Doing it twice is harmless.

    Without ``force`` either everything is flushed and gone, or an error says why not and the device
    stays. With ``force`` it always ends within a minute: file systems are written back as far as
    their server answers, unmounted lazily, and the device is cut off; its users get errors.

    Raises:
        MountedError: The device, or one stacked on it, is mounted, swap or open (never with
            ``force``).
        DiskError: What was written could not be flushed (never with ``force``).
    """
    backend = attached.backend
    if backend is None or backend.closed:
        return
    if force:
        claimed = _give_up(backend)
    else:
        claimed = claim_free(backend.block_device)
        try:
            _flush(claimed, backend.block_device)
            _await_visitors(backend.block_device)
        except BaseException:
            os.close(claimed)
            raise
    if attached.device is not None:
        remove_link(attached.device, backend.block_device)
    backend.release(claimed)


def claim_free(device: Path) -> int:
    """Claim a device that nobody uses, and return the descriptor.

    Raises:
        MountedError: Somebody does; the message names who.
    """
    end = time.monotonic() + _COPIES_SECONDS
    while True:
        uses = device_uses(device)
        if uses:
            raise in_use(device, uses)
        try:
            return claim(device)
        except MountedError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def unmount_all(device: Path, run: Callable[[Callable[[], None]], bool]) -> tuple[str, ...]:
    """Write back and lazily unmount what is mounted from a device; return the mount points.

    Args:
        device: The block device.
        run: Runs a call that may block, and says whether it ended.
    """
    points = [Path(use.where) for use in device_uses(device) if use.kind == "mount"]
    removed = []
    for point in reversed(points):

        def write_back(point: Path = point) -> None:
            fd = os.open(point, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sync_file_system(fd)
            finally:
                os.close(fd)

        def unmount(point: Path = point) -> None:
            unmount_lazily(point)

        with suppress(OSError):
            run(write_back)
        with suppress(OSError):
            if run(unmount):
                removed.append(str(point))
    return tuple(removed)


def _flush(fd: int, device: Path) -> None:
    try:
        ended = Blocking(lambda: os.fsync(fd)).ended(_FLUSH_SECONDS)
    except OSError as err:
        raise DiskError(
            f"{device} could not be flushed: {err.strerror}",
            hint="close it with --force to give up what was not written",
        ) from err
    if not ended:
        raise DiskError(
            f"{device} was not flushed within {_FLUSH_SECONDS:.0f} seconds",
            hint="wait for the disk, or close with --force to give up what was not written",
        )


def _await_visitors(device: Path) -> None:
    """Wait for programs that have the device open without a claim, for a moment."""
    end = time.monotonic() + _VISITOR_SECONDS
    while visitors := processes_with(device):
        if time.monotonic() > end:
            raise in_use(device, visitors)
        time.sleep(0.05)


def _give_up(backend: Backend) -> int | None:
    """Free the device by force; return a claim on it, or ``None`` if it cannot be had."""
    aborted = False

    def run(call: Callable[[], None]) -> bool:
        nonlocal aborted
        waiting = Blocking(call)
        if waiting.ended(_AFTER_ABORT_SECONDS if aborted else _FORCED_STEP_SECONDS):
            return True
        if not aborted:
            aborted = True
            backend.abort()
        return waiting.ended(_AFTER_ABORT_SECONDS)

    unmount_all(backend.block_device, run)
    try:
        claimed = claim(backend.block_device)
    except MountedError:
        # Somebody in a mount namespace we do not see, a stacked device, or a program that works in
        # an unmounted file system: from now on they get errors.
        if not aborted:
            backend.abort()
        return None
    with suppress(OSError):
        run(lambda: os.fsync(claimed))
    return claimed

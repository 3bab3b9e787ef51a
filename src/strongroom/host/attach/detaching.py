# SPDX-License-Identifier: Apache-2.0
"""Take a block device away: flushed if that is possible at all, and never waiting without an end.

A device whose server hangs keeps everybody who waits for it in an uninterruptible sleep. So what
may block runs in a thread, and when its time is up the device is cut off from its server, which
ends every wait with an error.

A file system that is mounted stays mounted, whatever happens: on a device that has been cut off it
gives errors. Without it, programs would go on writing to the directory below, in clear.
"""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.errors import DiskError, MountedError, StrongroomError
from strongroom.host.attach._bounded import Blocking
from strongroom.host.attach._libc import shut_down_file_system, sync_file_system
from strongroom.host.attach.backend import Attached, Backend
from strongroom.host.attach.link import remove_link
from strongroom.host.attach.usage import claim, device_uses, in_use, processes_with

_FLUSH_SECONDS: Final = 120.0
"""Enough for gigabytes of cached writes on a slow disk; a flush in progress is not a hang."""
FORCED_FLUSH_SECONDS: Final = 10.0
"""How long a forced end writes back before it gives up what is not written by then."""
_AFTER_ABORT_SECONDS: Final = 5.0
_FLUSH_DEVICE: Final = 0x1261
"""``BLKFLSBUF``: writes back a device and the file system on it, wherever that is mounted."""
_VISITOR_SECONDS: Final = 2.0
"""How long programs that look at a device for a moment, such as udev's, may keep it."""
_COPIES_SECONDS: Final = 3.0
"""How long a mount namespace that is just being made may hold copies of mounts that are gone here:
a container's or a service's, and for some milliseconds that of an enclave that starts."""


def _not_in_a_hurry() -> bool:
    return False


def write_back(
    attached: Attached, seconds: float, *, unless: Callable[[], bool] = _not_in_a_hurry
) -> bool:
    """Write back what the file systems on a device and the kernel hold of it.

    Only those of this device are waited for, whatever else hangs on the machine. It never raises:
    what fails is told by the flush of the device, or by the enclave.

    Args:
        attached: The device.
        seconds: The limit.
        unless: Asked again and again; once it says yes, nothing is waited for any more.

    Returns:
        Whether it ended in time.
    """
    if attached.backend is None or attached.backend.closed:
        return True
    device = attached.backend.block_device
    return Blocking(lambda: _write_back_mounted(device)).ended(seconds, unless=unless)


def detach(
    attached: Attached,
    *,
    force: bool,
    flush_seconds: float = FORCED_FLUSH_SECONDS,
    unless: Callable[[], bool] = _not_in_a_hurry,
) -> tuple[str, ...]:
    """Flush and take away what :func:`attach` made. Doing it twice is harmless.

    Without ``force`` either everything is flushed and gone, or an error says why not and the device
    stays. With ``force`` it ends within ``flush_seconds`` and about 10 seconds more, whatever
    hangs: what was written goes to the disk as far as the server answers, and then the device is
    cut off. What is mounted stays mounted and gives errors; the device goes when that is unmounted.

    Args:
        attached: What is to go.
        force: Go on although the device is in use.
        flush_seconds: How long a forced end may write back.
        unless: Asked while a flush is waited for without force; once it says yes, that fails.

    Returns:
        Where the file systems are mounted that give errors from now on.

    Raises:
        MountedError: The device, or one stacked on it, is mounted, swap or open (never with
            ``force``).
        DiskError: What was written could not be flushed (never with ``force``).
    """
    backend = attached.backend
    if backend is None or backend.closed:
        return ()
    left: tuple[str, ...] = ()
    if force:
        claimed, left = _cut_off(backend, flush_seconds)
    else:
        called = attached.device or backend.block_device
        claimed = claim_free(backend.block_device, called=called)
        try:
            _flush(claimed, called, unless)
            _await_visitors(backend.block_device, called)
        except BaseException:
            os.close(claimed)
            raise
    if attached.device is not None:
        remove_link(attached.device, backend.block_device)
    backend.release(claimed)
    return left


def claim_free(device: Path, *, called: Path | None = None) -> int:
    """Claim a device that is free, and return the descriptor; messages say ``called``.

    Raises:
        MountedError: Somebody does; the message names who.
    """
    end = time.monotonic() + _COPIES_SECONDS
    while True:
        uses = device_uses(device)
        if uses:
            raise in_use(called or device, uses)
        try:
            return claim(device, called=called)
        except MountedError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def end_file_systems(device: Path) -> tuple[str, ...]:
    """Have every file system on a dead device refuse all access at once; return the mount points.

    Without this they refuse only what needs the device, and take writes that are lost later. Which
    file system cannot do it, does that.
    """
    uses = device_uses(device)
    points = tuple(use.where for use in uses if use.kind == "mount")
    dead = _numbers_of(device, *(Path(use.where) for use in uses if use.kind == "device"))
    Blocking(lambda: _shut_down(points, dead)).ended(_AFTER_ABORT_SECONDS)
    return points


def _flush(fd: int, device: Path, unless: Callable[[], bool]) -> None:
    try:
        ended = Blocking(lambda: os.fsync(fd)).ended(_FLUSH_SECONDS, unless=unless)
    except OSError as err:
        raise DiskError(
            f"{device} could not be flushed: {err.strerror}",
            hint="close it with --force to give up what was not written",
        ) from err
    if not ended and unless():
        raise DiskError(f"{device} is being closed by force")
    if not ended:
        raise DiskError(
            f"{device} was not flushed within {_FLUSH_SECONDS:.0f} seconds",
            hint="wait for the disk, or close with --force to give up what was not written",
        )


def _await_visitors(device: Path, called: Path) -> None:
    """Wait for programs that have the device open without a claim, for a moment."""
    end = time.monotonic() + _VISITOR_SECONDS
    while visitors := processes_with(device):
        if time.monotonic() > end:
            raise in_use(called, visitors)
        time.sleep(0.05)


def _cut_off(backend: Backend, flush_seconds: float) -> tuple[int | None, tuple[str, ...]]:
    """Write back, then free the device by force.

    Returns:
        A claim on the device, or ``None`` if it is in use; and the mount points of what is on it.
    """
    device = backend.block_device
    try:
        claimed = claim(device)
    except StrongroomError:
        # Mounted, perhaps in a mount namespace that does not show here, or below another device.
        writing = Blocking(lambda: _write_back_mounted(device))
        writing.ended(flush_seconds)
        backend.abort()
        # It has the mount points open, which then could not be unmounted.
        writing.ended(_AFTER_ABORT_SECONDS)
        return None, end_file_systems(device)
    flushing = Blocking(lambda: os.fsync(claimed))
    with suppress(OSError):
        if not flushing.ended(flush_seconds):
            backend.abort()
            flushing.ended(_AFTER_ABORT_SECONDS)
    return claimed, ()


def _write_back_mounted(device: Path) -> None:
    for use in device_uses(device):
        if use.kind == "mount":
            _on_opened(use.where, sync_file_system)
    _on_opened(str(device), lambda fd: fcntl.ioctl(fd, _FLUSH_DEVICE))


def _shut_down(points: tuple[str, ...], dead: frozenset[int]) -> None:
    def shut_down(fd: int) -> None:
        # Another file system may be mounted over it, at the same path.
        if os.fstat(fd).st_dev in dead:
            shut_down_file_system(fd)

    for point in points:
        _on_opened(point, shut_down)


def _numbers_of(*devices: Path) -> frozenset[int]:
    found = set()
    for device in devices:
        with suppress(OSError):
            found.add(device.stat().st_rdev)
    return frozenset(found)


def _on_opened(path: str, call: Callable[[int], object]) -> None:
    """Call with a descriptor of a path; errors are those of a device that is given up."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            call(fd)
        finally:
            os.close(fd)

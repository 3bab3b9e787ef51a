# SPDX-License-Identifier: Apache-2.0
"""Attach by FUSE and a loop device: works on nearly every Linux, needs no NBD in the kernel.

::

    /dev/loopN -- direct I/O --> one file -- /dev/fuse --> the enclave

This side opens ``/dev/fuse``, mounts it and passes the descriptors to the enclave, which answers
the kernel itself. The file is visible only for the moment in which the loop device takes it: its
mount is then detached from the tree, and lives as long as the loop device holds the file. So nobody
else can open it, and a crash cannot leave a mount behind: when the host dies, the loop device
clears itself, and the mount ends; when the enclave dies, its descriptors do, and the kernel fails
what still waits for them.

Spec: fuse(4); the kernel's Documentation/filesystems/fuse.
"""

import dataclasses
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.errors import InternalError, NoFuseError, NoPermissionError, PlatformError
from strongroom.host.attach import loop
from strongroom.host.attach._bounded import wait_until
from strongroom.host.attach._libc import mount, unmount_lazily
from strongroom.host.attach.plan import AttachPlan
from strongroom.host.attach.record import ATTACHMENTS, Record
from strongroom.host.attach.usage import mounts
from strongroom.host.runtime import place

if TYPE_CHECKING:
    # It needs the Rust core at run time, which this package does not.
    from strongroom.host.contracts import FuseServing

FUSE_NODE: Final = Path("/dev/fuse")
FILE_SYSTEM: Final = "fuse.strongroom"

_THREADS: Final = 4
"""Descriptors, each with a thread of the enclave's. With an image in memory, two are as fast on two
cores; a disk wants more in flight."""
_CLONE: Final = 0x8004E500
"""``FUSE_DEV_IOC_CLONE``: makes a fresh descriptor one more of a mounted one's connection."""
_MAX_READ_BYTES: Final = 1 << 20
_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_UNBIND_SECONDS: Final = 5.0


def check_fuse() -> None:
    """Find out without side effects whether FUSE can be used.

    Raises:
        NoFuseError: The driver is missing.
        NoPermissionError: The caller may not use it.
    """
    if not FUSE_NODE.exists():
        raise NoFuseError(f"{FUSE_NODE} is missing", hint="load the driver: `modprobe fuse`")
    if not os.access(FUSE_NODE, os.R_OK | os.W_OK):
        raise NoPermissionError(f"no permission to use {FUSE_NODE}", hint="run as root")


@dataclasses.dataclass(slots=True)
class FuseBackend:
    """A loop device over a file that the enclave serves."""

    block_device: Path
    record: Record
    abort_fd: int
    fd: int
    closed: bool = False

    def abort(self) -> None:
        """End the connection to the enclave: every request that waits for it fails at once."""
        with suppress(OSError):
            os.write(self.abort_fd, b"1")

    def release(self, claim_fd: int | None) -> bool:
        """Clear the loop device; the mount, and what the enclave does for it, ends with that."""
        self.closed = True
        gone = release_loop(self.block_device, self.fd, claim_fd)
        os.close(self.abort_fd)
        return gone


def attach_fuse(plan: AttachPlan, serve: "FuseServing") -> FuseBackend:
    """Attach a volume by FUSE and a loop device.

    Args:
        plan: What is to be attached.
        serve: Has the enclave serve it.

    Raises:
        NoFuseError: FUSE is not available.
        NoLoopError: No loop device is available.
        NoPermissionError: The caller may not do this.
        PlatformError: The kernel refused a setting.
        InternalError: The enclave's file has another size than the volume.
    """
    check_fuse()
    with ExitStack() as undo:
        directory = make_directory(plan, undo)
        with _mounted(plan, directory, undo) as devices:
            abort_fd = _open_abort(directory, undo)
            serve(devices, plan.tag.text)
        device = bind(plan, directory / plan.tag.text)
        record: Record = {
            "kind": "fuse",
            "name": plan.name,
            "tag": plan.tag.text,
            "device": str(device.path),
            "fuse_directory": str(directory),
        }
        detach_mount(directory)
        remove_directory(directory)
        undo.pop_all()
        return FuseBackend(device.path, record, abort_fd, device.fd)


def make_directory(plan: AttachPlan, undo: ExitStack) -> Path:
    """Make the attachment's own directory, to be removed if what follows fails."""
    directory = plan.runtime.resolve() / ATTACHMENTS / plan.tag.nonce
    with place.translating(directory):
        directory.mkdir(parents=True, mode=0o700)
    undo.callback(remove_directory, directory)
    return directory


def bind(plan: AttachPlan, file: Path) -> loop.LoopDevice:
    """Put a loop device on the one file of a mounted file system.

    Raises:
        InternalError: The file has another size than the volume.
        NoFuseError: The file cannot be opened.
        PlatformError: As :func:`loop.make_loop`.
    """
    try:
        fd = os.open(file, (os.O_RDONLY if plan.read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as err:
        raise NoFuseError(f"the volume's file cannot be opened: {err.strerror}") from err
    try:
        size = os.fstat(fd).st_size
        if size != plan.size_bytes:
            raise InternalError(f"the export has {size} bytes, the volume {plan.size_bytes}")
        return loop.make_loop(
            fd,
            sector_size_bytes=plan.sector_size_bytes,
            read_only=plan.read_only,
            tag=plan.tag.text,
        )
    finally:
        os.close(fd)


def release_loop(device: Path, fd: int, claim_fd: int | None) -> bool:
    """Clear a loop device by our last descriptor of it, and say whether it is gone."""
    last = fd
    if claim_fd is not None:
        # As the last user and under its claim: nobody can mount the device any more.
        os.close(fd)
        last = claim_fd
    loop.clear(last)
    os.close(last)
    if claim_fd is None:
        # It goes with its last user.
        return not loop.is_bound(device)
    return wait_until(lambda: not loop.is_bound(device), _UNBIND_SECONDS)


def detach_mount(directory: Path) -> None:
    """Take the mount out of the tree, if it is there."""
    with suppress(OSError):
        unmount_lazily(directory)


def remove_directory(directory: Path) -> None:
    """Remove the attachment's directory, and the one above if it was the last."""
    for path in (directory, directory.parent):
        with suppress(OSError):
            path.rmdir()


@contextmanager
def _mounted(plan: AttachPlan, directory: Path, undo: ExitStack) -> Iterator[tuple[int, ...]]:
    """Mount a file system and give its descriptors, which are closed at the end of the block.

    Only the enclave's copies may stay: the kernel ends the connection with the last.
    """
    devices: list[int] = []
    try:
        devices.append(_open_node())
        options = (
            f"fd={devices[0]},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},"
            f"max_read={_MAX_READ_BYTES}"
        )
        try:
            mount("strongroom", directory, FILE_SYSTEM, options, read_only=plan.read_only)
        except PermissionError as err:
            raise NoPermissionError("no permission to mount FUSE", hint="run as root") from err
        except OSError as err:
            raise NoFuseError(f"FUSE cannot be mounted: {err.strerror}") from err
        undo.callback(detach_mount, directory)
        while len(devices) < _THREADS:
            devices.append(_open_node())
            fcntl.ioctl(devices[-1], _CLONE, struct.pack("=I", devices[0]))
        yield tuple(devices)
    except OSError as err:
        raise PlatformError(f"{FUSE_NODE} cannot be used: {err.strerror}") from err
    finally:
        for device in devices:
            os.close(device)


def _open_node() -> int:
    return os.open(FUSE_NODE, os.O_RDWR | os.O_CLOEXEC)


def _open_abort(directory: Path, undo: ExitStack) -> int:
    """Open what cuts the connection off, now: the mount cannot be found once it is detached.

    Nobody answers yet, so the directory itself must not be asked for anything.
    """
    numbers = [item.device_number for item in mounts() if item.mount_point == directory]
    if not numbers:
        raise PlatformError(f"the mount at {directory} does not show")
    switch = Path(numbers[-1].partition(":")[2]) / "abort"
    try:
        fd = os.open(_CONNECTIONS / switch, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = _open_abort_elsewhere(directory, switch)
    undo.callback(os.close, fd)
    return fd


def _open_abort_elsewhere(directory: Path, switch: Path) -> int:
    """Mount FUSE's control files for a moment, where nobody has mounted them for good."""
    place = directory.with_name(f"{directory.name}-control")
    place.mkdir(mode=0o700)
    try:
        mount("fusectl", place, "fusectl", "", read_only=False)
        try:
            return os.open(place / switch, os.O_WRONLY | os.O_CLOEXEC)
        finally:
            unmount_lazily(place)
    except OSError as err:
        raise NoFuseError(f"FUSE's control files cannot be used: {err.strerror}") from err
    finally:
        place.rmdir()

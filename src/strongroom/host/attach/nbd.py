# SPDX-License-Identifier: Apache-2.0
"""Attach by the kernel's own NBD client: the fastest way, where the kernel has it.

The handshake is ours, then the sockets go to the kernel. The device disconnects when its last user
closes it, and the host holds it open: so a killed host leaves no device, unless it is mounted, and
then :mod:`~strongroom.host.attach.stale` finds it by its tag.

Requests never time out: a slow disk is not an error, and failing writes would lose data. When the
connection is dead, requests fail at once.

Quirk: one connection, though the enclave could serve more. The kernel receives each connection's
replies in an endless work item of one queue; when a worker thread cannot be had at once, as under
memory pressure, the queue's rescuer takes all items in turn, gets stuck in the first, and the other
connections' replies are never read (seen with Linux 6.1 on a slow machine). Also, only with one
connection does a timeout of 0 mean "never".

Spec: linux/nbd.h, linux/nbd-netlink.h.
"""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import (
    BoundaryError,
    InternalError,
    NoKernelNbdError,
    NoPermissionError,
    PlatformError,
)
from strongroom.host.attach import nbd_handshake
from strongroom.host.attach._bounded import wait_until
from strongroom.host.attach._netlink import (
    GenericNetlink,
    pack,
    pack_nested,
    pack_u32,
    pack_u64,
)
from strongroom.host.attach.plan import AttachPlan
from strongroom.host.attach.record import Record

_FAMILY: Final = "nbd"
_CONNECT: Final = 1
_DISCONNECT: Final = 2
_RECONFIGURE: Final = 3

_INDEX: Final = 1
_SIZE_BYTES: Final = 2
_BLOCK_SIZE_BYTES: Final = 3
_TIMEOUT: Final = 4
_SERVER_FLAGS: Final = 5
_CLIENT_FLAGS: Final = 6
_SOCKETS: Final = 7
_DEAD_CONN_TIMEOUT: Final = 8
_BACKEND_IDENTIFIER: Final = 10
_SOCK_ITEM: Final = 1
_SOCK_FD: Final = 1
_DISCONNECT_ON_CLOSE: Final = 1 << 1

_SECTOR_BYTES: Final = 512
_NEVER: Final = 0
_NODE_SECONDS: Final = 5.0
_GONE_SECONDS: Final = 5.0
_MODPROBE_SECONDS: Final = 20.0


def check_nbd() -> None:
    """Find out whether the kernel's NBD client can be used, and load it if that is all it needs.

    Raises:
        NoKernelNbdError: The kernel has none.
        NoPermissionError: The caller may not use it.
    """
    loaded = "" if Path("/sys/module/nbd").exists() else _load()
    if loaded:
        raise NoKernelNbdError(
            f"the kernel has no NBD client (no /dev/nbd0, {loaded})",
            hint="load the module: `modprobe nbd`, or choose --attach fuse",
        )
    if os.geteuid() != 0:
        raise NoPermissionError("no permission to use the kernel's NBD client", hint="run as root")


@dataclass(slots=True)
class NbdBackend:
    """A device of the kernel's NBD client, held open by ``fd``."""

    block_device: Path
    record: Record
    index: int
    fd: int
    closed: bool = False

    def abort(self) -> None:
        """Disconnect: every request fails at once."""
        disconnect(self.index)

    def release(self, claim_fd: int | None) -> bool:
        """Disconnect and wait until the device is empty."""
        self.closed = True
        disconnect(self.index)
        os.close(self.fd)
        if claim_fd is None:
            # It goes with its last user.
            return not is_connected(self.index)
        os.close(claim_fd)
        return wait_until(lambda: not is_connected(self.index), _GONE_SECONDS)


def attach_nbd(plan: AttachPlan) -> NbdBackend:
    """Attach a volume by the kernel's NBD client.

    Raises:
        NoKernelNbdError: The kernel has none.
        NoPermissionError: The caller may not do this.
        PlatformError: The kernel refused, or the device did not appear.
        BoundaryError: The server broke the protocol.
        InternalError: The server's export has another size than the volume.
    """
    check_nbd()
    with ExitStack() as undo:
        connection = nbd_handshake.connect(plan.socket)
        undo.callback(connection.socket.close)
        _check_export(plan, connection.export)
        try:
            index = _connect_device(plan, connection)
        except OSError as err:
            raise _refused(err) from err
        undo.callback(disconnect, index)
        device = Path(f"/dev/nbd{index}")
        fd = _open_when_ready(device, index, plan.size_bytes)
        undo.callback(os.close, fd)
        # Only now that we hold it: a program that looks at every new device would end it.
        with GenericNetlink(_FAMILY) as kernel:
            kernel.ask(
                _RECONFIGURE,
                pack_u32(_INDEX, index)
                + pack(_BACKEND_IDENTIFIER, plan.tag.text.encode() + b"\0")
                + pack_u64(_CLIENT_FLAGS, _DISCONNECT_ON_CLOSE),
            )
        record = _record(plan, index)
        undo.pop_all()
        connection.socket.close()
        return NbdBackend(device, record, index, fd)


def _record(plan: AttachPlan, index: int) -> Record:
    return {
        "kind": "nbd",
        "name": plan.name,
        "tag": plan.tag.text,
        "device": f"/dev/nbd{index}",
        "index": index,
        "host_pid": os.getpid(),
    }


def disconnect(index: int) -> None:
    """Disconnect a device; one that is not connected is left alone."""
    with suppress(OSError), GenericNetlink(_FAMILY) as kernel:
        kernel.ask(_DISCONNECT, pack_u32(_INDEX, index))


def is_connected(index: int) -> bool:
    """Say whether a device has a configuration, alive or dead."""
    return (Path("/sys/block") / f"nbd{index}" / "pid").exists()


def tag_of(index: int) -> str:
    """Return the tag of a device; empty if it has none. Kernels before 5.14 do not tell."""
    try:
        return (Path("/sys/block") / f"nbd{index}" / "backend").read_text().strip()
    except OSError:
        return ""


def owner_of(index: int) -> int:
    """Return the pid of the process that connected a device, as the kernel remembers it, or -1."""
    try:
        return int((Path("/sys/block") / f"nbd{index}" / "pid").read_text())
    except (OSError, ValueError):
        return -1


def _load() -> str:
    """Load the module and return why that did not work, or an empty string."""
    if shutil.which("modprobe") is None:
        return "and modprobe is not installed"
    try:
        done = subprocess.run(
            ["modprobe", "nbd"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_MODPROBE_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "modprobe does not end"
    if done.returncode == 0:
        return ""
    return f"modprobe failed: {done.stderr.strip() or done.returncode}"


def _check_export(plan: AttachPlan, export: nbd_handshake.Export) -> None:
    if export.size_bytes != plan.size_bytes:
        raise InternalError(
            f"the export has {export.size_bytes} bytes, the volume {plan.size_bytes}"
        )
    if not export.flags & nbd_handshake.HAS_FLAGS:
        raise BoundaryError("the server sent no transmission flags")
    if export.minimum_block_bytes > plan.sector_size_bytes:
        raise BoundaryError(f"the server wants blocks of {export.minimum_block_bytes} bytes")


def _connect_device(plan: AttachPlan, connection: nbd_handshake.Connection) -> int:
    """Give the socket to the kernel, which picks a free device, and return its number."""
    read_only = nbd_handshake.READ_ONLY if plan.read_only else 0
    item = pack_nested(_SOCK_ITEM, pack_u32(_SOCK_FD, connection.socket.fileno()))
    with GenericNetlink(_FAMILY) as kernel:
        answer = kernel.ask(
            _CONNECT,
            pack_u64(_SIZE_BYTES, plan.size_bytes)
            + pack_u64(_BLOCK_SIZE_BYTES, plan.sector_size_bytes)
            + pack_u64(_TIMEOUT, _NEVER)
            + pack_u64(_DEAD_CONN_TIMEOUT, 0)
            + pack_u64(_SERVER_FLAGS, connection.export.flags | read_only)
            + pack(_BACKEND_IDENTIFIER, plan.tag.text.encode() + b"\0")
            + pack_nested(_SOCKETS, item),
        )
    for kind, data in answer:
        if kind == _INDEX and len(data) == 4:  # noqa: PLR2004 - a 32-bit number
            return int.from_bytes(data, sys.byteorder)
    raise PlatformError("the kernel connected a device and did not say which")


def _open_when_ready(device: Path, index: int, size_bytes: int) -> int:
    """Open the device when its node is there and it has its size; no udev is needed for that."""
    size = Path("/sys/block") / f"nbd{index}" / "size"

    def ready() -> bool:
        with suppress(OSError, ValueError):
            return int(size.read_text()) * _SECTOR_BYTES == size_bytes and device.exists()
        return False

    if not wait_until(ready, _NODE_SECONDS):
        raise PlatformError(f"{device} did not appear with its size")
    return os.open(device, os.O_RDONLY | os.O_CLOEXEC)


def _refused(err: OSError) -> PlatformError:
    if err.errno in {errno.EACCES, errno.EPERM}:
        return NoPermissionError("no permission to use the kernel's NBD client", hint="run as root")
    if err.errno == errno.ENOENT:
        return NoKernelNbdError("the kernel's NBD client has no netlink interface")
    return PlatformError(f"the kernel's NBD client refused the volume: {err.strerror}")

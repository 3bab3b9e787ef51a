# SPDX-License-Identifier: Apache-2.0
"""Attach by FUSE and a loop device: works on nearly every Linux, needs no NBD in the kernel.

::

    /dev/loopN -- direct I/O --> one file, served by nbdfuse -- NBD --> the volume's socket

The file is visible only for the moment in which the loop device takes it: its mount is then
detached from the tree, and lives as long as the loop device holds the file. So nobody else can open
it, and a crash cannot leave a mount behind: when the host dies, the loop device clears itself, the
mount ends, and nbdfuse with it. fsync, discard and zeroing on the device reach the server as
NBD's flush, trim and write-zeroes.
"""

import dataclasses
import os
import select
import shutil
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from strongroom.errors import InternalError, NoFuseError, NoPermissionError, PlatformError
from strongroom.host.attach import loop
from strongroom.host.attach._bounded import wait_until
from strongroom.host.attach._libc import io_flusher, unmount_lazily
from strongroom.host.attach.plan import AttachPlan
from strongroom.host.attach.record import Record, process_started
from strongroom.values import dataclass

FUSE_NODE: Final = Path("/dev/fuse")

_READY_SECONDS: Final = 20.0
_EXIT_SECONDS: Final = 3.0
_UNBIND_SECONDS: Final = 5.0
_MESSAGE_LIMIT: Final = 2000
_PIPE_BYTES: Final = 65536


def check_fuse() -> None:
    """Find out without side effects whether FUSE can be used.

    Raises:
        NoFuseError: The driver or nbdfuse is missing.
        NoPermissionError: The caller may not use it.
    """
    if not FUSE_NODE.exists():
        raise NoFuseError(f"{FUSE_NODE} is missing", hint="load the driver: modprobe fuse")
    if shutil.which("nbdfuse") is None:
        raise NoFuseError("nbdfuse is not installed", hint="install it: apt-get install nbdfuse")
    if not os.access(FUSE_NODE, os.R_OK | os.W_OK):
        raise NoPermissionError(f"no permission to use {FUSE_NODE}", hint="run as root")


@dataclass(frozen=True, slots=True)
class FuseProcess:
    """A running nbdfuse and the pipe with its complaints."""

    process: subprocess.Popen[bytes]
    errors: int


@dataclasses.dataclass(slots=True)
class FuseBackend:
    """A loop device over nbdfuse."""

    block_device: Path
    record: Record
    helper: FuseProcess
    fd: int
    closed: bool = False

    def abort(self) -> None:
        """Kill nbdfuse: every request that waits for it fails at once."""
        self.helper.process.kill()

    def release(self, claim_fd: int | None) -> bool:
        """Clear the loop device and wait for nbdfuse to end."""
        self.closed = True
        last = self.fd
        if claim_fd is not None:
            # As the last user and under its claim: nobody can mount the device any more.
            os.close(self.fd)
            last = claim_fd
        loop.clear(last)
        os.close(last)
        gone = wait_until(lambda: not loop.is_bound(self.block_device), _UNBIND_SECONDS)
        end_process(self.helper.process)
        os.close(self.helper.errors)
        return gone


def attach_fuse(plan: AttachPlan) -> FuseBackend:
    """Attach a volume by FUSE and a loop device.

    Call it on the main thread: nbdfuse gets a signal when the thread that started it ends.

    Raises:
        NoFuseError: FUSE is not available.
        NoLoopError: No loop device is available.
        NoPermissionError: The caller may not do this.
        PlatformError: nbdfuse failed or was not ready in time, or the kernel refused a setting.
        InternalError: The server's export has another size than the volume.
    """
    check_fuse()
    directory = plan.runtime / "fuse" / plan.tag.nonce
    with ExitStack() as undo:
        directory.mkdir(parents=True, mode=0o700)
        undo.callback(_remove_directory, directory)
        helper = _start(plan, directory, undo)
        undo.callback(_detach_mount, directory)
        device = _bind(plan, directory / plan.tag.text)
        record: Record = {
            "kind": "fuse",
            "name": plan.name,
            "tag": plan.tag.text,
            "device": str(device.path),
            "fuse_directory": str(directory),
            "helper_pid": helper.process.pid,
            "helper_started": process_started(helper.process.pid),
        }
        _detach_mount(directory)
        _remove_directory(directory)
        undo.pop_all()
        return FuseBackend(device.path, record, helper, device.fd)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Wait for nbdfuse, which ends by itself when its mount is gone; else end it."""
    for attempt in (None, signal.SIGTERM, signal.SIGKILL):
        if attempt is not None:
            process.send_signal(attempt)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_EXIT_SECONDS)
            return


def _start(plan: AttachPlan, directory: Path, undo: ExitStack) -> FuseProcess:
    """Start nbdfuse and wait until it serves; it writes its pid to a pipe then."""
    ready, ready_write = os.pipe()
    # nbdfuse complains about every failed request. A full pipe must lose words, not stop it.
    errors, errors_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    undo.callback(os.close, errors)
    try:
        with io_flusher():
            process = subprocess.Popen(
                _command(plan, directory, ready_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors_write,
                pass_fds=(ready_write,),
                start_new_session=True,
            )
        undo.callback(end_process, process)
        undo.callback(process.kill)
        os.close(ready_write)
        ready_write = -1
        _wait_ready(process, ready, errors)
        return FuseProcess(process, errors)
    finally:
        for fd in (ready, ready_write, errors_write):
            if fd >= 0:
                os.close(fd)


def _command(plan: AttachPlan, directory: Path, ready_fd: int) -> list[str]:
    command = [*_ending_with_this_process(), "nbdfuse"]
    command += [
        "--connections",
        str(plan.connections),
        "--pidfile",
        f"/dev/fd/{ready_fd}",
    ]
    if plan.read_only:
        command.append("--readonly")
    socket = quote(str(plan.socket.resolve()))
    return [*command, str(directory / plan.tag.text), f"nbd+unix:///?socket={socket}"]


def _ending_with_this_process() -> list[str]:
    """Return what a command is put behind so that it ends when this process is killed.

    The kernel signals only those whose parent dies after they asked for it: so once they have, they
    look whether the parent is still there.
    """
    if shutil.which("setpriv") is None:
        return []
    alive = 'test "$PPID" -eq "$0" && exec "$@"'
    return ["setpriv", "--pdeathsig", "TERM", "sh", "-c", alive, str(os.getpid())]


def _wait_ready(process: subprocess.Popen[bytes], ready: int, errors: int) -> None:
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(ended, select.POLLIN)
        events = dict(poll.poll(_READY_SECONDS * 1000))
    finally:
        os.close(ended)
    if events.get(ready, 0) & select.POLLIN:
        return
    message = _message(errors)
    if not events:
        raise PlatformError(f"nbdfuse was not ready after {_READY_SECONDS:.0f} seconds: {message}")
    if "fuse:" in message or "fusermount" in message:
        raise NoFuseError(f"nbdfuse failed: {message}", hint="see strongroom doctor")
    raise PlatformError(f"nbdfuse failed: {message}")


def _message(errors: int) -> str:
    """Return the end of what nbdfuse said, on one line."""
    data = b""
    with suppress(BlockingIOError):
        data = os.read(errors, _PIPE_BYTES)
    lines = data[-_MESSAGE_LIMIT:].decode(errors="replace").split("\n")
    return "; ".join(line.strip() for line in lines if line.strip()) or "no message"


def _bind(plan: AttachPlan, file: Path) -> loop.LoopDevice:
    try:
        fd = os.open(file, (os.O_RDONLY if plan.read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as err:
        raise NoFuseError(f"nbdfuse's file cannot be opened: {err.strerror}") from err
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


def _detach_mount(directory: Path) -> None:
    with suppress(OSError):
        unmount_lazily(directory)


def _remove_directory(directory: Path) -> None:
    for path in (directory, directory.parent):
        with suppress(OSError):
            path.rmdir()

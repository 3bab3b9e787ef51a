# SPDX-License-Identifier: Apache-2.0
"""Attach by FUSE and a loop device where the enclave cannot be passed a descriptor.

::

    /dev/loopN -- direct I/O --> one file, served by nbdfuse -- NBD --> the volume's socket

As in :mod:`strongroom.host.attach.fuse`, but a program stands between the kernel and the enclave,
which ends when its mount does.
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

from strongroom.errors import NoFuseError, PlatformError
from strongroom.host.attach._libc import io_flusher
from strongroom.host.attach.fuse import (
    bind,
    check_fuse,
    detach_mount,
    make_directory,
    release_loop,
    remove_directory,
)
from strongroom.host.attach.plan import AttachPlan
from strongroom.host.attach.record import Record, process_started
from strongroom.values import dataclass

_READY_SECONDS: Final = 20.0
_EXIT_SECONDS: Final = 3.0
_MESSAGE_LIMIT: Final = 2000
_PIPE_BYTES: Final = 65536


def check_nbdfuse() -> None:
    """Find out without side effects whether nbdfuse can be used.

    Raises:
        NoFuseError: The driver or nbdfuse is missing.
        NoPermissionError: The caller may not use it.
    """
    check_fuse()
    if shutil.which("nbdfuse") is None:
        raise NoFuseError("nbdfuse is not installed", hint="it is in `apt-get install libnbd-bin`")


@dataclass(frozen=True, slots=True)
class Helper:
    """A running nbdfuse and the pipe with its complaints."""

    process: subprocess.Popen[bytes]
    errors: int


@dataclasses.dataclass(slots=True)
class NbdfuseBackend:
    """A loop device over nbdfuse."""

    block_device: Path
    record: Record
    helper: Helper
    fd: int
    closed: bool = False

    def abort(self) -> None:
        """Kill nbdfuse: every request that waits for it fails at once."""
        self.helper.process.kill()

    def release(self, claim_fd: int | None) -> bool:
        """Clear the loop device and wait for nbdfuse to end."""
        self.closed = True
        gone = release_loop(self.block_device, self.fd, claim_fd)
        end_process(self.helper.process)
        os.close(self.helper.errors)
        return gone


def attach_nbdfuse(plan: AttachPlan) -> NbdfuseBackend:
    """Attach a volume by nbdfuse and a loop device.

    Call it on the main thread: nbdfuse gets a signal when the thread that started it ends.

    Raises:
        NoFuseError: FUSE is not available.
        NoLoopError: No loop device is available.
        NoPermissionError: The caller may not do this.
        PlatformError: nbdfuse failed or was not ready in time, or the kernel refused a setting.
        InternalError: The server's export has another size than the volume.
    """
    check_nbdfuse()
    with ExitStack() as undo:
        directory = make_directory(plan, undo)
        helper = _start(plan, directory, undo)
        undo.callback(detach_mount, directory)
        device = bind(plan, directory / plan.tag.text)
        record: Record = {
            "kind": "fuse",
            "name": plan.name,
            "tag": plan.tag.text,
            "device": str(device.path),
            "fuse_directory": str(directory),
            "helper_pid": helper.process.pid,
            "helper_started": process_started(helper.process.pid),
        }
        detach_mount(directory)
        remove_directory(directory)
        undo.pop_all()
        return NbdfuseBackend(device.path, record, helper, device.fd)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Wait for nbdfuse, which ends by itself when its mount is gone; else end it."""
    for attempt in (None, signal.SIGTERM, signal.SIGKILL):
        if attempt is not None:
            process.send_signal(attempt)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_EXIT_SECONDS)
            return


def _start(plan: AttachPlan, directory: Path, undo: ExitStack) -> Helper:
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
        return Helper(process, errors)
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
        raise NoFuseError(f"nbdfuse failed: {message}", hint="see `strongroom doctor`")
    raise PlatformError(f"nbdfuse failed: {message}")


def _message(errors: int) -> str:
    """Return the end of what nbdfuse said, on one line."""
    data = b""
    with suppress(BlockingIOError):
        data = os.read(errors, _PIPE_BYTES)
    lines = data[-_MESSAGE_LIMIT:].decode(errors="replace").split("\n")
    return "; ".join(line.strip() for line in lines if line.strip()) or "no message"

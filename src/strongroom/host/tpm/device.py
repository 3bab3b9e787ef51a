# SPDX-License-Identifier: Apache-2.0
"""A TPM behind a character device of the kernel: a command is one write, its answer one read.

``/dev/tpmrm0`` is the kernel's resource manager: it gives each open file its own handles, and
flushes what it holds when the file is closed. A command with a handle that it does not know gets
no answer there: its write fails. ``/dev/tpm0`` is the bare chip, for one program.
"""

import contextlib
import errno
import os
import stat
import threading
from typing import Final

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.limits import MAX_BYTES, Deadline, check_response_size

# Without O_NONBLOCK, a serial line in the place of a TPM would hold us while it is opened.
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_HINTS: Final = {
    errno.ENOENT: "this machine shows no TPM; is it enabled in the firmware? --tpm names another",
    errno.ENODEV: "the kernel has no driver for it; --tpm names another",
    errno.ENXIO: "the kernel has no driver for it; --tpm names another",
    errno.EACCES: "add yourself to the group tss, and log in again",
    errno.EPERM: "a container must be given the device",
    errno.EINVAL: "the kernel's resource manager refuses handles that it does not know",
    errno.EBUSY: "another program uses the bare chip; device:/dev/tpmrm0 is shared",
}


class DeviceTransport:
    """See :class:`strongroom.host.tpm.transport.Transport`.

    Each command runs in a thread of its own that blocks in the kernel. ``poll`` would bound
    nothing: the driver takes its buffer's lock there, which it holds for as long as the chip
    works. What does not return in time keeps its duplicate of the descriptor until it does, so
    closing ours never waits either.

    Spec: Linux, drivers/char/tpm/tpm-dev-common.c, ``tpm_common_poll`` and ``tpm_common_release``.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = _open(path)

    def transmit(self, command: bytes, deadline: Deadline) -> bytes:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        exchange = _Exchange(self._fd, command)
        response = exchange.result(deadline)
        check_response_size(len(response))
        return response

    def lost(self) -> bool:
        """Never: a driver that is gone says so at the next command."""
        return False

    def close(self) -> None:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Exchange:
    """One write and one read, in a thread that does not keep the process alive."""

    def __init__(self, fd: int, command: bytes) -> None:
        self._fd = os.dup(fd)
        self._command = command
        self._response = b""
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="tpm-device", daemon=True)
        self._thread.start()

    def result(self, deadline: Deadline) -> bytes:
        self._thread.join(deadline.left())
        if self._thread.is_alive():
            raise deadline.missed()
        if self._error is not None:
            raise TpmTransportError(
                f"the TPM's device failed: {self._error.strerror}",
                hint=_HINTS.get(self._error.errno or 0, ""),
            ) from self._error
        return self._response

    def _run(self) -> None:
        try:
            written = os.write(self._fd, self._command)
            if written != len(self._command):
                raise OSError(errno.EIO, f"it took {written} bytes of {len(self._command)}")
            # One more than is allowed, so that a longer answer is not taken for a shorter one.
            self._response = os.read(self._fd, MAX_BYTES + 1)
        except OSError as err:
            self._error = err
        finally:
            os.close(self._fd)


def _open(path: str) -> int:
    try:
        fd = os.open(path, _OPEN)
    except OSError as err:
        raise TpmTransportError(
            f"cannot open the TPM {path}: {err.strerror}", hint=_HINTS.get(err.errno or 0, "")
        ) from err
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise TpmTransportError(
                f"{path} is not a character device", hint="an swtpm's socket is swtpm:path=..."
            )
        os.set_blocking(fd, True)
        stack.pop_all()
    return fd

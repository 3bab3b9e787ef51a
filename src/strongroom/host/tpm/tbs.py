# SPDX-License-Identifier: Apache-2.0
"""The TPM Base Services of Windows.

**Not run:** written from their documentation and reviewed, but no test has ever run it.

The services give each context its own handles, refuse some commands with 0x80280400, and have no
owner authorisation to give. A call cannot be given a time, so it runs in a thread of its own; what
does not return in time is cancelled, and its context is closed when it has returned.

Spec: Windows, tbs.h: Tbsi_Context_Create, Tbsip_Submit_Command, Tbsip_Cancel_Commands,
Tbsip_Context_Close.
"""

import ctypes
import sys
import threading
from typing import Any, Final

from strongroom.errors import TpmTransportError, UnavailableError
from strongroom.host.tpm.limits import MAX_BYTES, Deadline, check_response_size

_VERSION_TWO: Final = 2
_INCLUDE_TPM20: Final = 1 << 2
_LOCALITY_ZERO: Final = 0
_PRIORITY_NORMAL: Final = 200
_SUCCESS: Final = 0

_REASONS: Final = {
    0x80284008: "the service is not running",
    0x8028400F: "there is no TPM",
    0x80280400: "Windows blocks this command",
}


class TbsTransport:
    """See :class:`strongroom.host.tpm.transport.Transport`."""

    def __init__(self) -> None:
        self._tbs = _library()
        self._context = ctypes.c_void_p()
        self._busy: threading.Thread | None = None
        parameters = _ContextParameters(_VERSION_TWO, _INCLUDE_TPM20)
        _check(
            self._tbs.Tbsi_Context_Create(ctypes.byref(parameters), ctypes.byref(self._context)),
            "opening it failed",
        )

    def transmit(self, command: bytes, deadline: Deadline) -> bytes:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        submission = _Submission(self._tbs, self._context, command)
        self._busy = submission.thread
        self._busy.join(deadline.left())
        if self._busy.is_alive():
            self._tbs.Tbsip_Cancel_Commands(self._context)
            raise deadline.missed()
        self._busy = None
        return submission.response()

    def lost(self) -> bool:
        """Never: the services say so at the next command."""
        return False

    def close(self) -> None:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        context, self._context = self._context, ctypes.c_void_p()
        if context.value is None:
            return
        busy = self._busy
        if busy is None:
            self._tbs.Tbsip_Context_Close(context)
            return

        def close_later() -> None:
            busy.join()
            self._tbs.Tbsip_Context_Close(context)

        threading.Thread(target=close_later, name="tbs-close", daemon=True).start()


class _ContextParameters(ctypes.Structure):
    """TBS_CONTEXT_PARAMS2."""

    _fields_ = (("version", ctypes.c_uint32), ("flags", ctypes.c_uint32))


class _Submission:
    """One command, in a thread that does not keep the process alive."""

    def __init__(self, tbs: Any, context: ctypes.c_void_p, command: bytes) -> None:  # noqa: ANN401
        self._tbs = tbs
        self._context = context
        self._command = command
        self._buffer = ctypes.create_string_buffer(MAX_BYTES)
        self._size = ctypes.c_uint32(MAX_BYTES)
        self._status = 0
        self.thread = threading.Thread(target=self._run, name="tbs-command", daemon=True)
        self.thread.start()

    def response(self) -> bytes:
        """Return the response of a submission that ended."""
        _check(self._status, "the command failed")
        return self._buffer.raw[: check_response_size(self._size.value)]

    def _run(self) -> None:
        self._status = self._tbs.Tbsip_Submit_Command(
            self._context,
            _LOCALITY_ZERO,
            _PRIORITY_NORMAL,
            self._command,
            len(self._command),
            self._buffer,
            ctypes.byref(self._size),
        )


def _library() -> Any:  # noqa: ANN401 - a library has the functions that it has
    if sys.platform == "win32":
        # From the system's own directory only.
        return _with_types(ctypes.WinDLL("tbs.dll", winmode=0x800))
    raise UnavailableError("tbs is Windows' way to a TPM", hint="here it is device:/dev/tpmrm0")


def _with_types(tbs: Any) -> Any:  # noqa: ANN401
    uint32, pointer = ctypes.c_uint32, ctypes.c_void_p
    for name, arguments in (
        ("Tbsi_Context_Create", (pointer, pointer)),
        (
            "Tbsip_Submit_Command",
            (pointer, uint32, uint32, ctypes.c_char_p, uint32, pointer, pointer),
        ),
        ("Tbsip_Cancel_Commands", (pointer,)),
        ("Tbsip_Context_Close", (pointer,)),
    ):
        function = getattr(tbs, name)
        function.argtypes, function.restype = arguments, uint32
    return tbs


def _check(status: int, what: str) -> None:
    if status != _SUCCESS:
        reason = _REASONS.get(status, "see the Windows event log")
        raise TpmTransportError(f"Windows' TPM Base Services: {what} ({status:#010x}: {reason})")

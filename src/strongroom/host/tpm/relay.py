# SPDX-License-Identifier: Apache-2.0
"""One TPM, one command at a time, for as long as a volume or a command needs it."""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, assert_never

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.address import (
    Address,
    DeviceAddress,
    MssimAddress,
    SwtpmAddress,
    SwtpmSocketAddress,
    TabrmdAddress,
    TbsAddress,
)
from strongroom.host.tpm.device import DeviceTransport
from strongroom.host.tpm.limits import (
    AFTER_SILENCE_SECONDS,
    Deadline,
    TimeLimits,
    command_code,
    telling,
)
from strongroom.host.tpm.mssim import MssimTransport
from strongroom.host.tpm.stream import RawStream, connect_tcp, connect_unix
from strongroom.host.tpm.trace import Trace
from strongroom.host.tpm.transport import Transport


class Relay:
    """Carries commands to a TPM, from any thread.

    It connects at the first command, and again between two commands if the connection was lost
    meanwhile: to a TPM behind a resource manager (``/dev/tpmrm0``, the access broker) that is a
    client without handles, and what the enclave had loaded is gone.

    A command is never sent twice. Nobody can tell whether one whose answer was lost was carried
    out: sent again, it would count up a counter twice, try a passphrase twice, or extend a PCR
    twice, and its session's nonces are used up. After any error the connection is closed, because
    the late answer to this command would be the answer to the next.

    A TPM that missed a limit has half a second for each later command, until it answers again: what
    tidies up after an error is not to wait as long once more, for each of its commands.

    Args:
        address: Which TPM.
        trace: Where everything carried is recorded, and closed with this. What cannot be recorded
            is not sent, and an answer that cannot be recorded is not returned.
        limits: How long commands may take.
        notice: Where is said, once, that an answer takes long. It is called from another thread.
    """

    def __init__(
        self,
        address: Address,
        *,
        trace: Trace | None = None,
        limits: TimeLimits | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._address = address
        self._trace = trace
        self._limits = limits or TimeLimits()
        self._notice = notice
        self._is_silent = False
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._closed = False

    def transmit(self, command: bytes) -> bytes:
        """Send one command and return its response, of 10 to 4096 bytes and not checked further.

        Takes at most its limit of :class:`TimeLimits`, after at most the limit of a slow command
        for one of another thread.

        Raises:
            TpmTransportError: The TPM cannot be reached or did not answer; it may have carried the
                command out all the same.
            UnavailableError: This machine has no TPM of this kind.
            InternalError: The bytes are not one command.
            PlatformError: It could not be recorded.
        """
        seconds = self._limits.of(command_code(command))
        if not self._lock.acquire(timeout=self._limits.slow_seconds):
            raise TpmTransportError("the TPM is still busy with an earlier command")
        try:
            if self._is_silent:
                seconds = min(seconds, AFTER_SILENCE_SECONDS)
            with self._telling(seconds):
                return self._transmit(command, Deadline(seconds))
        finally:
            self._lock.release()
            if self._closed:
                self.close()

    def close(self) -> None:
        """End the connection and the trace, now or when the command in flight ends.

        Later commands raise :class:`TpmTransportError`.
        """
        self._closed = True
        if not self._lock.acquire(blocking=False):
            return  # the command in flight closes it
        try:
            self._disconnect()
            if self._trace is not None:
                self._trace.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _telling(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Return a block after whose first seconds the operator is told what it waits for."""
        notice = self._notice
        if notice is None:
            return contextlib.nullcontext()

        def say() -> None:
            self._notice = None
            notice(
                "the TPM has not answered yet: Strongroom waits up to "
                f"{seconds:.3g} seconds for an answer (--tpm-timeout)"
            )

        return telling(say)

    def _transmit(self, command: bytes, deadline: Deadline) -> bytes:
        if self._closed:
            raise TpmTransportError("the way to the TPM was closed")
        if self._transport is not None and self._transport.lost():
            self._disconnect()
        if self._transport is None:
            connecting = deadline.sooner(self._limits.connect_seconds)
            self._transport = connect(self._address, connecting)
        if self._trace is not None:
            self._trace.command(command)
        try:
            response = self._transport.transmit(command, deadline)
        except BaseException:
            self._is_silent = self._is_silent or deadline.is_over
            self._disconnect()
            raise
        self._is_silent = False
        if self._trace is not None:
            self._trace.response(response)
        return response

    def _disconnect(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()


def connect(address: Address, deadline: Deadline) -> Transport:
    """Return a new connection to a TPM.

    Raises:
        TpmTransportError: It cannot be reached.
        UnavailableError: This machine has no TPM of this kind.
    """
    match address:
        case DeviceAddress():
            return DeviceTransport(address.path)
        case SwtpmSocketAddress():
            return RawStream(connect_unix(address.path, deadline))
        case SwtpmAddress():
            return RawStream(connect_tcp(address.host, address.port, deadline))
        case MssimAddress():
            return MssimTransport(address.host, address.port, deadline)
        case TabrmdAddress():
            from strongroom.host.tpm import tabrmd  # noqa: PLC0415 - few have a broker

            return tabrmd.connect(address, tabrmd.bus_socket(address), deadline)
        case TbsAddress():
            from strongroom.host.tpm.tbs import TbsTransport  # noqa: PLC0415 - ctypes loads slowly

            return TbsTransport()
        case _:
            assert_never(address)

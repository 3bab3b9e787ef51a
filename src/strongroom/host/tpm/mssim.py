# SPDX-License-Identifier: Apache-2.0
"""Microsoft's TPM simulator: a port for commands, and one above it for the machine around the TPM.

::

    command port    8 u32 | locality u8 | size u32 | command
                    size u32 | response | 0 u32
    platform port   what to do u32
                    0 u32

On connecting, the power is turned on and NV made available, as libtss2 does it: both do nothing to
a simulator that runs. ``TPM2_Startup`` is a command like any other, and the enclave's to send.

Spec: TPM 2.0 Part 4, D.3 and D.4 (simulator, TcpServer); libtss2, tcti-mssim.
"""

import contextlib
import struct
from typing import Final

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.limits import Deadline, check_response_size
from strongroom.host.tpm.stream import Stream, connect_tcp

_NUMBER: Final = struct.Struct(">I")
_COMMAND: Final = struct.Struct(">IBI")

_POWER_ON: Final = 1
_SEND_COMMAND: Final = 8
_NV_ON: Final = 11
_SESSION_END: Final = 20
_LOCALITY: Final = 0
_GOODBYE_SECONDS: Final = 0.1


class MssimTransport:
    """See :class:`strongroom.host.tpm.transport.Transport`."""

    def __init__(self, host: str, port: int, deadline: Deadline) -> None:
        with contextlib.ExitStack() as stack:
            self._commands = Stream(connect_tcp(host, port, deadline))
            stack.callback(self._commands.close)
            platform = Stream(connect_tcp(host, port + 1, deadline))
            with contextlib.closing(platform):
                _turn_on(platform, deadline)
            stack.pop_all()

    def transmit(self, command: bytes, deadline: Deadline) -> bytes:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        head = _COMMAND.pack(_SEND_COMMAND, _LOCALITY, len(command))
        self._commands.send(head + command, deadline)
        size = check_response_size(_receive_number(self._commands, deadline))
        response = self._commands.receive(size, deadline)
        status = _receive_number(self._commands, deadline)
        if status:
            raise TpmTransportError(f"the simulator ended its answer with {status} instead of 0")
        return response

    def lost(self) -> bool:
        """See :class:`strongroom.host.tpm.transport.Transport`."""
        return self._commands.readable()

    def close(self) -> None:
        """Say goodbye, so that the simulator is free for the next one, and end the connection."""
        _say_goodbye(self._commands)
        self._commands.close()


def _turn_on(platform: Stream, deadline: Deadline) -> None:
    for signal in (_POWER_ON, _NV_ON):
        platform.send(_NUMBER.pack(signal), deadline)
        status = _receive_number(platform, deadline)
        if status:
            raise TpmTransportError(f"the simulator refused platform signal {signal}: {status}")
    _say_goodbye(platform)


def _say_goodbye(stream: Stream) -> None:
    with contextlib.suppress(TpmTransportError):
        stream.send(_NUMBER.pack(_SESSION_END), Deadline(_GOODBYE_SECONDS))


def _receive_number(stream: Stream, deadline: Deadline) -> int:
    (number,) = _NUMBER.unpack(stream.receive(_NUMBER.size, deadline))
    return int(number)

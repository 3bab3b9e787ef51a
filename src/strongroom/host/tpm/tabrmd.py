# SPDX-License-Identifier: Apache-2.0
"""The access broker tpm2-abrmd: one call on a message bus, then a socket with raw commands.

The call returns a socket beside its answer, which ``busctl`` and ``gdbus`` would close, and for
which a library would be loaded at every start. So :mod:`strongroom.host.tpm.dbus` makes the call.

The broker gives each connection its own handles and flushes what it holds when it ends.

Spec: tpm2-abrmd, "com.intel.tss2.TctiTabrmd.CreateConnection".
"""

import os
import socket
from typing import Final

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.address import TabrmdAddress
from strongroom.host.tpm.dbus import Method, MethodError, call_for_descriptors
from strongroom.host.tpm.limits import Deadline
from strongroom.host.tpm.stream import RawStream

_SYSTEM_BUS: Final = "/run/dbus/system_bus_socket"
_ABSENT: Final = frozenset(
    {
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.NoReply",
        "org.freedesktop.DBus.Error.TimedOut",
    }
)
_START_ERRORS: Final = "org.freedesktop.DBus.Error.Spawn"


def bus_socket(address: TabrmdAddress) -> str:
    """Return where a message bus is by convention.

    The environment, where a desktop would name its bus, is not asked.
    """
    return _SYSTEM_BUS if address.bus_type == "system" else f"/run/user/{os.getuid()}/bus"


def connect(address: TabrmdAddress, bus: str, deadline: Deadline) -> RawStream:
    """Return a connection of our own to the broker.

    Raises:
        TpmTransportError: There is no bus there, no broker on it, or it refused.
    """
    method = Method(
        address.bus_name,
        "/com/intel/tss2/Tabrmd/Tcti",
        "com.intel.tss2.TctiTabrmd",
        "CreateConnection",
    )
    try:
        descriptors = call_for_descriptors(bus, method, deadline)
    except MethodError as err:
        raise _refused(address, err) from err
    if len(descriptors) != 1:
        for descriptor in descriptors:
            os.close(descriptor)
        raise TpmTransportError(f"the access broker gave {len(descriptors)} connections, not one")
    return RawStream(_socket(descriptors[0]))


def _socket(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as err:
        os.close(descriptor)
        raise TpmTransportError("what the access broker gave is no socket") from err


def _refused(address: TabrmdAddress, err: MethodError) -> TpmTransportError:
    if err.name in _ABSENT or err.name.startswith(_START_ERRORS):
        return TpmTransportError(
            f"no access broker {address.bus_name} on the {address.bus_type} bus ({err.name})",
            hint="install and start tpm2-abrmd, or use device:/dev/tpmrm0, which needs none",
        )
    return TpmTransportError(
        f"the access broker refused: {err.name}",
        hint="add yourself to the group tss, or look at the log of tpm2-abrmd",
    )

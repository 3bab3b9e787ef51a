# SPDX-License-Identifier: Apache-2.0
"""What an enclave that was killed left loaded in a TPM that nobody else tidies up.

Behind a resource manager (``/dev/tpmrm0``, the access broker) sessions and transient objects go
with the connection. A TPM without one keeps them until its next reset, and has room for three.
"""

from pathlib import PurePath
from typing import Final

from strongroom.errors import TpmError
from strongroom.host.tpm.address import (
    Address,
    DeviceAddress,
    MssimAddress,
    SwtpmAddress,
    SwtpmSocketAddress,
)
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm.device import LOADED_SESSIONS, Device

_KINDS: Final = (LOADED_SESSIONS, 0x80000000)
"""The first handles of loaded sessions, of every type, and of transient objects."""
_MANAGED_DEVICE: Final = "tpmrm"


def is_alone(address: Address) -> bool:
    """Tell whether who is connected to this TPM has it alone, without a resource manager."""
    match address:
        case DeviceAddress():
            return not PurePath(address.path).name.startswith(_MANAGED_DEVICE)
        case SwtpmAddress() | SwtpmSocketAddress() | MssimAddress():
            return True
        case _:
            return False


def flush_leftovers(relay: Relay) -> int:
    """Remove sessions and transient objects that others have left, and return how many.

    For the beginning of a connection to a TPM that one has alone. Saved contexts, persistent keys
    and NV indexes stay. What cannot be flushed stays too.

    Raises:
        TpmTransportError: The TPM cannot be reached.
    """
    road = Unprotected(relay.transmit)
    device, flushed = Device(road), 0
    for kind in _KINDS:
        for handle in device.handles(kind):
            try:
                road.flush(handle)
            except TpmError as err:
                if not err.code:
                    raise
            else:
                flushed += 1
    return flushed

# SPDX-License-Identifier: Apache-2.0
"""Carrying the enclave's TPM commands to a TPM: bytes out, bytes in, nothing understood.

Nothing here is trusted with anything. The enclave makes the commands, checks every answer, and
takes this side for its enemy; what is checked here keeps a broken TPM from breaking the host.
``address`` says which TPM, ``relay`` carries, one module for each kind of way there, and ``trace``
writes down what was carried.
"""

from strongroom.host.tpm.address import DEFAULT_ADDRESS, Address, parse_address
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.trace import Trace

__all__ = ["DEFAULT_ADDRESS", "Address", "Relay", "Trace", "parse_address"]

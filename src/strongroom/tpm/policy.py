# SPDX-License-Identifier: Apache-2.0
"""Policies computed here: what a trial session of the TPM would say, without asking anybody.

Each step extends the digest of the steps before it. All are of SHA-256.

Spec: TPM 2.0 Part 1, 19.7 "Enhanced Authorization"; Part 3, 23.
"""

import hashlib
from typing import Final

from strongroom.tpm.codes import CommandCode
from strongroom.tpm.marshal import u16, u32
from strongroom.tpm.pcrs import PcrSelection

EMPTY: Final = bytes(32)
"""The digest before the first step."""
UNSIGNED_LE: Final = 0x0009
"""``TPM_EO_UNSIGNED_LE``: what the index holds is less than or equal to the operand."""


def pcr(before: bytes, selection: PcrSelection, digest: bytes) -> bytes:
    """Demand values of PCRs. Spec: TPM 2.0 Part 3, 23.7 "TPM2_PolicyPCR"."""
    return _extend(before, CommandCode.POLICY_PCR, selection.wire + digest)


def nv(before: bytes, name: bytes, operand: bytes, operation: int) -> bytes:
    """Demand what an NV index holds, from its start. Spec: TPM 2.0 Part 3, 23.9 "TPM2_PolicyNV"."""
    arguments = hashlib.sha256(operand + u16(0) + u16(operation)).digest()
    return _extend(before, CommandCode.POLICY_NV, arguments + name)


def auth_value(before: bytes) -> bytes:
    """Demand the object's own authorization value. Spec: TPM 2.0 Part 3, 23.17."""
    return _extend(before, CommandCode.POLICY_AUTH_VALUE, b"")


def secret(before: bytes, name: bytes, reference: bytes = b"") -> bytes:
    """Demand the authorization of another entity. Spec: TPM 2.0 Part 3, 23.4."""
    first = _extend(before, CommandCode.POLICY_SECRET, name)
    return hashlib.sha256(first + reference).digest()


def _extend(before: bytes, code: CommandCode, arguments: bytes) -> bytes:
    return hashlib.sha256(before + u32(code) + arguments).digest()

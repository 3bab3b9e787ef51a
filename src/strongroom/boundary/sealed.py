# SPDX-License-Identifier: Apache-2.0
"""What is authenticated beside a secret that crosses the boundary, computed alike on both sides.

Spec: ``spec/boundary.md``, "Sealed passphrases" and "Reports".
"""

import hashlib
from typing import Final

from strongroom.boundary import cbor
from strongroom.boundary.calls import Purpose, Terms
from strongroom.boundary.schema import encode_message

INFO_PREFIX: Final = b"strongroom/1 "
"""Start of the HPKE ``info`` of every sealed message; the purpose follows."""

RECOVERY_INFO: Final = INFO_PREFIX + b"recovery key"
"""The HPKE ``info`` of a recovery key on its way to the client."""

HANDOVER_INFO: Final = INFO_PREFIX + b"handover"
"""The HPKE ``info`` of secrets on their way to the next enclave."""

REPORT_DATA_BYTES: Final = 64


def sealed_info(purpose: Purpose) -> bytes:
    """Return the HPKE ``info`` of a passphrase for one purpose."""
    return INFO_PREFIX + purpose.encode()


def sealed_aad(public_key: bytes, terms: Terms) -> bytes:
    """Return the HPKE ``aad`` of a passphrase: the recipient's key, and the terms in CBOR."""
    value, _ = encode_message(terms)
    return public_key + cbor.encode(value)


def report_data(about: str, subject: bytes) -> bytes:
    """Return the 64 bytes that a report is over: SHA-512 of what it is about and its subject."""
    return hashlib.sha512(INFO_PREFIX + b"report\0" + about.encode() + b"\0" + subject).digest()

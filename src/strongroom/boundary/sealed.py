# SPDX-License-Identifier: Apache-2.0
"""What is authenticated beside a secret that crosses the boundary, computed alike on both sides.

Spec: ``spec/boundary.md``, "Sealed passphrases".
"""

import hashlib
from typing import Final

from strongroom.boundary import cbor
from strongroom.boundary.calls import Call, HeaderChange, Purpose, Sealed, Terms
from strongroom.boundary.schema import encode_message

INFO_PREFIX: Final = b"strongroom/1 "
"""Start of the HPKE ``info`` of every sealed message; the purpose follows."""

RECOVERY_INFO: Final = INFO_PREFIX + b"recovery key"
"""The HPKE ``info`` of a recovery key on its way to the client."""

HANDOVER_INFO: Final = INFO_PREFIX + b"handover"
"""The HPKE ``info`` of secrets on their way to the next enclave."""

TPM_ANSWER_INFO: Final = INFO_PREFIX + b"tpm answer"
"""The HPKE ``info`` of what a TPM gave on its way to the client."""

REPORT_DATA_BYTES: Final = 64

_CODE_DIGITS: Final = 32
"""128 bits, as the disk may try to find two contents with one code."""

BLANK: Final = Sealed(bytes(32), Terms(), bytes(32), bytes(17))
"""Stands for a passphrase in a call of which only the digest is wanted."""


def sealed_info(purpose: Purpose) -> bytes:
    """Return the HPKE ``info`` of a passphrase for one purpose."""
    return INFO_PREFIX + purpose.encode()


def sealed_aad(public_key: bytes, terms: Terms) -> bytes:
    """Return the HPKE ``aad`` of a passphrase: the recipient's key, and the terms in CBOR."""
    value, _ = encode_message(terms)
    return public_key + cbor.encode(value)


def request_digest(request: Call[object]) -> bytes:
    """Return what the passphrases of a call are bound to: its name and all fields but themselves.

    Descriptors count as passed or not passed; what they refer to is not bound.
    """
    value, _ = encode_message(request)
    fields = value if isinstance(value, dict) else {}
    bound = {
        name: field
        for name, field in fields.items()
        if not isinstance(getattr(request, name), Sealed)
    }
    return hashlib.sha256(cbor.encode([type(request).__name__, bound])).digest()


def changes_digest(changes: tuple[HeaderChange, ...]) -> bytes:
    """Return what accepting these changes of a header is bound to: their words and contents."""
    listed: list[cbor.Value] = [[change.words, change.content] for change in changes]
    return hashlib.sha256(cbor.encode(listed)).digest()


def described(changes: tuple[HeaderChange, ...]) -> str:
    """Return changes as an operator reads them: all of them, and a code for their contents.

    Two lists with the same code have the same contents.
    """
    code = changes_digest(changes).hex()[:_CODE_DIGITS]
    return f"{'; '.join(change.words for change in changes)} (code {code})"


def report_data(about: str, subject: bytes) -> bytes:
    """Return the 64 bytes that a report is over: SHA-512 of what it is about and its subject."""
    return hashlib.sha512(INFO_PREFIX + b"report\0" + about.encode() + b"\0" + subject).digest()

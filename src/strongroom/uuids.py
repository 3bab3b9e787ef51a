# SPDX-License-Identifier: Apache-2.0
"""UUIDs in their usual form: 36 characters with four hyphens.

The standard module loads two libraries, which would be a part of every enclave.
"""

import os
import re
from typing import Final

_FORM: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_uuid(text: str) -> bool:
    """Tell whether this is the text form of a UUID."""
    return _FORM.fullmatch(text) is not None


def uuid_bytes(text: str) -> bytes:
    """Return a UUID as its 16 bytes, in the order of the text.

    Raises:
        ValueError: It has another form.
    """
    if not is_uuid(text):
        raise ValueError("not a UUID")
    return bytes.fromhex(text.replace("-", ""))


def new_uuid() -> str:
    """Return a random UUID. Spec: RFC 9562, version 4."""
    content = bytearray(os.urandom(16))
    content[6] = content[6] & 0x0F | 0x40
    content[8] = content[8] & 0x3F | 0x80
    digits = content.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

# SPDX-License-Identifier: Apache-2.0
"""A few TPM commands, written out: these tests are about carrying them.

Spec: TPM 2.0 Part 3; Part 2 for the structures.
"""

import struct
from typing import Final

NO_SESSIONS: Final = 0x8001
SESSIONS: Final = 0x8002
OWNER: Final = 0x40000001
INITIALIZE: Final = 0x100

_EMPTY_PASSWORD: Final = bytes.fromhex("00000009 40000009 0000 00 0000")
_NO_SENSITIVE: Final = bytes.fromhex("0004 0000 0000")
_NO_INFO_AND_PCRS: Final = bytes.fromhex("0000 00000000")
# Storage keys: nameAlg SHA-256, AES-128-CFB.
_ECC: Final = bytes.fromhex("0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000")
_RSA: Final = bytes.fromhex("0001 000b 00030472 0000 0006 0080 0043 0010 0800 00000000 0000")


def command(code: int, body: bytes = b"", *, tag: int = NO_SESSIONS) -> bytes:
    """Return a command with its header."""
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def create_primary(template: bytes) -> bytes:
    """Make a primary key of the owner, who has no password."""
    public = struct.pack(">H", len(template)) + template
    body = struct.pack(">I", OWNER) + _EMPTY_PASSWORD + _NO_SENSITIVE + public + _NO_INFO_AND_PCRS
    return command(0x131, body, tag=SESSIONS)


STARTUP: Final = command(0x144, bytes(2))
GET_RANDOM: Final = command(0x17B, struct.pack(">H", 32))
MANUFACTURER: Final = command(0x17A, struct.pack(">III", 6, 0x105, 1))
ALL_PROPERTIES: Final = command(0x17A, struct.pack(">III", 6, 0x100, 127))
READ_PCR_16: Final = command(0x17E, bytes.fromhex("00000001 000b 03 000001"))
CREATE_ECC: Final = create_primary(_ECC)
CREATE_RSA: Final = create_primary(_RSA)


def read_public(handle: int) -> bytes:
    """Read a loaded object's public area."""
    return command(0x173, struct.pack(">I", handle))


def flush(handle: int) -> bytes:
    """Unload an object."""
    return command(0x165, struct.pack(">I", handle))


def sha256(data: bytes) -> bytes:
    """Hash at most 1024 bytes, in the null hierarchy."""
    return command(0x17D, struct.pack(">H", len(data)) + data + bytes.fromhex("000b 40000007"))


def code_of(response: bytes) -> int:
    """Return a response's code; its header must say how long it is."""
    _tag, size, code = struct.unpack_from(">HII", response)
    assert size == len(response)
    return int(code)


def handle_of(response: bytes) -> int:
    """Return the handle that a command made."""
    assert code_of(response) == 0, hex(code_of(response))
    return int.from_bytes(response[10:14])

# SPDX-License-Identifier: Apache-2.0
"""Where in a message the handles, the sessions and the parameters are.

::

    command    header | handles    | size u32 | sessions   | parameters
    response   header | the handle | size u32 | parameters | sessions
    session    handle u32, of a command | nonce | attributes u8 | MAC

Without sessions there is no size. A nonce, a MAC and the first parameter each begin with their own.

Spec: TPM 2.0 Part 1, 18.1 "Command/Response Header"; Part 2, 10.13 "Session Structures".
"""

from typing import Final

from strongroom.tpm.codes import CommandCode
from strongroom.tpm.marshal import u16
from tests.hostile.tpm.liar import Carried, Side

HEADER: Final = 10
NO_SESSIONS, SESSIONS = u16(0x8001), u16(0x8002)

MAKES_A_HANDLE: Final = {
    CommandCode.CREATE_PRIMARY,
    CommandCode.LOAD,
    CommandCode.START_AUTH_SESSION,
}
HANDLES: Final[dict[int, int]] = {
    CommandCode.CREATE: 1,
    CommandCode.FLUSH_CONTEXT: 1,  # which is a parameter by the letter
    CommandCode.LOAD: 1,
    CommandCode.NV_DEFINE_SPACE: 1,
    CommandCode.NV_INCREMENT: 2,
    CommandCode.NV_READ: 2,
    CommandCode.NV_READ_PUBLIC: 1,
    CommandCode.NV_UNDEFINE_SPACE: 2,
    CommandCode.NV_WRITE: 2,
    CommandCode.PCR_EXTEND: 1,
    CommandCode.POLICY_AUTH_VALUE: 1,
    CommandCode.POLICY_PCR: 1,
    CommandCode.QUOTE: 1,
    CommandCode.READ_PUBLIC: 1,
    CommandCode.START_AUTH_SESSION: 2,
    CommandCode.UNSEAL: 1,
}


def framing(exchange: Carried, side: Side) -> set[int]:
    """Return the places of all bytes of headers, handles, sizes and attributes of sessions."""
    content, is_command = exchange.side(side), side == "command"
    count = HANDLES.get(exchange.code, 0) if is_command else exchange.code in MAKES_A_HANDLE
    at = HEADER + 4 * count
    if content[:2] != SESSIONS:
        return set(range(min(at + 2, len(content))))
    start = at + 4
    end = start + int.from_bytes(content[at:start], "big")
    parameters = end if is_command else start
    found = {*range(start), parameters, parameters + 1}
    place, last = (start, end) if is_command else (end, len(content))
    while place < last:
        found.update(range(place, place + 4) if is_command else ())
        place += 4 if is_command else 0
        for attributes in (1, 0):  # behind a nonce, and not behind a MAC
            found.update((place, place + 1))
            place += 2 + int.from_bytes(content[place : place + 2], "big")
            found.update(range(place, place + attributes))
            place += attributes
    return {byte for byte in found if byte < len(content)}

# SPDX-License-Identifier: Apache-2.0
"""What a command is about: handles, and the Names that authorizations cover.

Spec: TPM 2.0 Part 1, 16 "Names"; Part 2, 7.
"""

from typing import Final

from strongroom.tpm.marshal import u32
from strongroom.values import dataclass

PCR_COUNT: Final = 24
"""PCRs of the PC Client platform profile."""
PERSISTENT_FIRST: Final = 0x81000000
NV_OWNER_FIRST: Final = 0x01800000
"""The first NV index of the range that the platform's owner gives out."""
NV_OWNER_LAST: Final = 0x01BFFFFF


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that a TPM holds, under the Name by which it is authorized.

    A handle says where it is, and whoever sits on the wire may move it. The Name says what it is:
    the TPM refuses a command whose MAC covers the Name of another thing.
    """

    handle: int
    name: bytes


def permanent(handle: int) -> Entity:
    """Return an entity whose Name is its handle: a hierarchy, a PCR or a session."""
    return Entity(handle, u32(handle))


OWNER: Final = permanent(0x40000001)
NULL: Final = permanent(0x40000007)
LOCKOUT: Final = permanent(0x4000000A)
ENDORSEMENT: Final = permanent(0x4000000B)
PLATFORM: Final = permanent(0x4000000C)

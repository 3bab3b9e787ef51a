# SPDX-License-Identifier: Apache-2.0
"""Units that must not be mixed up, as distinct types.

A size in bytes, an offset in bytes and a count of sectors are all integers, and adding the wrong
two of them destroys data. They are distinct types for the checker and plain ``int`` at run time.
"""

from typing import Final, NewType

ByteCount = NewType("ByteCount", int)
"""A length in bytes."""

ByteOffset = NewType("ByteOffset", int)
"""A position in bytes from the start of a file, device or area."""

SectorCount512 = NewType("SectorCount512", int)
"""A count of 512-byte units, the unit of plain64 initialisation vectors and of the kernel."""

Seconds = NewType("Seconds", float)
"""A duration in seconds."""

KibiBytes = NewType("KibiBytes", int)
"""A size in units of 1024 bytes, the unit of Argon2's memory parameter."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

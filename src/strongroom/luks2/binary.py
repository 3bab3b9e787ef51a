# SPDX-License-Identifier: Apache-2.0
r"""The binary header: 4096 bytes in front of each JSON area, covered by an unkeyed checksum.

All integers are big-endian; text is NUL-terminated::

    0    magic[6]        "LUKS\xba\xbe", or "SKUL\xba\xbe" in the secondary copy
    6    version         2 bytes, 2
    8    hdr_size        8 bytes, this header and its JSON area
    16   seqid           8 bytes, raised by every commit
    24   label[48]
    72   csum_alg[32]
    104  salt[64]        only makes the two checksums differ
    168  uuid[40]
    208  subsystem[48]
    256  hdr_offset      8 bytes, where this copy lies
    264  zeros[184]
    448  csum[64]        of the whole copy with this field zeroed
    512  zeros[3584]

The checksum proves that a copy was written whole. It proves nothing about who wrote it.

Spec: LUKS2 on-disk format 1.1, 2.1.
"""

import hashlib
import struct
from enum import Enum
from typing import Final

from strongroom.errors import FormatError, Luks1Error, TruncatedError, UnsupportedCipherError
from strongroom.luks2._text import printable, shown
from strongroom.luks2.limits import BINARY_HEADER_BYTES, HASHES, HEADER_SIZES
from strongroom.uuids import is_uuid, uuid_bytes
from strongroom.values import dataclass

_LAYOUT: Final = struct.Struct(">6sHQQ48s32s64s40s48sQ184x64s")
_CHECKSUM: Final = slice(448, 512)
_CHECKSUM_BYTES: Final = 64
_VERSION: Final = 2
_LUKS1: Final = b"LUKS\xba\xbe\x00\x01"


WRITTEN_CHECKSUM: Final = "sha256"
"""The checksum of what is written, whatever that of the copy which was read."""


class HeaderCopy(Enum):
    """One of the two copies of a header; the value is its magic."""

    PRIMARY = b"LUKS\xba\xbe"
    SECONDARY = b"SKUL\xba\xbe"

    @property
    def magic(self) -> bytes:
        """The six bytes that the copy starts with."""
        return self.value

    @property
    def other(self) -> "HeaderCopy":
        """The other one of the two."""
        return HeaderCopy.SECONDARY if self is HeaderCopy.PRIMARY else HeaderCopy.PRIMARY

    @property
    def title(self) -> str:
        """``primary`` or ``secondary``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class BinaryHeader:
    """What both copies share, and the salt of each.

    Attributes:
        hdr_size: Bytes of one copy, JSON area included; one of ``HEADER_SIZES``.
        seqid: Sequence number; the copy with the higher one is newer.
        label_bytes: The label as stored, without NULs, at most 47 bytes of any encoding.
        subsystem_bytes: The same for the subsystem label.
        checksum_alg: The hash of the copy that was read; writing uses sha256.
        salt: 64 bytes, of the primary copy.
        secondary_salt: 64 bytes, of the secondary copy.
    """

    uuid: str
    label_bytes: bytes
    subsystem_bytes: bytes
    seqid: int
    hdr_size: int
    checksum_alg: str
    salt: bytes
    secondary_salt: bytes

    @property
    def label(self) -> str:
        """The label, safe to print."""
        return printable(self.label_bytes.decode("utf-8", "replace"))

    @property
    def subsystem(self) -> str:
        """The subsystem label, safe to print."""
        return printable(self.subsystem_bytes.decode("utf-8", "replace"))

    @property
    def json_size(self) -> int:
        """Bytes of one JSON area."""
        return self.hdr_size - BINARY_HEADER_BYTES

    def offset_of(self, copy: HeaderCopy) -> int:
        """Return where a copy starts, in bytes from the start of the device."""
        return 0 if copy is HeaderCopy.PRIMARY else self.hdr_size

    def salt_of(self, copy: HeaderCopy) -> bytes:
        """Return the salt of one copy."""
        return self.salt if copy is HeaderCopy.PRIMARY else self.secondary_salt


@dataclass(frozen=True, slots=True)
class RawCopy:
    """A copy whose checksum is right; its JSON area has not been looked at.

    Attributes:
        binary: Its fields. Both salts are this copy's own.
        json_area: The whole JSON area, padding included.
    """

    copy: HeaderCopy
    binary: BinaryHeader
    json_area: bytes


def is_luks1(private_copy: bytes) -> bool:
    """Tell whether the bytes start with a LUKS1 header."""
    return private_copy.startswith(_LUKS1)


def read_copy(private_copy: bytes, offset: int, copy: HeaderCopy) -> RawCopy:
    """Read one copy and check everything but its JSON.

    Raises:
        FormatError: No magic, or a field or the checksum is wrong.
        TruncatedError: The bytes end before the copy does.
        Luks1Error: It is the first copy of LUKS1.
        UnsupportedCipherError: The checksum is of a kind that is not on the list.
    """
    block = private_copy[offset : offset + BINARY_HEADER_BYTES]
    if copy is HeaderCopy.PRIMARY and is_luks1(block):
        raise Luks1Error(
            "this is a LUKS1 volume, which is not supported",
            hint="`cryptsetup convert --type luks2 IMAGE` makes it a LUKS2 volume, after a backup",
        )
    if not block.startswith(copy.magic):
        raise FormatError(f"the {copy.title} header has no LUKS magic")
    if len(block) < BINARY_HEADER_BYTES:
        raise TruncatedError(f"the image ends inside its {copy.title} header")
    fields = _LAYOUT.unpack_from(block)
    binary = _binary(fields, offset, copy)
    whole = private_copy[offset : offset + binary.hdr_size]
    if len(whole) < binary.hdr_size:
        raise TruncatedError(f"the image ends inside its {copy.title} header")
    checksum: bytes = fields[-1]
    if _digest(binary.checksum_alg, whole) != checksum[: HASHES[binary.checksum_alg]]:
        raise FormatError(f"the {copy.title} header has a wrong checksum")
    if not is_uuid(binary.uuid):
        raise FormatError(f"the {copy.title} header has no valid UUID")
    return RawCopy(copy, binary, whole[BINARY_HEADER_BYTES:])


def copy_salt(volume_uuid: str, copy: HeaderCopy) -> bytes:
    """Return the salt, 64 bytes, that a copy of an authenticated volume's header has.

    A salt only has to differ from that of the other copy. This one can be known, so nothing can be
    hidden in it.
    """
    label = f"strongroom/1 {copy.title} salt\0".encode("ascii")
    return hashlib.sha512(label + uuid_bytes(volume_uuid)).digest()


def build_copy(binary: BinaryHeader, json_text: bytes, copy: HeaderCopy) -> bytes:
    """Return the bytes of one copy, ``binary.hdr_size`` of them, with a SHA-256 checksum.

    The caller has checked that ``json_text`` and a NUL fit the JSON area.
    """
    header = _LAYOUT.pack(
        copy.magic,
        _VERSION,
        binary.hdr_size,
        binary.seqid,
        binary.label_bytes,
        WRITTEN_CHECKSUM.encode("ascii"),
        binary.salt_of(copy),
        binary.uuid.encode("ascii"),
        binary.subsystem_bytes,
        binary.offset_of(copy),
        bytes(_CHECKSUM_BYTES),
    )
    whole = bytearray(binary.hdr_size)
    whole[: len(header)] = header
    whole[BINARY_HEADER_BYTES : BINARY_HEADER_BYTES + len(json_text)] = json_text
    checksum = _digest(WRITTEN_CHECKSUM, whole)
    whole[_CHECKSUM] = checksum.ljust(_CHECKSUM_BYTES, b"\0")
    return bytes(whole)


def _binary(
    fields: tuple[bytes, int, int, int, bytes, bytes, bytes, bytes, bytes, int, bytes],
    offset: int,
    copy: HeaderCopy,
) -> BinaryHeader:
    _, version, hdr_size, seqid, label, algorithm, salt, uuid, subsystem, hdr_offset, _ = fields
    if version != _VERSION:
        raise FormatError(f"the {copy.title} header has the unknown version {version}")
    if hdr_size not in HEADER_SIZES:
        raise FormatError(f"the {copy.title} header claims a size of {hdr_size} bytes")
    if hdr_offset != offset or (copy is HeaderCopy.SECONDARY and hdr_size != offset):
        raise FormatError(f"the {copy.title} header claims to lie elsewhere")
    checksum_alg = _text(algorithm).decode("ascii", "replace")
    if checksum_alg not in HASHES:
        raise UnsupportedCipherError(
            f"the {copy.title} header has a checksum of the unknown kind {shown(checksum_alg)}"
        )
    return BinaryHeader(
        uuid=_text(uuid).decode("ascii", "replace"),
        label_bytes=_text(label[:-1]),
        subsystem_bytes=_text(subsystem[:-1]),
        seqid=seqid,
        hdr_size=hdr_size,
        checksum_alg=checksum_alg,
        salt=salt,
        secondary_salt=salt,
    )


def _text(field: bytes) -> bytes:
    """Return what precedes the first NUL."""
    return field.split(b"\0", 1)[0]


def _digest(algorithm: str, whole: bytes | bytearray) -> bytes:
    view = memoryview(whole)
    # LUKS2 allows SHA-1 here, and nothing is authenticated by it.
    digest = hashlib.new(algorithm, view[: _CHECKSUM.start], usedforsecurity=False)
    digest.update(bytes(_CHECKSUM_BYTES))
    digest.update(view[_CHECKSUM.stop :])
    return digest.digest()

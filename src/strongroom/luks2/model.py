# SPDX-License-Identifier: Apache-2.0
"""The values a LUKS2 header is made of, in the words of its specification.

Every value here has been checked: nothing in it is out of bounds, of an unknown cipher or beyond a
limit. None of it is secret, and none of it is authenticated: who can write the disk wrote it.

Spec: LUKS2 on-disk format 1.1, 3.
"""

from collections.abc import Mapping
from enum import IntEnum

from strongroom.errors import FormatError, KeyslotStateError, TruncatedError
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.limits import SECTOR_BYTES
from strongroom.units import ByteCount, ByteOffset
from strongroom.values import dataclass


class Priority(IntEnum):
    """When a keyslot is tried: never on its own, in its turn, or before the others."""

    IGNORE = 0
    NORMAL = 1
    PREFER = 2


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """PBKDF2-HMAC; the cost is in iterations."""

    hash_name: str
    iterations: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class Argon2:
    """Argon2 version 1.3; ``variant`` is ``argon2i`` or ``argon2id``."""

    variant: str
    iterations: int
    memory_kib: int
    lanes: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class Area:
    """Where the encrypted stripes of a keyslot lie, from the start of the header device."""

    offset_bytes: ByteOffset
    size_bytes: ByteCount
    cipher: str
    key_bytes: int


@dataclass(frozen=True, slots=True)
class AntiForensic:
    """How the volume key is split before it is encrypted."""

    stripes: int
    hash_name: str


@dataclass(frozen=True, slots=True)
class Keyslot:
    """A keyslot of type ``luks2``. ``key_bytes`` is the length of the volume key inside."""

    key_bytes: int
    kdf: Pbkdf2 | Argon2
    area: Area
    af: AntiForensic
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class ForeignKeyslot:
    """A keyslot of another type: kept, never used, and its area never given away."""

    kind: str
    offset_bytes: ByteOffset
    size_bytes: ByteCount


@dataclass(frozen=True, slots=True)
class Digest:
    """A PBKDF2 digest that tells whether a volume key is the right one."""

    hash_name: str
    iterations: int
    salt: bytes
    digest: bytes
    keyslots: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignDigest:
    """A digest of another type: kept, never used."""

    kind: str
    keyslots: tuple[int, ...]
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A token, of which only the type and the keyslots are looked at.

    Attributes:
        understood: Whether its keyslots may be changed without breaking it.
    """

    kind: str
    keyslots: tuple[int, ...]
    understood: bool


@dataclass(frozen=True, slots=True)
class CryptSegment:
    """The encrypted data.

    Attributes:
        number: Its name in the metadata, ``0`` on every volume that cryptsetup makes.
        offset_bytes: From the start of the data device.
        size_bytes: ``None`` for all that follows the offset.
        iv_tweak: Added to the sector number, in units of 512 bytes.
        flags: Kept, without meaning for Strongroom.
    """

    number: int
    offset_bytes: ByteOffset
    size_bytes: ByteCount | None
    cipher: str
    sector_size_bytes: int
    iv_tweak: int
    flags: tuple[str, ...] = ()

    def data_size_bytes(self, image_size_bytes: ByteCount) -> ByteCount:
        """Return how many bytes of data a device of this size holds, in whole sectors.

        Raises:
            TruncatedError: There is not one sector, or less than a fixed size asks for.
        """
        available = image_size_bytes - self.offset_bytes
        size = available if self.size_bytes is None else self.size_bytes
        size -= size % self.sector_size_bytes
        if not 0 < size <= available:
            needed = self.offset_bytes + (self.size_bytes or self.sector_size_bytes)
            raise TruncatedError(
                f"the image has {image_size_bytes} bytes and its header describes {needed}",
                hint="the image was cut, or its data is elsewhere and this is a detached header",
            )
        return ByteCount(size)


@dataclass(frozen=True, slots=True)
class Config:
    """The ``config`` section. ``requirements`` is empty on every header that loads."""

    json_size: ByteCount
    keyslots_size: ByteCount
    flags: tuple[str, ...]
    requirements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """A JSON area, and what it says.

    Attributes:
        json_text: The text itself, without padding: the source that edits start from, so that
            members nobody here knows survive them.
    """

    json_text: bytes
    keyslots: Mapping[int, Keyslot]
    foreign_keyslots: Mapping[int, ForeignKeyslot]
    tokens: Mapping[int, Token]
    segment: CryptSegment
    digests: Mapping[int, Digest]
    foreign_digests: Mapping[int, ForeignDigest]
    config: Config


@dataclass(frozen=True, slots=True)
class Header:
    """A LUKS2 header: the binary part and the metadata."""

    binary: BinaryHeader
    metadata: Metadata

    @property
    def segment(self) -> CryptSegment:
        """The one encrypted segment."""
        return self.metadata.segment

    @property
    def keyslots(self) -> Mapping[int, Keyslot]:
        """The keyslots of type ``luks2``, unbound ones included."""
        return self.metadata.keyslots

    @property
    def foreign_keyslots(self) -> Mapping[int, ForeignKeyslot]:
        """The keyslots of other types."""
        return self.metadata.foreign_keyslots

    @property
    def tokens(self) -> Mapping[int, Token]:
        """All tokens."""
        return self.metadata.tokens

    @property
    def digests(self) -> Mapping[int, Digest]:
        """The digests of type ``pbkdf2``."""
        return self.metadata.digests

    @property
    def requirements(self) -> tuple[str, ...]:
        """Mandatory requirements; none, or the header would not have loaded."""
        return self.metadata.config.requirements

    @property
    def flags(self) -> tuple[str, ...]:
        """Persistent flags, such as ``allow-discards``."""
        return self.metadata.config.flags

    @property
    def keyslots_offset_bytes(self) -> ByteOffset:
        """Where the keyslots area starts: behind both header copies."""
        return ByteOffset(2 * self.binary.hdr_size)

    @property
    def total_bytes(self) -> ByteCount:
        """Both header copies and the keyslots area."""
        return ByteCount(self.keyslots_offset_bytes + self.metadata.config.keyslots_size)

    @property
    def segment_digest_number(self) -> int:
        """The number of the digest of the segment's volume key."""
        number = self.segment.number
        return next(key for key, value in self.digests.items() if number in value.segments)

    @property
    def volume_key_bytes(self) -> int | None:
        """Length of the volume key, or ``None`` when no keyslot holds it."""
        return next((self.keyslots[number].key_bytes for number in self._bound()), None)

    def data_size_bytes(self, image_size_bytes: ByteCount) -> ByteCount:
        """Return the size of the plaintext on a data device of this size.

        Raises:
            TruncatedError: The device is too short.
        """
        return self.segment.data_size_bytes(image_size_bytes)

    def digest_of(self, keyslot: int) -> Digest:
        """Return the digest that verifies what a keyslot holds.

        Raises:
            KeyslotStateError: There is no such keyslot.
            FormatError: No digest refers to it.
        """
        if keyslot not in self.keyslots:
            raise KeyslotStateError(f"there is no keyslot {keyslot}")
        for digest in self.digests.values():
            if keyslot in digest.keyslots:
                return digest
        raise FormatError(f"keyslot {keyslot} has no digest, so nothing can verify its key")

    def is_unbound(self, keyslot: int) -> bool:
        """Tell whether a keyslot holds some other key than the volume's."""
        return keyslot not in self._bound()

    def unlock_order(self) -> tuple[int, ...]:
        """Return the keyslots to try: preferred first, ignored and unbound ones left out."""
        tried = [number for number in self._bound() if self.keyslots[number].priority]
        return tuple(sorted(tried, key=lambda number: (-self.keyslots[number].priority, number)))

    def _bound(self) -> tuple[int, ...]:
        linked = self.digests[self.segment_digest_number].keyslots
        return tuple(number for number in linked if number in self.keyslots)


def area_bytes(volume_key_bytes: int, stripes: int) -> int:
    """Return the bytes of keyslot material, in whole 512-byte sectors."""
    return -(-volume_key_bytes * stripes // SECTOR_BYTES) * SECTOR_BYTES

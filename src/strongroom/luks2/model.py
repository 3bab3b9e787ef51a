# SPDX-License-Identifier: Apache-2.0
"""The values a LUKS2 header is made of, in the words of its specification.

Every value here has been checked: nothing in it is out of bounds, of an unknown cipher or beyond a
limit. None of it is secret, and none of it is authenticated: who can write the disk wrote it.

Spec: LUKS2 on-disk format 1.1, 3.
"""

from collections.abc import Mapping
from enum import IntEnum

from strongroom.errors import FormatError, InternalError, KeyslotStateError, TruncatedError
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.limits import SECTOR_BYTES
from strongroom.units import ByteCount, ByteOffset
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a part of a header, or all of it, cannot be used. Looking at it is no use."""

    kind: type[FormatError]
    message: str
    hint: str = ""

    @classmethod
    def of(cls, err: FormatError) -> "Refusal":
        """Return what an error says."""
        return cls(type(err), err.message, err.hint)

    def error(self) -> FormatError:
        """Return the error to raise where the part is to be used."""
        return self.kind(self.message, hint=self.hint)


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
    """A keyslot that is not supported: kept, never used, and its area never given away.

    Attributes:
        kind: Its type; ``luks2`` for one whose cipher, hash, KDF or cost is not supported.
        refusal: Why it cannot be used.
        kdf: The name of its KDF, or an empty string.
        hash_name: The hash of its KDF, or an empty string.
        cipher: The cipher of its area, or an empty string.
    """

    kind: str
    offset_bytes: ByteOffset
    size_bytes: ByteCount
    refusal: Refusal
    kdf: str = ""
    hash_name: str = ""
    cipher: str = ""
    key_bytes: int = 0
    priority: Priority = Priority.NORMAL


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
    """A digest that is not supported: kept, never used."""

    kind: str
    keyslots: tuple[int, ...]
    segments: tuple[int, ...]
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class ForeignSegment:
    """A segment that is not supported: kept, never used. Offsets and sizes are as written."""

    kind: str
    offset: str
    size: str
    cipher: str
    integrity: str
    flags: tuple[str, ...]
    refusal: Refusal


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

    def left_over_bytes(self, image_size_bytes: ByteCount) -> ByteCount:
        """Return how many bytes at the end of a device of this size are no whole sector.

        Not what is less than 512 bytes, which no block device has. With any left over, dm-crypt
        refuses the segment.
        """
        if self.size_bytes is not None:
            return ByteCount(0)
        available = image_size_bytes - self.offset_bytes
        return ByteCount((available - available % SECTOR_BYTES) % self.sector_size_bytes)

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
    """The ``config`` section. ``requirements`` is empty on every header that can be used."""

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
        segment: The encrypted data, or ``None`` where a refusal says why it cannot be used.
        refusals: Why the header as a whole cannot be used, the most important one first. A
            keyslot that is not supported is none, as long as there is another one.
    """

    json_text: bytes
    keyslots: Mapping[int, Keyslot]
    foreign_keyslots: Mapping[int, ForeignKeyslot]
    tokens: Mapping[int, Token]
    segment: CryptSegment | None
    foreign_segments: Mapping[int, ForeignSegment]
    digests: Mapping[int, Digest]
    foreign_digests: Mapping[int, ForeignDigest]
    config: Config
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """A LUKS2 header: the binary part and the metadata."""

    binary: BinaryHeader
    metadata: Metadata

    @property
    def segment(self) -> CryptSegment:
        """The one encrypted segment; a header that can be used has it."""
        if self.metadata.segment is None:
            raise InternalError("a header that cannot be used was used")
        return self.metadata.segment

    @property
    def keyslots(self) -> Mapping[int, Keyslot]:
        """The keyslots of type ``luks2`` that are supported, unbound ones included."""
        return self.metadata.keyslots

    @property
    def foreign_keyslots(self) -> Mapping[int, ForeignKeyslot]:
        """The keyslots that are not supported."""
        return self.metadata.foreign_keyslots

    @property
    def tokens(self) -> Mapping[int, Token]:
        """All tokens."""
        return self.metadata.tokens

    @property
    def digests(self) -> Mapping[int, Digest]:
        """The digests of type ``pbkdf2`` that are supported."""
        return self.metadata.digests

    @property
    def requirements(self) -> tuple[str, ...]:
        """Mandatory requirements; none on a header that can be used."""
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

    def is_ignored(self, keyslot: int) -> bool:
        """Tell whether a keyslot is tried only when it is named."""
        return keyslot in self.keyslots and not self.keyslots[keyslot].priority

    def unlock_order(self) -> tuple[int, ...]:
        """Return the keyslots to try: preferred first, ignored and unbound ones left out."""
        tried = [number for number in self._bound() if self.keyslots[number].priority]
        return tuple(sorted(tried, key=lambda number: (-self.keyslots[number].priority, number)))

    def linked(self) -> tuple[int, ...]:
        """Return the keyslots that the segment's digest lists, supported or not."""
        if self.metadata.segment is None:
            return ()
        number = self.metadata.segment.number
        return next((it.keyslots for it in self.digests.values() if number in it.segments), ())

    def _bound(self) -> tuple[int, ...]:
        return tuple(number for number in self.linked() if number in self.keyslots)


def area_bytes(volume_key_bytes: int, stripes: int) -> int:
    """Return the bytes of keyslot material, in whole 512-byte sectors."""
    return -(-volume_key_bytes * stripes // SECTOR_BYTES) * SECTOR_BYTES

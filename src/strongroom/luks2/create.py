# SPDX-License-Identifier: Apache-2.0
"""A header for a new volume, laid out as ``cryptsetup luksFormat`` lays it out."""

from typing import Final

from strongroom.errors import BoundsError, FormatError, LimitError, UnsupportedCipherError
from strongroom.luks2._json import JsonValue, dump_json, encode_base64
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.limits import (
    AREA_GRID_BYTES,
    CIPHER_KEY_BYTES,
    DEFAULT_DATA_OFFSET_BYTES,
    DEFAULT_HEADER_BYTES,
    HEADER_SIZES,
    MAX_KEYSLOTS_BYTES,
    WRITABLE_CIPHER,
)
from strongroom.luks2.metadata import parse_json_area, usable
from strongroom.luks2.model import Digest, Header
from strongroom.units import ByteCount, ByteOffset
from strongroom.uuids import is_uuid

_SALT_BYTES: Final = 64
_LABEL_BYTES: Final = 47


def new_header(  # noqa: PLR0913 -- every value of a new volume, each by its name
    *,
    uuid: str,
    salt: bytes,
    secondary_salt: bytes,
    digest: Digest,
    sector_size_bytes: int,
    volume_key_bytes: int,
    label: str = "",
    subsystem: str = "",
    cipher: str = WRITABLE_CIPHER,
    data_offset_bytes: ByteOffset = DEFAULT_DATA_OFFSET_BYTES,
    header_size_bytes: ByteCount = DEFAULT_HEADER_BYTES,
    detached: bool = False,
) -> Header:
    """Return the header of a volume without keyslots: version 1, one dynamic segment.

    Args:
        uuid: Text form of the volume's UUID, 36 characters.
        salt: 64 random bytes for the primary copy.
        secondary_salt: 64 others for the secondary copy.
        digest: Of the volume key. What it is linked to is ignored: it becomes digest 0, for
            segment 0.
        sector_size_bytes: Encryption sector, one of :data:`SECTOR_SIZES`.
        volume_key_bytes: Length of the volume key, to check it against the cipher.
        label: At most 47 bytes of UTF-8; people and ``blkid`` see it.
        subsystem: The same, for programs.
        cipher: Of the data; :data:`WRITABLE_CIPHER` is the only choice.
        data_offset_bytes: Where the data starts. With ``detached`` the data starts at 0 of its
            device, and this is where the keyslots area ends.
        header_size_bytes: Of one header copy, one of :data:`HEADER_SIZES`.
        detached: Whether the data is on another device than the header.

    Raises:
        UnsupportedCipherError: The cipher is not one that is written, or cannot use that key.
        BoundsError: The header does not fit before the data, or the offset is off the grid.
        LimitError: A label is longer than 47 bytes.
        FormatError: A value has the wrong form.
    """
    if cipher != WRITABLE_CIPHER or volume_key_bytes not in CIPHER_KEY_BYTES[cipher]:
        raise UnsupportedCipherError(
            f"new volumes use {WRITABLE_CIPHER} with {CIPHER_KEY_BYTES[WRITABLE_CIPHER]} bytes"
        )
    if header_size_bytes not in HEADER_SIZES or data_offset_bytes % AREA_GRID_BYTES:
        raise BoundsError("the size of the header or the offset of the data is not a legal one")
    keyslots_size = min(data_offset_bytes - 2 * header_size_bytes, MAX_KEYSLOTS_BYTES)
    if keyslots_size < 0:
        raise BoundsError("the header does not fit before the data")
    if not is_uuid(uuid) or len(salt) != _SALT_BYTES or len(secondary_salt) != _SALT_BYTES:
        raise FormatError("the UUID or a salt has the wrong form")
    binary = BinaryHeader(
        uuid=uuid,
        label_bytes=_label(label),
        subsystem_bytes=_label(subsystem),
        seqid=1,
        hdr_size=header_size_bytes,
        checksum_alg="sha256",
        salt=salt,
        secondary_salt=secondary_salt,
    )
    segment: JsonValue = {
        "type": "crypt",
        "offset": "0" if detached else str(data_offset_bytes),
        "size": "dynamic",
        "iv_tweak": "0",
        "encryption": cipher,
        "sector_size": sector_size_bytes,
    }
    text = dump_json(_root(binary, segment, digest, keyslots_size))
    area = text.ljust(binary.json_size, b"\0")
    return usable(parse_json_area(binary, area, detached=detached))


def _root(
    binary: BinaryHeader, segment: JsonValue, digest: Digest, keyslots_size: int
) -> JsonValue:
    return {
        "keyslots": {},
        "tokens": {},
        "segments": {"0": segment},
        "digests": {"0": _digest_json(digest)},
        "config": {"json_size": str(binary.json_size), "keyslots_size": str(keyslots_size)},
    }


def _digest_json(digest: Digest) -> JsonValue:
    return {
        "type": "pbkdf2",
        "keyslots": [],
        "segments": ["0"],
        "hash": digest.hash_name,
        "iterations": digest.iterations,
        "salt": encode_base64(digest.salt),
        "digest": encode_base64(digest.digest),
    }


def _label(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise FormatError("a label is not valid text") from err
    if len(data) > _LABEL_BYTES:
        raise LimitError(f"a label has {len(data)} bytes, and the limit is {_LABEL_BYTES}")
    if b"\0" in data:
        raise FormatError("a label has a NUL in it")
    return data

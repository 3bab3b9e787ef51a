# SPDX-License-Identifier: Apache-2.0
"""From JSON to checked values: the sections of a JSON area, and how they refer to each other.

The order of the checks decides which error a wrong header gets. Requirements come first, since an
unknown one means that nothing else can be understood.

Spec: LUKS2 on-disk format 1.1, 3.
"""

from types import MappingProxyType
from typing import Final

from strongroom.errors import FormatError, UnsupportedCipherError, UnsupportedRequirementError
from strongroom.luks2._json import JsonObject, parse_json
from strongroom.luks2._text import shown
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.keyslots import parse_foreign_keyslot, parse_keyslot
from strongroom.luks2.layout import check_config, check_layout
from strongroom.luks2.limits import (
    CIPHER_KEY_BYTES,
    HASHES,
    MAX_DIGEST_BYTES,
    MAX_DIGESTS,
    MAX_KEYSLOTS,
    MAX_PBKDF2_ITERATIONS,
    MAX_SALT_BYTES,
    MAX_SEGMENTS,
    MAX_TOKENS,
    MIN_DIGEST_BYTES,
    MIN_SALT_BYTES,
    SECTOR_SIZES,
    UNDERSTOOD_TOKENS,
)
from strongroom.luks2.model import (
    Config,
    CryptSegment,
    Digest,
    ForeignDigest,
    ForeignKeyslot,
    Header,
    Keyslot,
    Metadata,
    Token,
)
from strongroom.luks2.names import check_cipher, check_cost, check_hash
from strongroom.units import ByteCount, ByteOffset

_DYNAMIC: Final = "dynamic"


def parse_json_area(binary: BinaryHeader, json_area: bytes, *, detached: bool) -> Header:
    """Check a JSON area against its binary header and return the header.

    Raises:
        FormatError: Or one of its subclasses, for whatever is wrong first.
    """
    json_text = json_area.rstrip(b"\0")
    if len(json_text) == len(json_area):
        raise FormatError("the JSON area is not terminated")
    if b"\0" in json_text:
        raise FormatError("the JSON area has something behind its end")
    root = JsonObject("metadata", parse_json(json_text))
    config = _config(root.child("config"))
    _check_requirements(config)
    segment = _segment(root.child("segments"))
    keyslots, foreign_keyslots = _keyslots(root.child("keyslots"))
    known = frozenset(keyslots) | frozenset(foreign_keyslots)
    digests, foreign_digests = _digests(root.child("digests"), known, segment.number)
    metadata = Metadata(
        json_text=json_text,
        keyslots=MappingProxyType(keyslots),
        foreign_keyslots=MappingProxyType(foreign_keyslots),
        tokens=MappingProxyType(_tokens(root.child("tokens"), known)),
        segment=segment,
        digests=MappingProxyType(digests),
        foreign_digests=MappingProxyType(foreign_digests),
        config=config,
    )
    _check_digest_links(metadata)
    _check_volume_key(metadata)
    header = Header(binary, metadata)
    check_config(header)
    check_layout(header, detached=detached)
    return header


def _config(section: JsonObject) -> Config:
    requirements: tuple[str, ...] = ()
    if section.has("requirements"):
        object_ = section.child("requirements")
        if object_.has("mandatory"):
            requirements = object_.strings("mandatory")
    return Config(
        json_size=ByteCount(section.uint64("json_size")),
        keyslots_size=ByteCount(section.uint64("keyslots_size")),
        flags=section.strings("flags") if section.has("flags") else (),
        requirements=requirements,
    )


def _check_requirements(config: Config) -> None:
    if not config.requirements:
        return
    names = ", ".join(shown(name) for name in config.requirements)
    reencrypting = any("reencrypt" in name for name in config.requirements)
    raise UnsupportedRequirementError(
        f"the header requires {names}, which is not supported",
        hint="finish it with cryptsetup reencrypt --resume-only"
        if reencrypting
        else "open the volume with the program that set this requirement",
    )


def _segment(section: JsonObject) -> CryptSegment:
    segments = dict(section.entries("segment", MAX_SEGMENTS))
    for segment in segments.values():
        kind = segment.text("type")
        if kind != "crypt":
            raise UnsupportedRequirementError(
                f"{segment.name} is of the type {shown(kind)}, which is not supported"
            )
        if segment.has("integrity"):
            raise UnsupportedRequirementError(
                f"{segment.name} has integrity protection "
                f"({shown(segment.child('integrity').text('type'))}), which is not supported",
                hint="cryptsetup opens such volumes",
            )
    if len(segments) != 1:
        raise UnsupportedRequirementError(
            f"the header has {len(segments)} segments, and only one is supported"
        )
    number, only = next(iter(segments.items()))
    return _crypt_segment(number, only)


def _crypt_segment(number: int, segment: JsonObject) -> CryptSegment:
    cipher = segment.text("encryption")
    check_cipher(segment.name, cipher)
    sector_size_bytes = segment.uint32("sector_size")
    if sector_size_bytes not in SECTOR_SIZES:
        raise segment.fail("sector_size", f"is {sector_size_bytes}, not one of {SECTOR_SIZES}")
    dynamic = segment.text("size") == _DYNAMIC
    return CryptSegment(
        number=number,
        offset_bytes=ByteOffset(segment.uint64("offset")),
        size_bytes=None if dynamic else ByteCount(segment.uint64("size")),
        cipher=cipher,
        sector_size_bytes=sector_size_bytes,
        iv_tweak=segment.uint64("iv_tweak"),
        flags=segment.strings("flags") if segment.has("flags") else (),
    )


def _keyslots(section: JsonObject) -> tuple[dict[int, Keyslot], dict[int, ForeignKeyslot]]:
    keyslots: dict[int, Keyslot] = {}
    foreign: dict[int, ForeignKeyslot] = {}
    for number, keyslot in section.entries("keyslot", MAX_KEYSLOTS):
        if keyslot.text("type") == "luks2":
            keyslots[number] = parse_keyslot(keyslot)
        else:
            foreign[number] = parse_foreign_keyslot(keyslot)
    return keyslots, foreign


def _tokens(section: JsonObject, known: frozenset[int]) -> dict[int, Token]:
    tokens: dict[int, Token] = {}
    for number, token in section.entries("token", MAX_TOKENS):
        kind = token.free_text("type")
        keyslots = token.distinct_numbers("keyslots")
        _check_references(token, "keyslots", keyslots, known)
        tokens[number] = Token(kind, keyslots, understood=kind in UNDERSTOOD_TOKENS)
    return tokens


def _digests(
    section: JsonObject, known: frozenset[int], segment: int
) -> tuple[dict[int, Digest], dict[int, ForeignDigest]]:
    digests: dict[int, Digest] = {}
    foreign: dict[int, ForeignDigest] = {}
    for number, digest in section.entries("digest", MAX_DIGESTS):
        kind = digest.text("type")
        keyslots = digest.numbers("keyslots")
        segments = digest.numbers("segments")
        _check_references(digest, "keyslots", keyslots, known)
        _check_references(digest, "segments", segments, frozenset({segment}))
        if kind == "pbkdf2":
            digests[number] = _digest(digest, keyslots, segments)
        elif segments:
            raise UnsupportedCipherError(f"{digest.name} is of the unknown type {shown(kind)}")
        else:
            foreign[number] = ForeignDigest(kind, keyslots, segments)
    return digests, foreign


def _digest(digest: JsonObject, keyslots: tuple[int, ...], segments: tuple[int, ...]) -> Digest:
    hash_name = digest.text("hash")
    check_hash(digest.name, hash_name)
    iterations = digest.uint32("iterations")
    check_cost(digest.name, "iterations", iterations, highest=MAX_PBKDF2_ITERATIONS)
    return Digest(
        hash_name=hash_name,
        iterations=iterations,
        salt=digest.base64("salt", minimum_bytes=MIN_SALT_BYTES, maximum_bytes=MAX_SALT_BYTES),
        digest=digest.base64(
            "digest",
            minimum_bytes=min(MIN_DIGEST_BYTES, HASHES[hash_name]),
            maximum_bytes=MAX_DIGEST_BYTES,
        ),
        keyslots=keyslots,
        segments=segments,
    )


def _check_references(
    source: JsonObject, key: str, numbers: tuple[int, ...], known: frozenset[int]
) -> None:
    for number in numbers:
        if number not in known:
            raise source.fail(key, f"refers to {number}, which does not exist")


def _check_digest_links(metadata: Metadata) -> None:
    """One digest for the segment, and one at most for a keyslot, or the key is ambiguous."""
    linked: list[int] = []
    segments = 0
    digests: list[Digest | ForeignDigest] = list(metadata.digests.values())
    digests += metadata.foreign_digests.values()
    for digest in digests:
        linked += digest.keyslots
        segments += len(digest.segments)
    if segments != 1:
        raise FormatError(f"segment {metadata.segment.number} has {segments} digests, and not one")
    if len(set(linked)) != len(linked):
        raise FormatError("a keyslot has more than one digest")


def _check_volume_key(metadata: Metadata) -> None:
    """All keyslots of the segment hold a key of one length, which its cipher can use.

    HMAC pads short keys with zeros, so the digest alone would let lengths be confused.
    """
    cipher = metadata.segment.cipher
    lengths: set[int] = set()
    for digest in metadata.digests.values():
        if digest.segments:
            bound = (number for number in digest.keyslots if number in metadata.keyslots)
            lengths |= {metadata.keyslots[number].key_bytes for number in bound}
    if len(lengths) > 1:
        raise FormatError(f"keyslots hold volume keys of different lengths, {sorted(lengths)}")
    for length in lengths:
        if length not in CIPHER_KEY_BYTES[cipher]:
            raise UnsupportedCipherError(
                f"the volume key has {length} bytes, which {cipher} cannot use",
                hint=f"supported lengths are {CIPHER_KEY_BYTES[cipher]}",
            )

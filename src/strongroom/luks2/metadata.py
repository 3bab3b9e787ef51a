# SPDX-License-Identifier: Apache-2.0
"""From JSON to checked values: the sections of a JSON area, and how they refer to each other.

What does not fit together is an error. What is not supported is a :class:`Refusal`, so that a
header that cannot be used can be looked at, and saved. The order of the refusals decides which
error its use gets: requirements come first, as nothing else is understood beside an unknown one.

Spec: LUKS2 on-disk format 1.1, 3.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from strongroom.errors import (
    BoundsError,
    FormatError,
    UnsupportedCipherError,
    UnsupportedRequirementError,
)
from strongroom.luks2._json import JsonObject, parse_json
from strongroom.luks2._text import shown
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.keyslots import parse_foreign_keyslot, parse_keyslot
from strongroom.luks2.layout import check_areas, check_config, check_segment
from strongroom.luks2.limits import (
    CIPHER_KEY_BYTES,
    HASHES,
    MAX_DIGEST_BYTES,
    MAX_DIGESTS,
    MAX_KEYSLOTS,
    MAX_NAME_CHARACTERS,
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
    ForeignSegment,
    Header,
    Keyslot,
    Metadata,
    Refusal,
    Token,
)
from strongroom.luks2.names import check_cipher, check_cost, check_hash, is_null
from strongroom.units import ByteCount, ByteOffset
from strongroom.values import replace

_DYNAMIC: Final = "dynamic"
_REENCRYPTION_HINT: Final = (
    "finish it with `cryptsetup reencrypt --resume-only IMAGE`; "
    "for an image file add --force-offline-reencrypt"
)


def parse_json_area(binary: BinaryHeader, json_area: bytes, *, detached: bool) -> Header:
    """Check a JSON area against its binary header and return the header.

    What is not supported is named in the result, at the part that it is about, or in
    :attr:`Metadata.refusals` when nothing can be used because of it.

    Raises:
        FormatError: Or one of its subclasses: the parts do not fit together.
    """
    json_text = json_area.rstrip(b"\0")
    if len(json_text) == len(json_area):
        raise FormatError("the JSON area is not terminated")
    if b"\0" in json_text:
        raise FormatError("the JSON area has something behind its end")
    metadata = _metadata(json_text, JsonObject("metadata", parse_json(json_text)))
    header = Header(binary, metadata)
    check_config(header)
    check_areas(header)
    refusals = _refusals(header, detached=detached)
    return replace(header, metadata=replace(metadata, refusals=refusals))


def usable(header: Header) -> Header:
    """Return the header.

    Raises:
        FormatError: Or one of its subclasses: it cannot be used.
    """
    for refusal in header.metadata.refusals:
        raise refusal.error()
    return header


def _metadata(json_text: bytes, root: JsonObject) -> Metadata:
    config = _config(root.child("config"))
    segments, foreign_segments = _segments(root.child("segments"))
    keyslots, foreign_keyslots = _keyslots(root.child("keyslots"))
    known = frozenset(keyslots) | frozenset(foreign_keyslots)
    data = frozenset(segments) | frozenset(foreign_segments)
    digests, foreign_digests = _digests(root.child("digests"), known, data)
    alone = next(iter(segments.values())) if len(segments) == 1 else None
    if alone is None:
        words = f"the header has {len(segments)} segments, and only one is supported"
        refusal = Refusal(UnsupportedRequirementError, words)
        foreign_segments |= {it.number: _one_of_many(it, refusal) for it in segments.values()}
    return Metadata(
        json_text=json_text,
        keyslots=MappingProxyType(keyslots),
        foreign_keyslots=MappingProxyType(foreign_keyslots),
        tokens=MappingProxyType(_tokens(root.child("tokens"), known)),
        segment=alone,
        foreign_segments=MappingProxyType(foreign_segments),
        digests=MappingProxyType(digests),
        foreign_digests=MappingProxyType(foreign_digests),
        config=config,
    )


def _refusals(header: Header, *, detached: bool) -> tuple[Refusal, ...]:
    """Return why a header cannot be used."""
    metadata = header.metadata
    found: list[Refusal] = []

    def check(rule: Callable[[], None]) -> None:
        try:
            rule()
        except FormatError as err:
            found.append(Refusal.of(err))

    check(lambda: _check_requirements(metadata.config))
    check(lambda: _check_segments(metadata))
    if metadata.segment is None or metadata.foreign_segments:
        return tuple(found)
    check(lambda: _check_digest_links(metadata))
    if not found:
        check(lambda: _check_keyslots(header))
        check(lambda: _check_volume_key(header))
    check(lambda: check_segment(header, detached=detached))
    return tuple(found)


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
        hint=_REENCRYPTION_HINT
        if reencrypting
        else "open the volume with the program that set this requirement",
    )


def _check_segments(metadata: Metadata) -> None:
    """Refuse everything but one segment that is supported."""
    for segment in metadata.foreign_segments.values():
        raise segment.refusal.error()
    if metadata.segment is None:
        raise UnsupportedRequirementError("the header has 0 segments, and one is needed")


def _segments(
    section: JsonObject,
) -> tuple[dict[int, CryptSegment], dict[int, ForeignSegment]]:
    segments: dict[int, CryptSegment] = {}
    foreign: dict[int, ForeignSegment] = {}
    for number, segment in section.entries("segment", MAX_SEGMENTS):
        kind = segment.text("type")
        try:
            _check_segment_kind(segment, kind)
            segments[number] = _crypt_segment(number, segment)
        except FormatError as err:
            foreign[number] = _foreign_segment(segment, kind, Refusal.of(err))
    return segments, foreign


def _check_segment_kind(segment: JsonObject, kind: str) -> None:
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


def _foreign_segment(segment: JsonObject, kind: str, refusal: Refusal) -> ForeignSegment:
    flags = segment.members.get("flags")
    names = [flag for flag in flags if isinstance(flag, str)] if isinstance(flags, list) else []
    return ForeignSegment(
        kind=kind,
        offset=segment.words("offset"),
        size=segment.words("size"),
        cipher=segment.words("encryption"),
        integrity=segment.part("integrity").words("type"),
        flags=tuple(name[:MAX_NAME_CHARACTERS] for name in names[:MAX_SEGMENTS]),
        refusal=refusal,
    )


def _one_of_many(segment: CryptSegment, refusal: Refusal) -> ForeignSegment:
    """Return a segment that would be supported, were it alone."""
    return ForeignSegment(
        kind="crypt",
        offset=str(segment.offset_bytes),
        size=_DYNAMIC if segment.size_bytes is None else str(segment.size_bytes),
        cipher=segment.cipher,
        integrity="",
        flags=segment.flags,
        refusal=refusal,
    )


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
        kind = keyslot.text("type")
        try:
            if kind != "luks2":
                raise UnsupportedRequirementError(
                    f"{keyslot.name} is of the unknown type {shown(kind)}"
                )
            keyslots[number] = parse_keyslot(keyslot)
        except BoundsError:
            raise
        except FormatError as err:
            foreign[number] = parse_foreign_keyslot(keyslot, Refusal.of(err))
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
    section: JsonObject, known: frozenset[int], data: frozenset[int]
) -> tuple[dict[int, Digest], dict[int, ForeignDigest]]:
    digests: dict[int, Digest] = {}
    foreign: dict[int, ForeignDigest] = {}
    for number, digest in section.entries("digest", MAX_DIGESTS):
        kind = digest.text("type")
        keyslots = digest.numbers("keyslots")
        segments = digest.numbers("segments")
        _check_references(digest, "keyslots", keyslots, known)
        _check_references(digest, "segments", segments, data)
        try:
            if kind != "pbkdf2":
                raise UnsupportedCipherError(f"{digest.name} is of the unknown type {shown(kind)}")
            digests[number] = _digest(digest, keyslots, segments)
        except FormatError as err:
            foreign[number] = ForeignDigest(kind, keyslots, segments, Refusal.of(err))
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
        raise FormatError(f"the segment of the data has {segments} digests, and not one")
    for foreign in metadata.foreign_digests.values():
        if foreign.segments:
            raise foreign.refusal.error()
    if len(set(linked)) != len(linked):
        raise FormatError("a keyslot has more than one digest")


def _check_keyslots(header: Header) -> None:
    """Refuse a header that has nothing but keyslots that are not supported.

    A null cipher is refused beside others too: a header that carries one was most likely forged.
    """
    for slot in header.foreign_keyslots.values():
        if is_null(slot.cipher):
            raise slot.refusal.error()
    linked = header.linked()
    if linked and not any(number in header.keyslots for number in linked):
        raise header.foreign_keyslots[linked[0]].refusal.error()


def _check_volume_key(header: Header) -> None:
    """All keyslots of the segment hold a key of one length, which its cipher can use.

    HMAC pads short keys with zeros, so the digest alone would let lengths be confused.
    """
    cipher = header.segment.cipher
    bound = (number for number in header.linked() if number in header.keyslots)
    lengths = {header.keyslots[number].key_bytes for number in bound}
    if len(lengths) > 1:
        raise FormatError(f"keyslots hold volume keys of different lengths, {sorted(lengths)}")
    for length in lengths:
        if length not in CIPHER_KEY_BYTES[cipher]:
            raise UnsupportedCipherError(
                f"the volume key has {length} bytes, which {cipher} cannot use",
                hint=f"supported lengths are {CIPHER_KEY_BYTES[cipher]}",
            )

# SPDX-License-Identifier: Apache-2.0
"""A header as plain values, for people and scripts to read. There is no secret in a header."""

from strongroom.luks2._json import JsonValue
from strongroom.luks2._text import printable
from strongroom.luks2.limits import MAX_NAME_CHARACTERS
from strongroom.luks2.load import LoadedHeader
from strongroom.luks2.model import (
    Argon2,
    CryptSegment,
    Digest,
    ForeignKeyslot,
    ForeignSegment,
    Header,
    Keyslot,
    Pbkdf2,
    Token,
)


def describe(header: Header, *, loaded: LoadedHeader | None = None) -> dict[str, JsonValue]:
    """Return everything ``strongroom dump`` shows, able to be JSON.

    What is not supported says so in a member ``unsupported``; so does the header as a whole, when
    the volume cannot be used.

    Salts and digest values are left out: they are public, but of no use to a reader. With
    ``loaded`` the state of both copies is told too. All text is safe to print.
    """
    binary = header.binary
    config = header.metadata.config
    result: dict[str, JsonValue] = {
        "version": 2,
        "uuid": binary.uuid,
        "label": binary.label,
        "subsystem": binary.subsystem,
        "seqid": binary.seqid,
        "header_size_bytes": binary.hdr_size,
        "json_used_bytes": len(header.metadata.json_text),
        "checksum": binary.checksum_alg,
        "segments": _segments(header),
        "keyslots": {str(number): _keyslot(header, number) for number in sorted(header.keyslots)}
        | {str(number): _foreign(slot) for number, slot in header.foreign_keyslots.items()},
        "digests": {str(number): _digest(value) for number, value in header.digests.items()}
        | {
            str(number): {
                "type": printable(value.kind),
                "keyslots": list(value.keyslots),
                "segments": list(value.segments),
                "unsupported": printable(value.refusal.message),
            }
            for number, value in header.metadata.foreign_digests.items()
        },
        "tokens": {str(number): _token(token) for number, token in header.tokens.items()},
        "config": {
            "json_size_bytes": config.json_size,
            "keyslots_size_bytes": config.keyslots_size,
            "flags": [printable(flag) for flag in config.flags],
            "requirements": [printable(name) for name in config.requirements],
        },
    }
    if loaded is not None:
        result["unsupported"] = [printable(refusal.message) for refusal in loaded.refusals]
        result["copies"] = {
            "used": loaded.used.title,
            "broken": [copy.title for copy in loaded.broken],
            "notices": [printable(notice) for notice in loaded.notices],
        }
    return result


def _segments(header: Header) -> JsonValue:
    segment = header.metadata.segment
    known = {} if segment is None else {str(segment.number): _segment(header, segment)}
    foreign = header.metadata.foreign_segments.items()
    return {**known, **{str(number): _foreign_segment(value) for number, value in foreign}}


def _foreign_segment(segment: ForeignSegment) -> JsonValue:
    return {
        "type": printable(segment.kind),
        "offset_bytes": printable(segment.offset),
        "size_bytes": printable(segment.size),
        "cipher": printable(segment.cipher),
        "integrity": printable(segment.integrity),
        "flags": [printable(flag) for flag in segment.flags],
        "unsupported": printable(segment.refusal.message),
    }


def _segment(header: Header, segment: CryptSegment) -> JsonValue:
    return {
        "type": "crypt",
        "offset_bytes": segment.offset_bytes,
        "size_bytes": segment.size_bytes,
        "cipher": segment.cipher,
        "key_bits": (header.volume_key_bytes or 0) * 8 or None,
        "sector_size_bytes": segment.sector_size_bytes,
        "iv_tweak": segment.iv_tweak,
        "flags": [printable(flag) for flag in segment.flags],
    }


def _keyslot(header: Header, number: int) -> JsonValue:
    keyslot: Keyslot = header.keyslots[number]
    return {
        "type": "luks2",
        "unbound": header.is_unbound(number),
        "priority": keyslot.priority.name.lower(),
        "key_bits": keyslot.key_bytes * 8,
        "cipher": keyslot.area.cipher,
        "cipher_key_bits": keyslot.area.key_bytes * 8,
        "kdf": _kdf(keyslot.kdf),
        "area_offset_bytes": keyslot.area.offset_bytes,
        "area_size_bytes": keyslot.area.size_bytes,
        "stripes": keyslot.af.stripes,
        "af_hash": keyslot.af.hash_name,
    }


def _kdf(kdf: Pbkdf2 | Argon2) -> JsonValue:
    if isinstance(kdf, Pbkdf2):
        return {"type": "pbkdf2", "hash": kdf.hash_name, "iterations": kdf.iterations}
    return {
        "type": kdf.variant,
        "iterations": kdf.iterations,
        "memory_kib": kdf.memory_kib,
        "lanes": kdf.lanes,
    }


def _foreign(keyslot: ForeignKeyslot) -> JsonValue:
    return {
        "type": printable(keyslot.kind),
        "priority": keyslot.priority.name.lower(),
        "key_bits": keyslot.key_bytes * 8,
        "cipher": printable(keyslot.cipher),
        "kdf": {"type": printable(keyslot.kdf), "hash": printable(keyslot.hash_name)},
        "area_offset_bytes": keyslot.offset_bytes,
        "area_size_bytes": keyslot.size_bytes,
        "unsupported": printable(keyslot.refusal.message),
    }


def _digest(digest: Digest) -> JsonValue:
    return {
        "type": "pbkdf2",
        "hash": digest.hash_name,
        "iterations": digest.iterations,
        "keyslots": list(digest.keyslots),
        "segments": list(digest.segments),
    }


def _token(token: Token) -> JsonValue:
    return {
        "type": printable(token.kind[:MAX_NAME_CHARACTERS]),
        "keyslots": list(token.keyslots),
        "understood": token.understood,
    }

# SPDX-License-Identifier: Apache-2.0
"""The digests of the parts of a header, as the ``strongroom`` token lists them.

==============  ==================================================================================
entry           what it covers
==============  ==================================================================================
``binary``      UUID, size of the header, kind of checksum
``label``       the label
``subsystem``   the subsystem label
``seqid``       the sequence number: no digest but the number, 8 bytes big-endian
``config``      ``config`` without its flags
``flags``       the flags of ``config``, or null
``priorities``  the ``priority`` of every keyslot that has one
``other``       top-level members that nobody here knows, and the ``strongroom`` token's number
``segments/N``  the segment
``digests/N``   the digest without its list of keyslots
``keyslots/N``  the keyslot without its priority, SHA-256 of its material, and the number of the
                digest that lists it, or null
``tokens/N``    the token, for all but the ``strongroom`` token itself
==============  ==================================================================================

A digest's list of keyslots is thus covered keyslot by keyslot: a key that is added is not a change
of the digest, and a link that vanishes is a change of the keyslot. The order of the list has no
meaning and is not covered. Salts and checksums of the copies are not covered either: see
:attr:`strongroom.luks2.LoadedHeader.canonical`.

A digest is SHA-256 of canonical JSON. Spec: ``spec/unlock.md``, "Header authentication".
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.errors import FormatError
from strongroom.luks2._json import JsonObject, JsonValue, parse_json
from strongroom.luks2.binary import BinaryHeader
from strongroom.luks2.canonical import canonical_json
from strongroom.luks2.limits import SEQUENCE_BYTES, STRONGROOM_TOKEN
from strongroom.luks2.model import Header, Keyslot, area_bytes
from strongroom.luks2.token import SEQUENCE

_SECTIONS: Final = frozenset({"keyslots", "tokens", "segments", "digests", "config"})


def header_digests(
    header: Header, areas: Mapping[int, bytes], *, kept: Mapping[int, bytes] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return the digests of all parts of a header but its ``strongroom`` token.

    Args:
        header: The header as it is, or will be, on the disk.
        areas: What lies in the area of each of :attr:`Header.keyslots`, from its start. As much as
            the key material takes is looked at; there may be more.
        kept: The digests of keyslots at which nothing is looked: that of a damaged keyslot stays
            what it was, so that no damage is ever authenticated.

    Raises:
        FormatError: Material is missing, or an integer in the metadata has no canonical form.
    """
    root = _root(header)
    digests = _binary_digests(header) | _metadata_digests(header, root)
    for name, segment in root.child("segments").members.items():
        digests[f"segments/{name}"] = _digest(segment)
    section = root.child("digests")
    for name in section.members:
        digests[f"digests/{name}"] = _digest(_without(section.child(name), "keyslots"))
    section = root.child("keyslots")
    for number in (*header.keyslots, *header.foreign_keyslots):
        if number in kept:
            digests[f"keyslots/{number}"] = kept[number]
            continue
        keyslot = _without(section.child(str(number)), "priority")
        material = _material_digest(header, areas, number)
        link = link_of(header, number)
        digests[f"keyslots/{number}"] = _keyslot_digest(keyslot, material, link)
    for number, token in header.tokens.items():
        if token.kind != STRONGROOM_TOKEN:
            digests[f"tokens/{number}"] = _digest(root.child("tokens").members[str(number)])
    return digests


def has_material(header: Header, areas: Mapping[int, bytes], keyslot: int) -> bool:
    """Tell whether all key material of a keyslot is there, whatever it is."""
    slot = header.keyslots.get(keyslot)
    return slot is None or len(areas.get(keyslot, b"")) >= _material_bytes(slot)


def link_of(header: Header, keyslot: int) -> int | None:
    """Return the number of the one digest that lists a keyslot, or ``None``."""
    lists = {number: value.keyslots for number, value in header.digests.items()}
    lists |= {number: value.keyslots for number, value in header.metadata.foreign_digests.items()}
    return next((number for number, keyslots in lists.items() if keyslot in keyslots), None)


def is_relinked(
    header: Header, areas: Mapping[int, bytes], keyslot: int, listed: Mapping[str, bytes]
) -> bool:
    """Tell whether a keyslot that differs would not, if only another digest, or none, listed it.

    Args:
        header: The header as it is.
        areas: As for :func:`header_digests`.
        keyslot: The number of a keyslot of the header.
        listed: The digests as they should be.
    """
    value = _without(_root(header).child("keyslots").child(str(keyslot)), "priority")
    material = _material_digest(header, areas, keyslot)
    links = [int(key.partition("/")[2]) for key in listed if key.startswith("digests/")]
    expected = listed.get(f"keyslots/{keyslot}")
    return any(_keyslot_digest(value, material, link) == expected for link in (None, *links))


def binary_digest(binary: BinaryHeader) -> bytes:
    """Return the digest of the entry ``binary``."""
    return _digest(
        {"uuid": binary.uuid, "hdr_size": binary.hdr_size, "checksum_alg": binary.checksum_alg}
    )


def _binary_digests(header: Header) -> dict[str, bytes]:
    binary = header.binary
    return {
        "binary": binary_digest(binary),
        "label": _digest(binary.label_bytes.hex()),
        "subsystem": _digest(binary.subsystem_bytes.hex()),
        SEQUENCE: binary.seqid.to_bytes(SEQUENCE_BYTES, "big"),
    }


def _metadata_digests(header: Header, root: JsonObject) -> dict[str, bytes]:
    config, keyslots = root.child("config"), root.child("keyslots")
    priorities: dict[str, JsonValue] = {
        number: keyslots.child(number).members["priority"]
        for number in keyslots.members
        if keyslots.child(number).has("priority")
    }
    unknown = {key: value for key, value in root.members.items() if key not in _SECTIONS}
    own = (key for key, value in header.tokens.items() if value.kind == STRONGROOM_TOKEN)
    return {
        "config": _digest(_without(config, "flags")),
        "flags": _digest(config.members.get("flags")),
        "priorities": _digest(priorities),
        "other": _digest({"members": unknown, "tokens": [*own]}),
    }


def _keyslot_digest(keyslot: JsonValue, material: str | None, link: int | None) -> bytes:
    return _digest({"digest": link, "keyslot": keyslot, "material": material})


def _material_digest(header: Header, areas: Mapping[int, bytes], number: int) -> str | None:
    keyslot = header.keyslots.get(number)
    if keyslot is None:
        return None  # not supported: only the program that made it knows where its material is
    needed = _material_bytes(keyslot)
    material = areas.get(number, b"")[:needed]
    if len(material) < needed:
        raise FormatError(f"the key material of keyslot {number} is not there")
    return hashlib.sha256(material).hexdigest()


def _material_bytes(keyslot: Keyslot) -> int:
    return area_bytes(keyslot.key_bytes, keyslot.af.stripes)


def _without(object_: JsonObject, key: str) -> JsonValue:
    return {name: value for name, value in object_.members.items() if name != key}


def _digest(value: JsonValue) -> bytes:
    return hashlib.sha256(canonical_json(value)).digest()


def _root(header: Header) -> JsonObject:
    return JsonObject("metadata", parse_json(header.metadata.json_text))

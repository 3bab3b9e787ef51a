# SPDX-License-Identifier: Apache-2.0
"""Changes to a header. Each returns a new one, checked like one that was read.

An edit starts from the JSON text, changes the members it is about, and leaves all others as they
are, known or not, in their order. It raises the sequence number by one, so a header that was edited
is always newer than the one it came from; two edits in one commit raise it by two.

What is not understood is not endangered: a keyslot stays as it is when it is not supported, or when
a token of unknown type uses it.
"""

from collections.abc import Mapping
from typing import Final

from strongroom.errors import (
    KeyslotStateError,
    LimitError,
    UnknownTokenError,
    UnsupportedCipherError,
    UnsupportedRequirementError,
)
from strongroom.luks2._json import JsonObject, JsonValue, dump_json, encode_base64, parse_json
from strongroom.luks2._text import shown
from strongroom.luks2.keyslots import keyslot_json
from strongroom.luks2.limits import (
    MAX_KEYSLOTS,
    MAX_TOKENS,
    OWNED_TOKENS,
    STRONGROOM_TOKEN,
    UINT64_MAX,
    WRITABLE_CIPHER,
)
from strongroom.luks2.metadata import parse_json_area, usable
from strongroom.luks2.model import Digest, Header, Keyslot
from strongroom.values import replace

_RECOVERY: Final = "systemd-recovery"


def free_keyslot(header: Header) -> int:
    """Return the lowest keyslot number that is not taken.

    Raises:
        KeyslotStateError: All are.
    """
    for number in range(MAX_KEYSLOTS):
        if not _is_taken(header, number):
            return number
    raise KeyslotStateError(
        f"all {MAX_KEYSLOTS} keyslots are in use", hint="remove one that is not needed"
    )


def free_token(header: Header) -> int:
    """Return the lowest token number that is not taken.

    Raises:
        KeyslotStateError: All are.
    """
    for number in range(MAX_TOKENS):
        if number not in header.tokens:
            return number
    raise KeyslotStateError(f"all {MAX_TOKENS} tokens are in use")


def with_keyslot(
    header: Header, number: int, keyslot: Keyslot, *, digest: int, replacing: bool = False
) -> Header:
    """Return the header with a keyslot added, or replaced, and linked to a digest.

    Args:
        header: The header to start from.
        number: The number of the keyslot, such as :func:`free_keyslot` finds.
        keyslot: Its values, with an area such as :func:`allocate_area` finds.
        digest: The number of the digest that verifies the key inside, usually
            :attr:`Header.segment_digest_number`.
        replacing: Whether the keyslot must exist, rather than must not. Tokens keep
            referring to it.

    Raises:
        KeyslotStateError: The keyslot is taken or missing, or the digest does not exist.
        UnknownTokenError: A token of unknown type uses the keyslot that is to be replaced.
        UnsupportedCipherError: The area's cipher is not one that is written.
        BoundsError: The area does not lie where it may.
        LimitError: A cost is beyond its limit, or the JSON area is full.
    """
    if replacing:
        _check_changeable(header, number)
    elif _is_taken(header, number) or not 0 <= number < MAX_KEYSLOTS:
        raise KeyslotStateError(f"keyslot {number} is taken or does not exist")
    if digest not in header.digests:
        raise KeyslotStateError(f"there is no digest {digest}")
    if keyslot.area.cipher != WRITABLE_CIPHER:
        raise UnsupportedCipherError(f"new keyslots use {WRITABLE_CIPHER} only")
    root = _Root(header)
    previous = root.section("keyslots").get(str(number))
    foreign_members = previous if isinstance(previous, dict) else {}
    root.section("keyslots")[str(number)] = _merged(foreign_members, keyslot_json(keyslot))
    root.unlink("digests", number)
    root.link("digests", digest, number)
    root.drop_unused_digests()
    return root.finish()


def with_digest(header: Header, number: int, digest: Digest) -> Header:
    """Return the header with the value of a digest replaced, for the key that it is of already.

    Args:
        header: The header to start from.
        number: The number of the digest.
        digest: Hash, iterations, salt and value; what it lists stays.

    Raises:
        KeyslotStateError: There is no such digest.
    """
    if number not in header.digests:
        raise KeyslotStateError(f"there is no digest {number}")
    root = _Root(header)
    value: dict[str, JsonValue] = {
        "hash": digest.hash_name,
        "iterations": digest.iterations,
        "salt": encode_base64(digest.salt),
        "digest": encode_base64(digest.digest),
    }
    members = JsonObject("digests", root.section("digests")).child(str(number)).members
    members.update(value)
    return root.finish()


def without_keyslot(header: Header, number: int) -> Header:
    """Return the header without a keyslot, and without the references to it.

    A digest that nothing refers to any more goes too, and so do tokens of the types in
    :data:`OWNED_TOKENS`. A ``strongroom`` token forgets what it sealed for the keyslot and stays,
    even with nothing sealed, since it authenticates the header; that has to be done anew. The key
    material stays in its area until that is overwritten.

    Does **not** ask whether this is the last way in: that is for the caller.

    Raises:
        KeyslotStateError: There is no such keyslot.
        UnknownTokenError: A token of unknown type uses it.
    """
    _check_changeable(header, number)
    root = _Root(header)
    del root.section("keyslots")[str(number)]
    root.unlink("digests", number)
    root.unlink("tokens", number)
    root.drop_unused_digests()
    for token, value in header.tokens.items():
        if value.kind in OWNED_TOKENS and value.keyslots == (number,):
            del root.section("tokens")[str(token)]
        elif value.kind == STRONGROOM_TOKEN:
            root.unseal(token, number)
    return root.finish()


def with_token(
    header: Header, token: Mapping[str, JsonValue], *, number: int | None = None
) -> Header:
    """Return the header with a token added, or one of an understood type replaced.

    Args:
        header: The header to start from.
        token: Its JSON, with at least ``type`` and ``keyslots``.
        number: Its number; ``None`` picks the lowest that is free.

    Raises:
        KeyslotStateError: No token number is free.
        UnknownTokenError: The number is that of a token of unknown type.
        FormatError: The token is not a valid one.
        LimitError: The JSON area is full.
    """
    if number is None:
        number = free_token(header)
    _check_token(header, number)
    root = _Root(header)
    root.section("tokens")[str(number)] = dict(token)
    return root.finish()


def without_token(header: Header, number: int) -> Header:
    """Return the header without a token.

    Raises:
        KeyslotStateError: There is no such token.
        UnknownTokenError: Its type is unknown.
    """
    if number not in header.tokens:
        raise KeyslotStateError(f"there is no token {number}")
    _check_token(header, number)
    root = _Root(header)
    del root.section("tokens")[str(number)]
    return root.finish()


def recovery_token(keyslot: int) -> dict[str, JsonValue]:
    """Return the token that marks a keyslot as opening with a recovery key, as systemd does."""
    return {"type": _RECOVERY, "keyslots": [str(keyslot)]}


class _Root:
    """The JSON tree of a header while it is edited; every edit has one of its own."""

    __slots__ = ("_header", "_root")

    def __init__(self, header: Header) -> None:
        self._header = header
        self._root = parse_json(header.metadata.json_text)

    def section(self, name: str) -> dict[str, JsonValue]:
        """Return the members of a section, to be changed in place."""
        return JsonObject("metadata", self._root).child(name).members

    def link(self, name: str, number: int, keyslot: int) -> None:
        """Add a keyslot to an entry of a section."""
        entry = self._entry(name, str(number))
        entry.members["keyslots"] = [*entry.strings("keyslots"), str(keyslot)]

    def unlink(self, name: str, keyslot: int) -> None:
        """Remove a keyslot from all entries of a section."""
        for number in self.section(name):
            entry = self._entry(name, number)
            kept = [value for value in entry.strings("keyslots") if value != str(keyslot)]
            entry.members["keyslots"] = [*kept]

    def unseal(self, token: int, keyslot: int) -> None:
        """Remove what a ``strongroom`` token holds for a keyslot."""
        slots = self._entry("tokens", str(token)).members.get("slots")
        if isinstance(slots, dict):
            slots.pop(str(keyslot), None)

    def drop_unused_digests(self) -> None:
        """Remove digests that have neither a keyslot nor a segment, as cryptsetup does."""
        for number in self._header.digests:
            entry = self._entry("digests", str(number))
            if not entry.strings("keyslots") and not entry.strings("segments"):
                del self.section("digests")[str(number)]

    def finish(self) -> Header:
        """Return the edited header, one version later, having checked all of it."""
        header = self._header
        if header.binary.seqid >= UINT64_MAX:
            raise LimitError("the header's sequence number is used up")
        text = dump_json(self._root)
        if len(text) >= header.binary.json_size:
            raise LimitError(
                f"the metadata needs {len(text)} bytes, and the JSON area of "
                f"{header.binary.json_size} bytes is full",
                hint="remove a keyslot or token that is not needed",
            )
        binary = replace(header.binary, seqid=header.binary.seqid + 1)
        # What may lie where was decided when the header was loaded, and edits keep the segment.
        detached = header.segment.offset_bytes < header.total_bytes
        edited = parse_json_area(
            binary, text.ljust(header.binary.json_size, b"\0"), detached=detached
        )
        for number, keyslot in edited.foreign_keyslots.items():
            if number not in header.foreign_keyslots:
                raise keyslot.refusal.error()
        return usable(edited)

    def _entry(self, name: str, number: str) -> JsonObject:
        return JsonObject(name, self.section(name)).child(number)


def _merged(previous: dict[str, JsonValue], written: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return ``written`` and, behind it, the members of ``previous`` that nobody here knows."""
    known = {*written, "priority"}
    return written | {key: value for key, value in previous.items() if key not in known}


def _is_taken(header: Header, number: int) -> bool:
    return number in header.keyslots or number in header.foreign_keyslots


def _check_changeable(header: Header, number: int) -> None:
    if number in header.foreign_keyslots:
        refusal = header.foreign_keyslots[number].refusal
        raise UnsupportedRequirementError(
            f"keyslot {number} is left as it is: {refusal.message}",
            hint="change it with the program that made the keyslot",
        )
    if number not in header.keyslots:
        raise KeyslotStateError(f"there is no keyslot {number}")
    for token, value in header.tokens.items():
        if number in value.keyslots and not value.understood:
            raise UnknownTokenError(
                f"token {token} of the unknown type {shown(value.kind)} uses keyslot {number}",
                hint="remove the token with the program that made it",
            )


def _check_token(header: Header, number: int) -> None:
    token = header.tokens.get(number)
    if token is not None and not token.understood:
        raise UnknownTokenError(
            f"token {number} is of the unknown type {shown(token.kind)}",
            hint="remove it with the program that made it",
        )

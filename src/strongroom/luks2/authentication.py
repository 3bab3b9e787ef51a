# SPDX-License-Identifier: Apache-2.0
"""What authenticates a header, and what has changed in one.

The ``strongroom`` token lists a digest of every other part (:mod:`strongroom.luks2.parts`), and two
codes cover the token: the enclave's, and the volume's, which covers the enclave's too. A part is
thus authentic when its digest is the listed one, and what differs has a name, and a class:

* *foreign changes* are those that stock cryptsetup and systemd-cryptenroll make for their user:
  label, subsystem, flags, priorities; a higher sequence number; any other token; a keyslot that is
  not sealed, linked to a digest; in a header that was written again, a sealed keyslot that is gone
  from the ``keyslots`` of the token; a digest more of no segment, or one less; another UUID,
  where the token says which one it was;
* an *exchanged key* is a foreign change too, once a keyslot proves it: in a header that was written
  again, the digest of the segment is one that was never listed. ``cryptsetup reencrypt`` leaves it,
  with another segment or size of the keyslots area where it was told so;
* *damage* is a keyslot that differs as no stock tool makes it differ: a sealed one, or one in a
  header that was not written again. Such a keyslot is never tried, and decides over nothing else;
* *tampering* is all else, and a keyslot of which only the link to its digest is another.

Spec: ``spec/unlock.md``, "Header authentication".
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from strongroom.errors import InternalError
from strongroom.luks2.model import Header
from strongroom.luks2.parts import (
    binary_digest,
    has_material,
    header_digests,
    is_relinked,
    link_of,
)
from strongroom.luks2.token import SEQUENCE, SealedSlot, StrongroomToken
from strongroom.values import dataclass, replace

_NO_CONTENT: Final = bytes(32)
_ADDED: Final = "was added"
_REMOVED: Final = "was removed"
_CHANGED: Final = "was changed"
_SINGLE_WORDS: Final = {
    "binary": "the UUID, size or checksum of the header was changed",
    "label": "the label was changed",
    "subsystem": "the subsystem was changed",
    "config": "the configuration was changed",
    "flags": "the flags were changed",
    "priorities": "the priority of a keyslot was changed",
    "other": "an unknown section, or the number of the strongroom token, was changed",
}
_FOREIGN_SINGLES: Final = frozenset({"label", "subsystem", "flags", "priorities"})


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs from the header that was authenticated, in words such as an operator reads.

    Attributes:
        tampered: What no stock tool does for its user.
        changes: What stock cryptsetup and systemd-cryptenroll do, so that their user may say that
            it was meant. An attacker can do the same.
        damaged: By number, the keyslots that must not be used.
        exchanged: Among the changes is the digest of the volume key. Anybody can forge one, so a
            keyslot has to open to the key that it is of.
    """

    tampered: tuple[str, ...]
    changes: tuple["ForeignChange", ...]
    damaged: Mapping[int, str] = MappingProxyType({})
    exchanged: bool = False

    @property
    def foreign_changes(self) -> tuple[str, ...]:
        """The words of ``changes``."""
        return tuple(change.words for change in self.changes)


@dataclass(frozen=True, slots=True)
class ForeignChange:
    """A change that an operator may accept.

    Attributes:
        words: What was changed, and how.
        content: 32 bytes that are others when the part has another content now.
        renames: It is a part of what ``cryptsetup luksUUID`` does, and of nothing else.
    """

    words: str
    content: bytes
    renames: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    words: str
    foreign: bool
    content: bytes
    renames: bool = False
    damaged: int | None = None
    """The number of a keyslot that is damaged; then the change is not foreign."""


def differences(header: Header, token: StrongroomToken, areas: Mapping[int, bytes]) -> Differences:
    """Compare every part of a header with what its token lists.

    Says something only once a code of the token was checked. Says nothing of bytes that have no
    meaning: for these see :attr:`LoadedHeader.canonical`.

    Raises:
        FormatError: As :func:`header_digests`.
    """
    missing = {number: b"" for number in header.keyslots if not has_material(header, areas, number)}
    found = header_digests(header, areas, kept=missing)
    exchanged = _is_key_exchanged(header, found, token)
    changes = [
        # What opens the volume comes first: an operator decides on this list.
        *(_key_exchange(header, found) if exchanged else ()),
        *_keyslot_changes(header, found, token, areas),
        *_numbered_changes(header, found, token, exchanged=exchanged),
        *_single_changes(header, found, token, exchanged=exchanged),
        *_sequence_changes(header, token),
    ]
    sound = [change for change in changes if change.damaged is None]
    return Differences(
        tampered=tuple(change.words for change in sound if not change.foreign),
        changes=tuple(
            ForeignChange(change.words, change.content, change.renames)
            for change in sound
            if change.foreign
        ),
        damaged=MappingProxyType(
            {it.damaged: it.words for it in changes if it.damaged is not None}
        ),
        exchanged=exchanged,
    )


def sealed_slots(
    header: Header, token: StrongroomToken, areas: Mapping[int, bytes]
) -> dict[int, SealedSlot]:
    """Return what is sealed for the keyslots that a header has, by number.

    The ``slots`` of the token decide, which are authenticated, and not its ``keyslots``, which are
    not. The exception is a keyslot that another program put into the place of a sealed one.

    Raises:
        FormatError: As :func:`header_digests`.
    """
    numbers = token.slots.keys() & (header.keyslots.keys() | header.foreign_keyslots.keys())
    missing = {number: b"" for number in header.keyslots if not has_material(header, areas, number)}
    unlisted = numbers - set(token.keyslots)
    found = header_digests(header, areas, kept=missing) if unlisted else {}
    exchanged = {
        number for number in unlisted if _is_exchanged(header, token, areas, number, found=found)
    }
    return {number: token.slots[number] for number in sorted(numbers - exchanged)}


def _sequence_changes(header: Header, token: StrongroomToken) -> Iterator[_Change]:
    listed = int.from_bytes(token.header[SEQUENCE], "big")
    if header.binary.seqid > listed:
        # Every change by another program comes with this one. The number itself has no meaning.
        words = "the header was written again"
        yield _Change(words, foreign=True, content=_NO_CONTENT, renames=True)
    elif header.binary.seqid < listed:
        words = "the sequence number of the header was lowered"
        yield _Change(words, foreign=False, content=_NO_CONTENT)


def _is_key_exchanged(header: Header, found: Mapping[str, bytes], token: StrongroomToken) -> bool:
    """Tell whether the digest of the volume key is one that was never listed, under any number."""
    if header.metadata.segment is None or not _is_written_again(header, token):
        return False
    listed = {value for key, value in token.header.items() if key.startswith("digests/")}
    return found[f"digests/{header.segment_digest_number}"] not in listed


def _key_exchange(header: Header, found: Mapping[str, bytes]) -> Iterator[_Change]:
    number = header.segment_digest_number
    words = f"the volume key was exchanged, as `cryptsetup reencrypt` does (digest {number})"
    yield _Change(words, foreign=True, content=found[f"digests/{number}"])


def _single_changes(
    header: Header, found: Mapping[str, bytes], token: StrongroomToken, *, exchanged: bool
) -> Iterator[_Change]:
    # cryptsetup makes room for its own work: the size of the keyslots area is in there.
    allowed = _FOREIGN_SINGLES | {"config"} if exchanged else _FOREIGN_SINGLES
    for key, words in _SINGLE_WORDS.items():
        if found[key] == token.header[key]:
            continue
        if key == "binary" and _is_renamed(header, token):
            yield _Change(
                f"the UUID was changed from {token.header_uuid} to {header.binary.uuid}",
                foreign=True,
                content=found[key],
                renames=True,
            )
        else:
            yield _Change(words, foreign=key in allowed, content=found[key])


def _is_renamed(header: Header, token: StrongroomToken) -> bool:
    """Tell whether nothing but the UUID differs in the entry ``binary``."""
    known = replace(header.binary, uuid=token.header_uuid)
    return binary_digest(known) == token.header["binary"]


def _numbered_changes(
    header: Header, found: Mapping[str, bytes], token: StrongroomToken, *, exchanged: bool
) -> Iterator[_Change]:
    def changed(name: str, number: int, words: str, *, foreign: bool) -> _Change:
        content = found.get(f"{name}s/{number}", _NO_CONTENT)
        return _Change(f"{name} {number} {words}", foreign=foreign, content=content)

    for number, words in _compared("segments", found, token):
        allowed = exchanged and words == _CHANGED
        now = _described_segment(header) if allowed else ""
        yield changed("segment", number, words + now, foreign=allowed)
    for number, words in _compared("digests", found, token):
        if exchanged and number == header.segment_digest_number:
            continue
        added = header.digests.get(number)
        # cryptsetup makes one for a keyslot that does not hold the volume key. The segment always
        # has one, so if its digest is gone then another was added, or changed, in its place.
        unbound = words == _ADDED and added is not None and not added.segments
        yield changed("digest", number, words, foreign=unbound or words == _REMOVED)
    for number, words in _compared("tokens", found, token):
        yield changed("token", number, words, foreign=True)


def _described_segment(header: Header) -> str:
    segment = header.segment
    return (
        f", to {segment.cipher} in sectors of {segment.sector_size_bytes} bytes from "
        f"{segment.offset_bytes}"
    )


def _keyslot_changes(
    header: Header,
    found: Mapping[str, bytes],
    token: StrongroomToken,
    areas: Mapping[int, bytes],
) -> Iterator[_Change]:
    changed = dict(_compared("keyslots", found, token))
    for number, words in changed.items():
        content = found.get(f"keyslots/{number}", _NO_CONTENT)
        if _is_exchanged(header, token, areas, number, found=found):
            gone = f"keyslot {number} {words}, and it is no longer sealed to an enclave"
            yield _Change(gone, foreign=True, content=content)
        else:
            yield _keyslot_change(header, token, areas, changed=(number, words), content=content)
    rewritten = _is_written_again(header, token)
    for number in sorted(token.slots.keys() - set(token.keyslots)):
        removed = f"keyslots/{number}" not in found
        if rewritten and (removed or _is_exchanged(header, token, areas, number, found=found)):
            continue
        # It stays sealed: see sealed_slots.
        content = found.get(f"keyslots/{number}", _NO_CONTENT)
        words = f"keyslot {number} was taken from its token"
        yield _Change(words, foreign=rewritten, content=content)


def _keyslot_change(
    header: Header,
    token: StrongroomToken,
    areas: Mapping[int, bytes],
    *,
    changed: tuple[int, str],
    content: bytes,
) -> _Change:
    number, how = changed
    words = f"keyslot {number} {how}"
    if number not in header.keyslots and number not in header.foreign_keyslots:
        return _Change(words, foreign=number not in token.keyslots, content=content)
    if link_of(header, number) is None:
        words = f"{words}, and no digest lists it"
        return _Change(words, foreign=False, content=content)
    if not has_material(header, areas, number):
        return _damage(header, number)
    if is_relinked(header, areas, number, token.header):
        words = f"keyslot {number} was linked to another digest"
        return _Change(words, foreign=False, content=content)
    sealed = number in token.slots
    if how == _CHANGED and (sealed or _is_unwritten(header, token, number)):
        return _damage(header, number)
    return _Change(words, foreign=not sealed, content=content)


def _is_written_again(header: Header, token: StrongroomToken) -> bool:
    """Tell whether another program may have written the header since it was authenticated."""
    return header.binary.seqid > int.from_bytes(token.header[SEQUENCE], "big")


def _is_exchanged(
    header: Header,
    token: StrongroomToken,
    areas: Mapping[int, bytes],
    keyslot: int,
    *,
    found: Mapping[str, bytes],
) -> bool:
    """Tell whether another program put a keyslot into the place of a sealed one.

    ``cryptsetup luksKillSlot`` takes the number from the token, and ``luksAddKey`` uses it again.
    Each of them raises the sequence number.
    """
    key = f"keyslots/{keyslot}"
    return (
        keyslot in token.slots
        and keyslot not in token.keyslots
        and _is_written_again(header, token)
        and key in found
        and found[key] != token.header.get(key)
        and link_of(header, keyslot) is not None
        and has_material(header, areas, keyslot)
        and not is_relinked(header, areas, keyslot, token.header)
    )


def _is_unwritten(header: Header, token: StrongroomToken, keyslot: int) -> bool:
    """Tell whether a keyslot that is not sealed differs, and no stock tool can have changed it."""
    listed = int.from_bytes(token.header[SEQUENCE], "big")
    return keyslot in header.keyslots and header.binary.seqid == listed


def _damage(header: Header, number: int) -> _Change:
    slot, foreign = header.keyslots.get(number), header.foreign_keyslots.get(number)
    if slot is not None:
        size, offset = slot.area.size_bytes, slot.area.offset_bytes
    elif foreign is not None:
        size, offset = foreign.size_bytes, foreign.offset_bytes
    else:
        raise InternalError(f"keyslot {number} is damaged and does not exist")
    words = f"keyslot {number} is damaged ({size} bytes at {offset})"
    return _Change(words, foreign=False, content=_NO_CONTENT, damaged=number)


def _compared(
    section: str, found: Mapping[str, bytes], token: StrongroomToken
) -> Iterator[tuple[int, str]]:
    """Yield the number of every part of a section that differs, in order, and how it does."""
    keys = {key for key in (*found, *token.header) if key.startswith(f"{section}/")}
    for number in sorted(int(key.partition("/")[2]) for key in keys):
        key = f"{section}/{number}"
        if key not in token.header:
            yield number, _ADDED
        elif key not in found:
            yield number, _REMOVED
        elif found[key] != token.header[key]:
            yield number, _CHANGED

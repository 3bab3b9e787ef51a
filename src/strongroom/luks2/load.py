# SPDX-License-Identifier: Apache-2.0
"""Finding the header: two copies, which of them to believe, and what to say about the other.

1. A copy counts when its magic, fields and checksum are right.
2. Of two that count, the one with the higher sequence number decides, the primary when equal.
3. That copy must be understood. If it is not, its error is raised: an older copy is no substitute
   for a newer one that somebody wrote whole and that we do not understand.
4. The other copy is *broken* when it does not count, is older, or differs; it can be rewritten
   from the first (:func:`strongroom.luks2.repair_steps`).
5. The copies of a volume with a ``strongroom`` token are known to the last byte. Of two with the
   same contents one that is as it would be written decides, and the other is broken when any byte
   of it is another one, padding and salt included. cryptsetup leaves such a copy when it repairs.

Spec: LUKS2 on-disk format 1.1, 2.3.
"""

import hashlib
from typing import Final

from strongroom.errors import (
    FormatError,
    HeaderBrokenError,
    Luks1Error,
    NotLuksError,
    StrongroomError,
    TruncatedError,
    UnsupportedCipherError,
)
from strongroom.luks2._json import dump_json, parse_json
from strongroom.luks2.binary import (
    BinaryHeader,
    HeaderCopy,
    RawCopy,
    build_copy,
    copy_salt,
    read_copy,
)
from strongroom.luks2.limits import HEADER_COPY_BYTES, HEADER_SIZES, STRONGROOM_TOKEN
from strongroom.luks2.metadata import parse_json_area
from strongroom.luks2.model import Header, Refusal
from strongroom.luks2.token import sealed_uuid
from strongroom.units import ByteCount
from strongroom.values import dataclass, replace

_SIGNATURES: Final = (
    (0x438, b"\x53\xef", "an ext file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x200, b"EFI PART", "a GPT partition table"),
    (0x200, b"LABELONE", "an LVM physical volume"),
    (0x1FE, b"\x55\xaa", "a boot sector"),
    (0x1000 - 10, b"SWAPSPACE2", "a swap area"),
    (0, b"hsqs", "a squashfs file system"),
)
"""Offset, magic and name of what may lie over a primary header, which is then not rewritten."""


@dataclass(frozen=True, slots=True)
class LoadedHeader:
    """A header and how it was found.

    Attributes:
        used: The copy it was read from.
        broken: The copies that should be rewritten before anything else is written.
        notices: What the operator should know, in sentences.
        canonical: The used copy is byte for byte what would be written for its contents, but for
            what ``rewritten`` names, so nothing can be hidden in it. Only asked of volumes with a
            ``strongroom`` token; ``False`` for all others.
        rewritten: What other programs write in their own way and without a meaning, in words: a
            salt that is not :func:`strongroom.luks2.copy_salt`, and another form of the metadata.
        refusals: Why the volume cannot be used, the most important reason first.
    """

    header: Header
    used: HeaderCopy
    broken: tuple[HeaderCopy, ...]
    notices: tuple[str, ...]
    canonical: bool
    rewritten: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def load_header(
    private_copy: bytes, *, image_size_bytes: ByteCount, detached: bool
) -> LoadedHeader:
    """Read and check the header of a volume that is to be used.

    Args: As for :func:`look_at_header`.

    Raises:
        TruncatedError: The image ends before what its header describes.
        UnsupportedCipherError: A cipher, hash or KDF that is not on the list, where there is no
            keyslot without it.
        UnsupportedRequirementError: A requirement, segment or protection that is not supported.
        FormatError: As for :func:`look_at_header`, and whatever else keeps the volume from use.

    Nothing in the result is authenticated: whoever can write the disk can forge all of it.
    """
    looked = look_at_header(private_copy, image_size_bytes=image_size_bytes, detached=detached)
    for refusal in looked.refusals:
        raise refusal.error()
    return looked


def look_at_header(
    private_copy: bytes, *, image_size_bytes: ByteCount, detached: bool
) -> LoadedHeader:
    """Read and check the header of a volume, which may be one that cannot be used.

    Args:
        private_copy: The first ``min(image_size_bytes, HEADER_COPY_BYTES)`` bytes of the device
            that holds the header, read once.
        image_size_bytes: The size of that device in bytes.
        detached: Whether the data is on another device. Then nothing is said about the size of
            the data: ask :meth:`Header.data_size_bytes` with the size of that device.

    Raises:
        NotLuksError: There is no trace of a header.
        Luks1Error: A LUKS1 volume.
        TruncatedError: The image ends inside of both header copies.
        HeaderBrokenError: Both copies are damaged.
        UnsupportedCipherError: Both copies have a checksum that is not on the list.
        BoundsError: A keyslot lies where it must not.
        LimitError: A size, depth or count is beyond its limit.
        FormatError: Its parts do not fit together.

    Nothing in the result is authenticated: whoever can write the disk can forge all of it.
    """
    if len(private_copy) < min(image_size_bytes, HEADER_COPY_BYTES):
        raise TruncatedError("the image became shorter while its header was read")
    private_copy = private_copy[: min(image_size_bytes, HEADER_COPY_BYTES)]
    primary = _try_read(private_copy, 0, HeaderCopy.PRIMARY)
    secondary = _find_secondary(private_copy, primary)
    used, other, notices = _choose(private_copy, primary, secondary)
    binary = _with_salts(used, other, used.binary.uuid)
    header = parse_json_area(binary, used.json_area, detached=detached)
    refusals = header.metadata.refusals or _size_refusals(
        header, image_size_bytes, detached=detached
    )
    if not _is_authenticated(header):
        broken = (used.copy.other,) if notices else ()
        return LoadedHeader(header, used.copy, broken, notices, canonical=False, refusals=refusals)
    volume_uuid = sealed_uuid(header)
    if other is not None and not notices:
        used, other = _by_form(header, private_copy, (used, other), volume_uuid)
    header = replace(header, binary=_with_salts(used, other, volume_uuid))
    if not notices:
        notices = _stray_bytes(header, private_copy, used.copy.other)
    broken = (used.copy.other,) if notices else ()
    canonical = _as_written(header, private_copy, used.copy)
    rewritten = _rewritten(header, used.copy, volume_uuid)
    return LoadedHeader(header, used.copy, broken, notices, canonical, rewritten, refusals)


def _try_read(private_copy: bytes, offset: int, copy: HeaderCopy) -> RawCopy | StrongroomError:
    """Return a copy, or the reason why it does not count."""
    try:
        return read_copy(private_copy, offset, copy)
    except Luks1Error:
        raise
    except FormatError as err:
        return err


def _find_secondary(
    private_copy: bytes, primary: RawCopy | StrongroomError
) -> RawCopy | StrongroomError:
    """Look behind the primary if that is sound, else wherever a secondary may start."""
    if isinstance(primary, RawCopy):
        return _try_read(private_copy, primary.binary.hdr_size, HeaderCopy.SECONDARY)
    found: RawCopy | StrongroomError = FormatError("the secondary header has no LUKS magic")
    for offset in HEADER_SIZES:
        if private_copy.startswith(HeaderCopy.SECONDARY.magic, offset):
            found = _try_read(private_copy, offset, HeaderCopy.SECONDARY)
            if isinstance(found, RawCopy):
                return found
    return found


def _choose(
    private_copy: bytes,
    primary: RawCopy | StrongroomError,
    secondary: RawCopy | StrongroomError,
) -> tuple[RawCopy, RawCopy | None, tuple[str, ...]]:
    """Return the copy to use, the other if it counts, and what is wrong with the other."""
    if isinstance(primary, RawCopy):
        if isinstance(secondary, RawCopy):
            return _compare(primary, secondary)
        return primary, None, (f"{secondary.args[0]}; the primary one is used",)
    if isinstance(secondary, RawCopy):
        _check_overwritten(private_copy)
        return secondary, None, (f"{primary.args[0]}; the secondary one is used",)
    raise _neither(private_copy, primary, secondary)


def _compare(primary: RawCopy, secondary: RawCopy) -> tuple[RawCopy, RawCopy, tuple[str, ...]]:
    first, second = primary.binary, secondary.binary
    # A crash of cryptsetup luksUUID leaves two UUIDs, one commit apart; nothing else does.
    if first.uuid != second.uuid and abs(first.seqid - second.seqid) != 1:
        raise FormatError(
            f"the header copies belong to different volumes, {first.uuid} and {second.uuid}",
            hint="restore a backup of the header",
        )
    if first.seqid < second.seqid:
        stale = f"the primary header is older ({first.seqid}) than the secondary ({second.seqid})"
        return secondary, primary, (stale,)
    if first.seqid > second.seqid:
        stale = f"the secondary header is older ({second.seqid}) than the primary ({first.seqid})"
        return primary, secondary, (stale,)
    if _content(primary) != _content(secondary):
        notice = "the header copies differ under one sequence number; the primary one is used"
        return primary, secondary, (notice,)
    return primary, secondary, ()


def _content(raw: RawCopy) -> tuple[BinaryHeader, bytes]:
    """Return what must be the same in both copies."""
    return replace(raw.binary, salt=b"", secondary_salt=b""), raw.json_area


def _check_overwritten(private_copy: bytes) -> None:
    """Refuse to go on when something else lies over the primary header.

    Raises:
        FormatError: It does. Repairing the header would damage it.
    """
    if private_copy.startswith(HeaderCopy.PRIMARY.magic):
        return
    for offset, magic, name in _SIGNATURES:
        if private_copy.startswith(magic, offset):
            raise FormatError(
                f"the primary header was overwritten by {name}; the secondary header is intact",
                hint="if the volume is still wanted, `cryptsetup repair IMAGE` restores its header",
            )


def _neither(
    private_copy: bytes, primary: StrongroomError, secondary: StrongroomError
) -> StrongroomError:
    """Return the error for a volume without a sound copy."""
    has_primary = private_copy.startswith(HeaderCopy.PRIMARY.magic)
    has_secondary = any(
        private_copy.startswith(HeaderCopy.SECONDARY.magic, offset) for offset in HEADER_SIZES
    )
    if not has_primary and not has_secondary:
        return NotLuksError("there is no LUKS header")
    if isinstance(primary, TruncatedError):
        return primary
    if isinstance(primary, UnsupportedCipherError) and isinstance(
        secondary, UnsupportedCipherError
    ):
        return primary
    return HeaderBrokenError(
        f"both header copies are damaged: {primary.args[0]}, and {secondary.args[0]}",
        hint="restore a backup of the header",
    )


def _with_salts(used: RawCopy, other: RawCopy | None, volume_uuid: str) -> BinaryHeader:
    """Return the fields with the salts of both copies.

    A lost salt is derived from the other one: all it has to do is to differ from it. When the used
    copy has the salt of an authenticated volume, the other one is to have it too.
    """
    own = used.binary.salt
    if own == copy_salt(volume_uuid, used.copy):
        foreign = copy_salt(volume_uuid, used.copy.other)
    elif other is not None:
        foreign = other.binary.salt
    else:
        foreign = hashlib.sha512(b"strongroom header salt" + used.copy.magic + own).digest()
    if used.copy is HeaderCopy.PRIMARY:
        return replace(used.binary, salt=own, secondary_salt=foreign)
    return replace(used.binary, salt=foreign, secondary_salt=own)


def _is_authenticated(header: Header) -> bool:
    return any(token.kind == STRONGROOM_TOKEN for token in header.tokens.values())


def _by_form(
    header: Header, private_copy: bytes, copies: tuple[RawCopy, RawCopy], volume_uuid: str
) -> tuple[RawCopy, RawCopy]:
    """Return two copies with the same contents, first one that has them in the right bytes."""
    for first, second in (copies, copies[::-1]):
        written = replace(header, binary=_with_salts(first, second, volume_uuid))
        rewritten = _rewritten(written, first.copy, volume_uuid)
        if not rewritten and _as_written(written, private_copy, first.copy):
            return first, second
    return copies


def _stray_bytes(header: Header, private_copy: bytes, copy: HeaderCopy) -> tuple[str, ...]:
    """Return what to say about the other copy when it has the right contents in other bytes."""
    if _as_written(header, private_copy, copy):
        return ()
    problem = f"another program rewrote the {copy.title} header, or it has stray bytes"
    return (f"{problem}; the {copy.other.title} one is used",)


def _rewritten(header: Header, copy: HeaderCopy, volume_uuid: str) -> tuple[str, ...]:
    words: list[str] = []
    if header.binary.salt_of(copy) != copy_salt(volume_uuid, copy):
        words.append(f"the salt of the {copy.title} header was changed")
    text = header.metadata.json_text
    if text != dump_json(parse_json(text)):
        words.append("the metadata was written in another form")
    return tuple(words)


def _as_written(header: Header, private_copy: bytes, copy: HeaderCopy) -> bool:
    start = header.binary.offset_of(copy)
    written = build_copy(header.binary, header.metadata.json_text, copy)
    return private_copy[start : start + header.binary.hdr_size] == written


def _size_refusals(
    header: Header, image_size_bytes: ByteCount, *, detached: bool
) -> tuple[Refusal, ...]:
    try:
        _check_size(header, image_size_bytes, detached=detached)
    except TruncatedError as err:
        return (Refusal.of(err),)
    return ()


def _check_size(header: Header, image_size_bytes: ByteCount, *, detached: bool) -> None:
    if image_size_bytes < header.total_bytes:
        raise TruncatedError(
            f"the image has {image_size_bytes} bytes and its header {header.total_bytes}",
            hint="the image was cut; restore it, or the header from a backup",
        )
    if not detached:
        header.data_size_bytes(image_size_bytes)

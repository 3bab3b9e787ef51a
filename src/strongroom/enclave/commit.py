# SPDX-License-Identifier: Apache-2.0
"""Putting an edited header on the disk, authenticated where the volume is.

Key material first, then the header, and only then is wiped what the header no longer refers to.
"""

from typing import Final, Literal

from strongroom._core import Secret
from strongroom.enclave.authentication import authenticated
from strongroom.enclave.disk import Disk
from strongroom.enclave.inspection import Inspected, inspect
from strongroom.enclave.keyslots import Edit
from strongroom.enclave.sealed_slots import seal_key_for
from strongroom.errors import PlatformError, StrongroomError
from strongroom.luks2 import (
    Header,
    HeaderCopy,
    LoadedHeader,
    Sealing,
    Step,
    Sync,
    WriteAt,
    commit_steps,
    load_header,
    repair_steps,
    unreferenced_areas,
)
from strongroom.tee.provider import Tee
from strongroom.units import KIB, ByteOffset
from strongroom.values import replace

_SCRUB_BYTES: Final = 64 * KIB
_REPAIRED: Final = "the damaged header copy was repaired from the good one"
_NOTHING: Final = "nothing was changed"
_HALF: Final = (
    "the change is made, but one header copy is still the old one, and who can write the disk can "
    "bring it back; opening the volume for writing repairs it"
)
_NOT_WIPED: Final = (
    "the change is made, but what opened before is not wiped from the disk; the next change does it"
)
_UNSURE: Final = "the change is made as the disk shows it now, but may be lost with the next crash"
_UNKNOWN: Final = "the disk does not say whether the change was made"
_UNKNOWN_HINT: Final = (
    "keep the old and the new passphrase or key until the disk works and the volume was opened"
)


def commit(
    edit: Edit,
    before: Inspected,
    disk: Disk,
    *,
    tee: Tee,
    header_key: Secret,
    sealing: Sealing | None = None,
) -> Inspected:
    """Write an edit of a header, and return the header as it is now.

    The host holds the header's lock, and :meth:`Disk.ensure_as_read` was called under it: what
    others wrote since the header was read would be undone.

    Args:
        edit: What to write.
        before: The header that it started from. Where that has a token, the new one has it too,
            one epoch later.
        disk: Where it goes.
        tee: Gives the seal key.
        header_key: From :func:`strongroom.enclave.header_keys.volume_header_key`.
        sealing: To which enclave the volume is sealed from now on, if to another one.

    Raises:
        NoSpaceError: The disk is full. The message says which header is in force.
        DiskError: Writing failed. The same.
    """
    header = edit.header
    if before.token is not None:
        token = replace(
            before.token,
            epoch=before.token.epoch + 1,
            sealing=sealing or before.token.sealing,
            slots=edit.slots,
        )
        seal_key = seal_key_for(tee, token.sealing, before.sealed_uuid)
        try:
            header = authenticated(
                header,
                edit.material,
                token,
                seal_key=seal_key,
                header_key=header_key,
                kept=edit.kept,
            )
        finally:
            seal_key.erase()
    # A broken copy first: with one of two, the first write of a commit would be to the only one.
    write_first((*repair_steps(before.loaded), *edit.before), disk, _NOTHING)
    broken, notices = write_copies(header, disk, _NOTHING)
    if not broken:
        notices = scrub(header, disk)
    used = broken[0].other if broken else HeaderCopy.PRIMARY
    written = LoadedHeader(header, used, broken, notices, canonical=True)
    return inspect(written, edit.material, tee)


def repair(inspected: Inspected, disk: Disk) -> tuple[Inspected, tuple[str, ...]]:
    """Rewrite a broken header copy from the good one, and return what to say about it.

    A disk that refuses is no error: the volume can be used all the same.
    """
    loaded = inspected.loaded
    if not loaded.broken:
        return inspected, ()
    try:
        _insist(repair_steps(loaded), disk)
    except PlatformError as err:
        return inspected, (f"the damaged header copy was not repaired: {err.message}",)
    return replace(inspected, loaded=replace(loaded, broken=())), (_REPAIRED,)


def write_first(steps: tuple[Step, ...], disk: Disk, otherwise: str) -> None:
    """Carry out what has to be durable before a header is written.

    Args:
        steps: Writes and syncs that the header in force does not depend on.
        disk: Where they go.
        otherwise: What holds if that fails, in words.

    Raises:
        NoSpaceError: The disk is full. The message begins with ``otherwise``.
        DiskError: Writing failed. The same.
    """
    try:
        _insist(steps, disk)
    except PlatformError as err:
        raise type(err)(f"{otherwise}: {err.message}", hint=err.hint) from err


def write_copies(
    header: Header, disk: Disk, otherwise: str
) -> tuple[tuple[HeaderCopy, ...], tuple[str, ...]]:
    """Write both copies of a header, and find out what holds where the disk refuses.

    A header that is newer than the old one is in force once its secondary copy is durable. What
    fails after that is told and is no error: a command that fails is taken for one that changed
    nothing.

    Args:
        header: The header to write.
        disk: Where it goes.
        otherwise: What holds as long as the old header is in force, in words.

    Returns:
        The copy that is still the old one, if any, and what to say about it.

    Raises:
        NoSpaceError: The disk is full. The message says which header is in force.
        DiskError: Writing failed. The same.
    """
    secondary, first_sync, primary, last_sync = commit_steps(header)
    try:
        _insist((secondary, first_sync), disk)
    except PlatformError as err:
        shown = _shown(header, disk)
        if shown == "this":
            raise type(err)(f"{_UNSURE}: {err.message}", hint=_UNKNOWN_HINT) from err
        raise _refusal(err, shown, otherwise) from err
    try:
        _insist((primary, last_sync), disk)
    except PlatformError as err:
        shown = _shown(header, disk)
        if shown == "this":
            return (HeaderCopy.PRIMARY,), (f"{_HALF}: {err.message}",)
        raise _refusal(err, shown, otherwise) from err
    return (), ()


def _insist(steps: tuple[Step, ...], disk: Disk) -> None:
    """Carry out steps, and if one fails all of them once more.

    Not only the one that failed: after a sync that failed, the kernel takes what was written
    before it for written.
    """
    try:
        disk.apply(steps)
    except PlatformError:
        disk.apply(steps)


def _shown(header: Header, disk: Disk) -> Literal["this", "another", "unknown"]:
    """Return which header is in force, as the disk shows it now."""
    try:
        found = load_header(
            disk.header_now(), image_size_bytes=disk.header_size_bytes(), detached=True
        ).header
    except StrongroomError:
        return "unknown"
    return "this" if found.metadata.json_text == header.metadata.json_text else "another"


def _refusal(
    err: PlatformError, shown: Literal["another", "unknown"], otherwise: str
) -> PlatformError:
    if shown == "another":
        return type(err)(f"{otherwise}: {err.message}", hint=err.hint)
    return type(err)(f"{_UNKNOWN}: {err.message}", hint=_UNKNOWN_HINT)


def scrub(header: Header, disk: Disk) -> tuple[str, ...]:
    """Overwrite what lies in the keyslots area and belongs to no keyslot.

    This wipes the material of removed keyslots, also that of a removal which was cut short before.

    Returns:
        What to say if the disk refuses: the header is in force all the same.
    """
    try:
        steps: list[Step] = []
        for offset, size in unreferenced_areas(header):
            found = disk.read_header_area(offset, size)
            for start in range(0, len(found), _SCRUB_BYTES):
                piece = found[start : start + _SCRUB_BYTES]
                if piece.strip(b"\0") or disk.is_unreadable(offset + start, len(piece)):
                    steps.append(WriteAt(ByteOffset(offset + start), bytes(len(piece))))
        if steps:
            _insist((*steps, Sync()), disk)
    except PlatformError as err:
        return (f"{_NOT_WIPED}: {err.message}",)
    return ()

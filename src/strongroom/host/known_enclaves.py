# SPDX-License-Identifier: Apache-2.0
"""What this operator knows of each volume's enclave, like the known hosts of SSH.

The file is ``known-enclaves`` in the state directory, with one line for each volume, here in two::

    UUID policy=signer tee=process simulated=yes debug=no measurement=HEX64 signer=HEX64
    product=1 svn=1 authenticated=yes epoch=4

After that come up to three words, in this order:

``sealed=elsewhere``
    This machine has another enclave than the one that the volume is sealed to, so the enclave in
    the line is the one that opened it all the same.
``enclave=forgotten``
    The operator wants the next enclave to be trusted anew. The one in the line is kept for
    messages only. The epoch still counts.
``image=PATH``
    Where the volume was used last, percent-encoded. For messages only, and never opened: whoever
    may rename files decides what lies there.

There is one space between fields. Empty lines, lines that start with ``#`` and lines of other
volumes are kept as they are, whatever is in them. How the file is read and written is in
:mod:`strongroom.host.known_file`.
"""

import contextlib
import os
import re
import shlex
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from strongroom import values
from strongroom._override import override
from strongroom.errors import NotFoundError, PlatformError, TeeError
from strongroom.host import known_file
from strongroom.host.known_file import path as path  # noqa: PLC0414 - exported
from strongroom.tee.identity import Identity, SealPolicy
from strongroom.uuids import is_uuid
from strongroom.values import dataclass

_NUMBER: Final = "(0|[1-9][0-9]{0,19})"
_MAX_IMAGE: Final = 1024
_LINE: Final = re.compile(
    "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    " policy=(signer|measurement) tee=([a-z][a-z0-9_-]{0,63}) simulated=(yes|no) debug=(yes|no)"
    " measurement=([0-9a-f]{64}) signer=([0-9a-f]{64})"
    f" product={_NUMBER} svn={_NUMBER} authenticated=(yes|no) epoch={_NUMBER}"
    f"( sealed=elsewhere)?( enclave=forgotten)?(?: image=(/[!-~]{{0,{_MAX_IMAGE - 1}}}))?"
)
_LONGEST_LINE_BYTES: Final = 512 + _MAX_IMAGE
_MOST_NAMES: Final = 3
_MAX_NUMBER16: Final = 2**16 - 1
_MAX_EPOCH: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class KnownEnclave:
    """What is known of one volume.

    Attributes:
        volume: Its UUID, in lower case.
        policy: What of the identity it is sealed to.
        identity: That of the enclave it was enrolled with.
        authenticated: Its header carries authentication codes.
        epoch: That of the newest header seen.
        place: ``PATH:LINE`` of where this was read, for messages; empty otherwise. Two that
            differ in nothing else are equal.
        sealed_elsewhere: It is sealed to an enclave that this machine does not have; ``policy`` and
            ``identity`` are of the one that opened it with a keyslot that needs none.
        forgotten: The operator lets the next enclave be trusted anew; ``policy`` and ``identity``
            are no condition any more.
        image: The absolute path under which it was used last, or nothing. For messages only.
    """

    volume: str
    policy: SealPolicy
    identity: Identity
    authenticated: bool
    epoch: int
    place: str = ""
    sealed_elsewhere: bool = False
    forgotten: bool = False
    image: str = ""

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KnownEnclave):
            return NotImplemented
        return {**values.asdict(self), "place": ""} == {**values.asdict(other), "place": ""}

    @override
    def __hash__(self) -> int:
        return hash((self.volume, self.epoch))


def find(volume: str) -> KnownEnclave | None:
    """Return what is known of a volume, or ``None`` if it was never seen here.

    Args:
        volume: Its UUID, in any case.

    Raises:
        TeeError: Its line is malformed, there are several, or the file cannot be read or may have
            been written by others. It is never taken for an unknown volume then.
    """
    return _find(known_file.read(), volume)


def mentions(volume: str) -> bool:
    """Say whether there is a line of a volume, even a malformed one.

    Raises:
        TeeError: The file cannot be read, or may have been written by others.
    """
    return any(_is_of(line, volume) for line in known_file.read())


def find_each(volumes: Iterable[str]) -> tuple[KnownEnclave, ...]:
    """Return what is known of a volume under each of its UUIDs, as :func:`find`."""
    found = (find(volume) for volume in volumes)
    return tuple(known for known in found if known is not None)


def everything() -> tuple[KnownEnclave, ...]:
    """Return what is known of every volume, in the order of the lines.

    Raises:
        TeeError: A line is malformed, even one that is of no volume; or as :func:`find`.
    """
    found: dict[str, KnownEnclave] = {}
    for number, line in enumerate(known_file.read(), 1):
        if not _volume_of(line):
            continue
        known = _parse(line, f"{path()}:{number}")
        if known is None:
            raise _malformed(number, line)
        if known.volume in found:
            raise _twice(found[known.volume].place, number, known.volume)
        found[known.volume] = known
    return tuple(found.values())


def ensure_writable() -> None:
    """Check that a line for each UUID of a volume could be written now; wait for the lock.

    It leaves no trace.

    For the moment before a change that must be remembered. It can still fail afterwards.

    Raises:
        TeeError: As :func:`find`, and the state directory may be written by others.
        NoPermissionError: The state directory cannot be written.
        NoSpaceError: There is no room.
        PlatformError: It could not be written for another reason.
    """
    known_file.ensure_room(_MOST_NAMES * _LONGEST_LINE_BYTES)


def remember(known: KnownEnclave) -> None:
    """Replace or append a volume's line with what is known after it was opened.

    The epoch never goes down, and ``authenticated`` never from yes to no; the rest is taken as
    given, so it must have been checked against what was known. If there is nothing new, nothing
    is written; where only the path of its image is new, it need not be possible to write.

    Raises:
        TeeError: As :func:`find`, and for a value that the file cannot hold.
        NoPermissionError: The state directory cannot be written.
        NoSpaceError: There is no room.
        PlatformError: It could not be written for another reason.
    """

    def change(lines: list[bytes]) -> list[bytes]:
        before = _find(lines, known.volume)
        return _with_line(lines, known if before is None else _merged(known, before))

    before = find(known.volume)
    moved = before is not None and before == values.replace(
        _merged(known, before), image=before.image
    )
    with contextlib.suppress(PlatformError) if moved else contextlib.nullcontext():
        known_file.update(change)


def _merged(known: KnownEnclave, before: KnownEnclave) -> KnownEnclave:
    return values.replace(
        known,
        authenticated=known.authenticated or before.authenticated,
        epoch=max(known.epoch, before.epoch),
        image=known.image or before.image,
    )


def replace(known: KnownEnclave) -> None:
    """Replace or append a volume's line with exactly this, even if it is older or weaker.

    For what the operator ordered: a reseal, an adoption, a forced restore.

    Raises:
        TeeError: As :func:`remember`.
        NoPermissionError: As :func:`remember`.
        NoSpaceError: As :func:`remember`.
        PlatformError: As :func:`remember`.
    """

    def change(lines: list[bytes]) -> list[bytes]:
        _find(lines, known.volume)
        return _with_line(lines, known)

    known_file.update(change)


def forget_enclave(volume: str) -> KnownEnclave:
    """Let the next enclave of a volume be trusted anew. The newest epoch seen still counts.

    Of several lines of the volume one stays, with the highest epoch of all.

    Returns:
        What was known of it before.

    Raises:
        NotFoundError: Nothing is known of the volume.
        TeeError: A line of it is malformed; or as :func:`remember`.
        NoPermissionError: As :func:`remember`.
        NoSpaceError: The same.
        PlatformError: The same.
    """
    before: list[KnownEnclave] = []

    def change(lines: list[bytes]) -> list[bytes]:
        before[:] = _all_of(lines, volume)
        if not before:
            raise _unknown(volume)
        kept = values.replace(
            before[0],
            authenticated=any(known.authenticated for known in before),
            epoch=max(known.epoch for known in before),
            forgotten=True,
        )
        return _with_line(lines, kept)

    known_file.update(change)
    return values.replace(before[0], epoch=max(known.epoch for known in before))


def forget_everything(volume: str) -> None:
    """Remove every line of a volume, even malformed ones: an older header of it is accepted then.

    Raises:
        NotFoundError: There is none.
        TeeError: As :func:`remember`.
        NoPermissionError: The same.
        NoSpaceError: The same.
        PlatformError: The same.
    """

    def change(lines: list[bytes]) -> list[bytes]:
        rest = [line for line in lines if not _is_of(line, volume)]
        if rest == lines:
            raise _unknown(volume)
        return rest

    known_file.update(change)


def _unknown(volume: str) -> NotFoundError:
    return NotFoundError(f"{path()} says nothing of volume {volume}")


# --- lines ----------------------------------------------------------------------------------------


def _find(lines: list[bytes], volume: str) -> KnownEnclave | None:
    numbers = [number for number, line in enumerate(lines, 1) if _is_of(line, volume)]
    if len(numbers) > 1:
        raise _twice(f"{path()}:{numbers[0]}", numbers[1], volume)
    found = _all_of(lines, volume)
    return found[0] if found else None


def _all_of(lines: list[bytes], volume: str) -> list[KnownEnclave]:
    """Return what the lines of a volume say, of which there should be one at most."""
    found: list[KnownEnclave] = []
    for number, line in enumerate(lines, 1):
        if not _is_of(line, volume):
            continue
        known = _parse(line, f"{path()}:{number}")
        if known is None:
            raise _malformed(number, line)
        found.append(known)
    return found


def _twice(place: str, number: int, volume: str) -> TeeError:
    return TeeError(
        f"{place} and line {number} are both of volume {volume}",
        hint=f"`strongroom forget {volume.lower()}` keeps the higher of their epochs, and lets the "
        "enclave be trusted anew",
    )


def _malformed(number: int, line: bytes) -> TeeError:
    volume = _volume_of(line).decode("ascii", "replace")
    if is_uuid(volume):
        mend = f"`strongroom forget {volume} --everything` removes it: the volume's enclave is"
        mend += " trusted anew then, and an older header of it is not noticed"
    else:
        mend = f"remove it, as it is of no volume: `sed -i {number}d {shlex.quote(str(path()))}`"
    return TeeError(f"{path()}:{number} is malformed", hint=f"put the line right, or {mend}")


def _is_of(line: bytes, volume: str) -> bool:
    wanted = volume.lower().encode(errors="backslashreplace")
    return bool(wanted) and _volume_of(line) == wanted


def _volume_of(line: bytes) -> bytes:
    """Return a line's first word in lower case; nothing for an empty line or a comment."""
    first = line.split(maxsplit=1)[:1]
    return b"" if not first or first[0].startswith(b"#") else first[0].lower()


def _parse(line: bytes, place: str) -> KnownEnclave | None:
    match = _LINE.fullmatch(line.decode("ascii", "replace"))
    if match is None:
        return None
    volume, policy, tee, simulated, debug, measurement, signer, *rest = match.groups()
    product, version, authenticated, epoch, elsewhere, forgotten, image = rest
    if max(int(product), int(version)) > _MAX_NUMBER16 or int(epoch) > _MAX_EPOCH:
        return None
    identity = Identity(
        tee=tee,
        simulated=simulated == "yes",
        measurement=bytes.fromhex(measurement),
        signer=bytes.fromhex(signer),
        product_id=int(product),
        security_version=int(version),
        debug=debug == "yes",
    )
    seal_policy: SealPolicy = "signer" if policy == "signer" else "measurement"
    return KnownEnclave(
        volume,
        seal_policy,
        identity,
        authenticated=authenticated == "yes",
        epoch=int(epoch),
        place=place,
        sealed_elsewhere=bool(elsewhere),
        forgotten=bool(forgotten),
        image=os.fsdecode(unquote_to_bytes(image or "")),
    )


def _with_line(lines: list[bytes], known: KnownEnclave) -> list[bytes]:
    """Return the lines with one for this volume, where its first one was."""
    new = _format(known)
    own = [number for number, line in enumerate(lines) if _is_of(line, known.volume)]
    if not own:
        return [*lines, new]
    kept = [line for number, line in enumerate(lines) if number not in own[1:]]
    kept[own[0]] = new
    return kept


def _format(known: KnownEnclave) -> bytes:
    identity = known.identity
    line = (
        f"{known.volume} policy={known.policy} tee={identity.tee}"
        f" simulated={_word(identity.simulated)} debug={_word(identity.debug)}"
        f" measurement={identity.measurement.hex()} signer={identity.signer.hex()}"
        f" product={identity.product_id} svn={identity.security_version}"
        f" authenticated={_word(known.authenticated)} epoch={known.epoch}"
        + (" sealed=elsewhere" if known.sealed_elsewhere else "")
        + (" enclave=forgotten" if known.forgotten else "")
        + _image_word(known.image)
    ).encode(errors="backslashreplace")
    # Names come from headers that anybody may have written: what is not read back as the same would
    # be a line, or two, of somebody else's choice.
    read_back = _parse(line, "")
    if read_back is None or values.replace(read_back, image=known.image) != known:
        raise TeeError(
            f"cannot remember the enclave of volume {known.volume!r}: no line can say it"
        )
    return line


def _image_word(image: str) -> str:
    """Return the word for an image; none for a path that is relative, or too long for a message."""
    encoded = quote(os.fsencode(image))
    return f" image={encoded}" if image.startswith("/") and len(encoded) <= _MAX_IMAGE else ""


def _word(value: bool) -> str:  # noqa: FBT001 - the value itself
    return "yes" if value else "no"

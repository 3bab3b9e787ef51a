# SPDX-License-Identifier: Apache-2.0
"""What this operator knows of each volume's enclave, like the known hosts of SSH.

The file is ``known-enclaves`` in the state directory, mode 0600, with one line for each volume,
here in two::

    UUID policy=signer tee=process simulated=yes debug=no measurement=HEX64 signer=HEX64
    product=1 svn=1 authenticated=yes epoch=4

After that comes ``sealed=elsewhere`` where this machine has another enclave than the one that the
volume is sealed to, so the enclave in the line is the one that opened it all the same.
Fields have this order and one space between them. Empty lines, lines that start with ``#`` and
lines of other volumes are kept as they are, whatever is in them. The file is only ever replaced as
a whole, under the lock of ``known-enclaves.lock``: a kill leaves the old one or the new one, and no
update is lost. Nothing here vouches for the file; whoever may write it decides which enclave is
trusted, so one that others may write is refused.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from strongroom import values
from strongroom._override import override
from strongroom.errors import NoPermissionError, NoSpaceError, PlatformError, TeeError
from strongroom.host.state import state_directory
from strongroom.tee.identity import Identity, SealPolicy
from strongroom.values import dataclass

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Some 14 000 volumes: more is not this file."""

_NAME: Final = "known-enclaves"
_LOCK: Final = f"{_NAME}.lock"
_DRAFT: Final = f".{_NAME}.new"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, a FIFO in the place of a file would hold us for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHER_WRITES: Final = stat.S_IWGRP | stat.S_IWOTH

_NUMBER: Final = "(0|[1-9][0-9]{0,19})"
_LINE: Final = re.compile(
    "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    " policy=(signer|measurement) tee=([a-z][a-z0-9_-]{0,63}) simulated=(yes|no) debug=(yes|no)"
    " measurement=([0-9a-f]{64}) signer=([0-9a-f]{64})"
    f" product={_NUMBER} svn={_NUMBER} authenticated=(yes|no) epoch={_NUMBER}( sealed=elsewhere)?"
)
_LONGEST_LINE_BYTES: Final = 512
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
    """

    volume: str
    policy: SealPolicy
    identity: Identity
    authenticated: bool
    epoch: int
    place: str = ""
    sealed_elsewhere: bool = False

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KnownEnclave):
            return NotImplemented
        return {**values.asdict(self), "place": ""} == {**values.asdict(other), "place": ""}

    @override
    def __hash__(self) -> int:
        return hash((self.volume, self.epoch))


def path() -> Path:
    """Return the file's absolute path. It need not exist."""
    return state_directory() / _NAME


def find(volume: str) -> KnownEnclave | None:
    """Return what is known of a volume, or ``None`` if it was never seen here.

    Args:
        volume: Its UUID, in any case.

    Raises:
        TeeError: Its line is malformed, there are several, or the file cannot be read or may have
            been written by others. It is never taken for an unknown volume then.
    """
    return _find(_read(), volume)


def everything() -> tuple[KnownEnclave, ...]:
    """Return what is known of every volume, in the order of the lines.

    Raises:
        TeeError: A line is malformed, even one that is of no volume; or as :func:`find`.
    """
    found: dict[str, KnownEnclave] = {}
    for number, line in enumerate(_read(), 1):
        if not _volume_of(line):
            continue
        known = _parse(line, f"{path()}:{number}")
        if known is None:
            raise _malformed(f"{path()}:{number}")
        if known.volume in found:
            raise _twice(found[known.volume].place, number, known.volume)
        found[known.volume] = known
    return tuple(found.values())


def ensure_writable() -> None:
    """Check that another line could be written now; it waits for the lock, and leaves no trace.

    For the moment before a change that must be remembered. It can still fail afterwards.

    Raises:
        TeeError: As :func:`find`, and the state directory may be written by others.
        NoPermissionError: The state directory cannot be written.
        NoSpaceError: There is no room.
        PlatformError: It could not be written for another reason.
    """
    with _translated(), _locked_directory() as directory:
        _write_draft(directory, [*_read_in(directory), bytes(_LONGEST_LINE_BYTES)])
        _remove_draft(directory)


def remember(known: KnownEnclave) -> None:
    """Replace or append a volume's line with what is known after it was opened.

    The epoch never goes down, and ``authenticated`` never from yes to no; the rest is taken as
    given, so it must have been checked against what was known. If there is nothing new, nothing
    is written.

    Raises:
        TeeError: As :func:`find`, and for a value that the file cannot hold.
        NoPermissionError: The state directory cannot be written.
        NoSpaceError: There is no room.
        PlatformError: It could not be written for another reason.
    """

    def change(lines: list[bytes]) -> list[bytes]:
        before = _find(lines, known.volume)
        if before is None:
            return _with_line(lines, known)
        merged = values.replace(
            known,
            authenticated=known.authenticated or before.authenticated,
            epoch=max(known.epoch, before.epoch),
        )
        return _with_line(lines, merged)

    _update(change)


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

    _update(change)


# --- lines ----------------------------------------------------------------------------------------


def _find(lines: list[bytes], volume: str) -> KnownEnclave | None:
    numbers = [number for number, line in enumerate(lines, 1) if _is_of(line, volume)]
    if not numbers:
        return None
    place = f"{path()}:{numbers[0]}"
    if len(numbers) > 1:
        raise _twice(place, numbers[1], volume)
    known = _parse(lines[numbers[0] - 1], place)
    if known is None:
        raise _malformed(place)
    return known


def _twice(place: str, number: int, volume: str) -> TeeError:
    return TeeError(
        f"{place} and line {number} are both of volume {volume}",
        hint="remove the line that is wrong",
    )


def _malformed(place: str) -> TeeError:
    return TeeError(
        f"{place} is malformed",
        hint="put the line right, or remove it if the enclave may be trusted anew",
    )


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
    product, version, authenticated, epoch, elsewhere = rest
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
    )


def _with_line(lines: list[bytes], known: KnownEnclave) -> list[bytes]:
    new = _format(known)
    if not any(_is_of(line, known.volume) for line in lines):
        return [*lines, new]
    return [new if _is_of(line, known.volume) else line for line in lines]


def _format(known: KnownEnclave) -> bytes:
    identity = known.identity
    line = (
        f"{known.volume} policy={known.policy} tee={identity.tee}"
        f" simulated={_word(identity.simulated)} debug={_word(identity.debug)}"
        f" measurement={identity.measurement.hex()} signer={identity.signer.hex()}"
        f" product={identity.product_id} svn={identity.security_version}"
        f" authenticated={_word(known.authenticated)} epoch={known.epoch}"
        + (" sealed=elsewhere" if known.sealed_elsewhere else "")
    ).encode(errors="backslashreplace")
    # Names come from headers that anybody may have written: what is not read back as the same would
    # be a line, or two, of somebody else's choice.
    if _parse(line, "") != known:
        raise TeeError(
            f"cannot remember the enclave of volume {known.volume!r}: no line can say it"
        )
    return line


def _word(value: bool) -> str:  # noqa: FBT001 - the value itself
    return "yes" if value else "no"


# --- the file -------------------------------------------------------------------------------------


def _update(change: Callable[[list[bytes]], list[bytes]]) -> None:
    seen = _read()
    # Who only opens volumes needs no right to write.
    if change(seen) == seen:
        return
    with _translated(), _locked_directory() as directory:
        before = _read_in(directory)
        after = change(before)
        if after != before:
            _write(directory, after)


def _read() -> list[bytes]:
    try:
        directory = os.open(state_directory(), _DIRECTORY)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise _unreadable(state_directory(), err) from err
    try:
        return _read_in(directory)
    finally:
        os.close(directory)


def _read_in(directory: int) -> list[bytes]:
    # Whoever may write there may put another file in the place of ours, or take it away.
    _check(os.fstat(directory), state_directory())
    try:
        fd = os.open(_NAME, _READ, dir_fd=directory)
        try:
            content = _content(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise _unreadable(path(), err) from err
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _content(fd: int) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise TeeError(f"{path()} is not a regular file")
    _check(status, path())
    with os.fdopen(fd, "rb", closefd=False) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise TeeError(f"{path()} is longer than {MAX_FILE_BYTES} bytes")
    return content


def _check(status: os.stat_result, checked: Path) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise TeeError(
            f"{checked} belongs to user {status.st_uid}",
            hint="what is known of enclaves must be yours or root's; STRONGROOM_STATE_DIR moves it",
        )
    if status.st_mode & _OTHER_WRITES:
        raise TeeError(
            f"others may change {checked}: its mode is {stat.S_IMODE(status.st_mode):04o}",
            hint=f"chmod go-w {checked}, and think of who may have done so",
        )


def _unreadable(what: Path, err: OSError) -> TeeError:
    return TeeError(
        f"cannot read {what}: {err.strerror}",
        hint="it tells which enclaves are trusted; STRONGROOM_STATE_DIR moves it",
    )


@contextlib.contextmanager
def _locked_directory() -> Iterator[int]:
    """Make the state directory if need be; hold it open, and its lock."""
    state_directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        directory = os.open(state_directory(), _DIRECTORY)
        stack.callback(os.close, directory)
        _check(os.fstat(directory), state_directory())
        lock = os.open(_LOCK, _OPEN_LOCK, 0o600, dir_fd=directory)
        stack.callback(os.close, lock)
        # The file is never removed, so its lock is everybody's. It is held for one small write.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _write(directory: int, lines: list[bytes]) -> None:
    _write_draft(directory, lines)
    try:
        os.replace(_DRAFT, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        _remove_draft(directory)
        raise
    os.fsync(directory)


def _write_draft(directory: int, lines: list[bytes]) -> None:
    content = b"".join(line + b"\n" for line in lines)
    if len(content) > MAX_FILE_BYTES:
        raise NoSpaceError(f"{path()} would be longer than {MAX_FILE_BYTES} bytes")
    # Under the lock, a draft that is there was left by a process that died.
    _remove_draft(directory)
    try:
        with os.fdopen(os.open(_DRAFT, _MAKE, 0o600, dir_fd=directory), "wb") as draft:
            draft.write(content)
            draft.flush()
            os.fsync(draft.fileno())
    except OSError:
        _remove_draft(directory)
        raise


def _remove_draft(directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_DRAFT, dir_fd=directory)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        message = f"cannot write {path()}: {err.strerror}"
        match err.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise NoPermissionError(
                    message, hint="run as its owner, or set STRONGROOM_STATE_DIR"
                ) from err
            case errno.ENOSPC | errno.EDQUOT:
                raise NoSpaceError(message) from err
            case _:
                raise PlatformError(message, hint="STRONGROOM_STATE_DIR moves it") from err

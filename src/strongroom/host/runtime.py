# SPDX-License-Identifier: Apache-2.0
"""Where open volumes leave their traces, and how those of a crash are found and removed.

::

    /run/strongroom/NAME.lock       flock held by the volume's host process for as long as it lives
    /run/strongroom/NAME/           control.sock, nbd.sock, log, fuse/
    /run/strongroom/NAME/record.json   what a later command needs to clean up after a crash

A directory whose lock can be taken belongs to nobody alive: it is stale.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, TypeAlias

from strongroom.errors import AlreadyOpenError, NoPermissionError, UsageError
from strongroom.host import attach
from strongroom.host.attach.record import JsonScalar
from strongroom.values import dataclass

Record: TypeAlias = dict[str, JsonScalar]

_DEFAULT_ROOT: Final = "/run/strongroom"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CLAIM_ATTEMPTS: Final = 5
_CLAIM_PAUSE_SECONDS: Final = 0.02
_MAX_SOCKET_PATH_BYTES: Final = 107
"""sockaddr_un holds 108 bytes with the final NUL."""


def root() -> Path:
    """Return the directory of all open volumes; ``STRONGROOM_RUNTIME_DIR`` moves it."""
    return Path(os.environ.get("STRONGROOM_RUNTIME_DIR") or _DEFAULT_ROOT)


def check_name(name: str) -> str:
    """Return a volume's name if it is one.

    Raises:
        UsageError: It is not 1 to 63 letters, digits, dots, dashes and underscores, or does not
            start with a letter or digit.
    """
    if not _NAME.fullmatch(name) or name.endswith(".lock"):
        raise UsageError(
            f"{name!r} is no volume name",
            hint="use up to 63 letters, digits, dots, dashes and underscores",
        )
    return name


@dataclass(frozen=True, slots=True)
class VolumeDirectory:
    """The directory of one open volume. Reading it needs no lock."""

    name: str

    @property
    def path(self) -> Path:
        """The directory itself."""
        return root() / self.name

    @property
    def control_socket(self) -> Path:
        """Where the command line reaches the host process."""
        return self.path / "control.sock"

    @property
    def nbd_socket(self) -> Path:
        """Where clients reach the plaintext."""
        return self.path / "nbd.sock"

    @property
    def log(self) -> Path:
        """What the host process and the enclave say."""
        return self.path / "log"

    @property
    def lock(self) -> Path:
        """The file whose lock tells whether the host process lives."""
        return root() / f"{self.name}.lock"

    def read_record(self) -> Record:
        """Return what the host process wrote down, or nothing if it had not come to it."""
        try:
            record = json.loads((self.path / "record.json").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_record(self, record: Record) -> None:
        """Replace the record in one step."""
        new = self.path / "record.json.new"
        new.write_text(json.dumps(record))
        new.replace(self.path / "record.json")

    def log_tail(self) -> str:
        """Return the last line of the log, for error messages."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


class Claim:
    """The right to be a volume's host process, held until :meth:`release` or death."""

    def __init__(self, directory: VolumeDirectory, lock_fd: int) -> None:
        self.directory = directory
        self._lock_fd = lock_fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Remove the directory and let go of the name."""
        _remove(self.directory)
        self.directory.lock.unlink(missing_ok=True)
        os.close(self._lock_fd)


def claim(name: str) -> Claim:
    """Take a name for a new volume, cleaning up after a dead one that had it.

    Raises:
        AlreadyOpenError: A living host process has the name.
        NoPermissionError: The runtime directory cannot be written.
        UsageError: The name is invalid, or the runtime directory's path is too long for sockets.
    """
    directory = VolumeDirectory(check_name(name))
    if len(os.fsencode(directory.control_socket)) > _MAX_SOCKET_PATH_BYTES:
        raise UsageError(
            f"the path of {directory.control_socket} is too long for a socket",
            hint="choose a shorter name, or move STRONGROOM_RUNTIME_DIR",
        )
    try:
        root().mkdir(mode=0o755, parents=True, exist_ok=True)
        lock_fd = _lock_patiently(directory)
        try:
            if directory.path.exists():
                _clean(directory)
            directory.path.mkdir(mode=0o700)
        except BaseException:
            os.close(lock_fd)
            raise
    except PermissionError as err:
        raise NoPermissionError(
            f"cannot write {err.filename}: {err.strerror}",
            hint="run as root, or set STRONGROOM_RUNTIME_DIR",
        ) from err
    return Claim(directory, lock_fd)


def _lock_patiently(directory: VolumeDirectory) -> int:
    """Return the locked descriptor; whoever only looks holds the lock for a moment."""
    for _ in range(_CLAIM_ATTEMPTS):
        lock_fd = _try_lock(directory)
        if lock_fd is not None:
            return lock_fd
        time.sleep(_CLAIM_PAUSE_SECONDS)
    raise AlreadyOpenError(
        f"a volume named {directory.name} is open already",
        hint=f"choose another name, or `strongroom close {directory.name}`",
    )


def volumes() -> tuple[VolumeDirectory, ...]:
    """Return the directories of volumes whose host process lives."""
    return tuple(directory for directory in _directories() if is_alive(directory))


def is_alive(directory: VolumeDirectory) -> bool:
    """Tell whether a volume's host process lives."""
    with contextlib.suppress(PermissionError):
        lock_fd = _try_lock(directory, create=False)
        if lock_fd is None:
            return directory.lock.exists()
        os.close(lock_fd)
    return False


def sweep() -> tuple[str, ...]:
    """Clean up after every host process that died without doing so itself.

    Returns:
        What was removed, one line each. Nothing when the caller may not write there.
    """
    removed: list[str] = []
    for directory in sorted({*_directories(), *_locked_names()}, key=lambda item: item.name):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            lock_fd = _try_lock(directory)
            if lock_fd is None:
                continue
            try:
                removed += _clean(directory)
                directory.lock.unlink(missing_ok=True)
            finally:
                os.close(lock_fd)
    return tuple(removed)


def _directories() -> Iterator[VolumeDirectory]:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for entry in sorted(root().iterdir()):
            if entry.is_dir() and _NAME.fullmatch(entry.name):
                yield VolumeDirectory(entry.name)


def _locked_names() -> Iterator[VolumeDirectory]:
    """Find locks too whose holder died before it made its directory, or after it removed it."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for entry in root().glob("*.lock"):
            if _NAME.fullmatch(entry.stem):
                yield VolumeDirectory(entry.stem)


def _try_lock(directory: VolumeDirectory, *, create: bool = True) -> int | None:
    """Return the locked descriptor, or ``None`` when a living process has the lock."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    while True:
        try:
            lock_fd = os.open(directory.lock, flags, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            return None
        # Its holder may have unlinked the file between our open and our lock: then this lock
        # guards nothing, and the one at the path is to be had anew.
        if _is_same_file(lock_fd, directory.lock):
            return lock_fd
        os.close(lock_fd)
        if not create:
            return None


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _clean(directory: VolumeDirectory) -> list[str]:
    record = directory.read_record()
    removed: list[str] = []
    pid, started = record.get("enclave_pid"), record.get("enclave_started")
    if isinstance(pid, int) and started == start_time(pid) and started is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        removed.append(f"enclave process {pid}")
    removed += attach.clean_stale(record)
    removed += _clean_orphans(directory)
    _remove(directory)
    return removed


def _remove(directory: VolumeDirectory) -> None:
    import shutil  # noqa: PLC0415 - it loads three libraries for archives, and most never ask

    shutil.rmtree(directory.path, ignore_errors=True)


def _clean_orphans(dead: VolumeDirectory) -> list[str]:
    """Remove devices and mounts that no record tells of: their host died before writing it.

    Args:
        dead: The directory that is being cleaned. Its lock is held, by this process.
    """
    found = attach.find_orphans(root())
    if not found:
        return []
    # Who lives is asked after the first look: a host takes its lock before it makes a device, so
    # what was seen before and belongs to nobody alive now cannot be in the making.
    alive = frozenset(directory.name for directory in volumes()) - {dead.name}
    removed: list[str] = []
    for orphan in attach.find_orphans(root(), live=alive):
        if orphan in found:
            removed += attach.clean_stale(orphan.record)
    return removed


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with the pid, its identity."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])

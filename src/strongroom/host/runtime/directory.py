# SPDX-License-Identifier: Apache-2.0
"""The directory of one open volume: its name, its files and its record."""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from strongroom.errors import StrongroomError, UsageError
from strongroom.host.attach.record import JsonScalar
from strongroom.host.runtime import place
from strongroom.values import dataclass

Record: TypeAlias = dict[str, JsonScalar]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RECORD: Final = "record.json"
_DRAFT: Final = "record.json.new"
_MAX_RECORD_BYTES: Final = 64 * 1024
"""Twenty times of what a record with two of the longest paths has."""
_MAX_TAIL_BYTES: Final = 4096
_KEPT_LOG_BYTES: Final = 64 * 1024
# Without O_NONBLOCK, a FIFO in the place of a file would hold us for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_name(text: str) -> bool:
    """Say whether a text is a volume's name."""
    return _NAME.fullmatch(text) is not None and not text.endswith(".lock")


def check_name(name: str) -> str:
    """Return a volume's name if it is one.

    Raises:
        UsageError: It is not 1 to 63 letters, digits, dots, dashes and underscores, or does not
            start with a letter or digit.
    """
    if not is_name(name):
        raise UsageError(
            f"{name!r} is no volume name",
            hint="use up to 63 letters, digits, dots, dashes and underscores",
        )
    return name


@dataclass(frozen=True, slots=True)
class VolumeDirectory:
    """The directory of one open volume. Reading it needs no lock.

    The paths are for people and for clients. Files are opened by descriptors, after a check that
    the directory is the caller's.
    """

    name: str

    @property
    def path(self) -> Path:
        """The directory itself."""
        return place.root() / self.name

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
    def kept_log(self) -> Path:
        """The end of the log of a volume that crashed, until the name is closed in order."""
        return place.root() / f".{self.name}.log"

    @property
    def lock(self) -> Path:
        """The file whose lock tells whether the host process lives."""
        return place.root() / f"{self.name}.lock"

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Give a descriptor of the directory.

        Raises:
            FileNotFoundError: There is none.
            NoPermissionError: It, or the runtime directory, is in the hands of another user.
            OSError: It cannot be opened.
        """
        with place.opened() as root:
            if root is None:
                raise FileNotFoundError(str(self.path))
            fd = place.open_below(root, self.name, self.path)
            try:
                yield fd
            finally:
                os.close(fd)

    def read_record(self) -> Record:
        """Return what the host process wrote down, or nothing if it had not come to it.

        A record that makes no sense is nothing too.
        """
        try:
            with self.opened() as directory:
                return read_record_in(directory)
        except (OSError, StrongroomError):
            return {}

    def log_tail(self) -> str:
        """Return the last line of the log, for error messages."""
        try:
            with self.opened() as directory:
                tail = _end_of("log", directory)
        except (OSError, StrongroomError):
            return ""
        lines = tail.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def keep_log_in(root_fd: int, directory_fd: int, directory: VolumeDirectory) -> Path | None:
    """Keep the end of a volume's log beside its directory; say where, if that worked."""
    name = directory.kept_log.name
    try:
        words = _end_of("log", directory_fd, _KEPT_LOG_BYTES)
        if not words:
            return None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=root_fd)
        with os.fdopen(os.open(name, _MAKE, 0o600, dir_fd=root_fd), "wb") as kept:
            kept.write(words)
    except (OSError, StrongroomError):
        return None
    return directory.kept_log


def read_record_in(directory: int) -> Record:
    """Return the record in a volume's directory; nothing if there is none that makes sense."""
    try:
        fd = os.open(_RECORD, _READ, dir_fd=directory)
    except OSError:
        return {}
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {}
        text = file.read(_MAX_RECORD_BYTES + 1)
    try:
        record = json.loads(text) if len(text) <= _MAX_RECORD_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record_in(directory: int, record: Record) -> None:
    """Replace the record in a volume's directory in one step.

    Raises:
        OSError: The directory is full or gone.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_DRAFT, dir_fd=directory)
    with os.fdopen(os.open(_DRAFT, _MAKE, 0o600, dir_fd=directory), "wb") as draft:
        draft.write(json.dumps(record).encode())
    os.replace(_DRAFT, _RECORD, src_dir_fd=directory, dst_dir_fd=directory)


def _end_of(name: str, directory: int, most_bytes: int = _MAX_TAIL_BYTES) -> bytes:
    with os.fdopen(os.open(name, _READ, dir_fd=directory), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return b""
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - most_bytes))
        return file.read(most_bytes)

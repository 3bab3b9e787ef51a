# SPDX-License-Identifier: Apache-2.0
"""The provider's files in the state directory, made atomically and read with distrust.

::

    STATE/process/                       0700
        root                             0600  32 random bytes
        signer                           0600  32 bytes, an Ed25519 seed
        started                          0600  empty: the machine's first start is past
        .starting                        0600  the same file, while it is under way
        code.*                           0600  byte code (strongroom.enclave.start)
        signatures/MEASUREMENT.json            signed identities, public
"""

import contextlib
import fcntl
import os
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom._core import Secret, read_secret_exactly, write_random_secret
from strongroom.directories import make_durably
from strongroom.errors import TeeError

SECRET_BYTES: Final = 32
ROOT: Final = "root"
SIGNER: Final = "signer"

_STARTED: Final = "started"
_STARTING: Final = ".starting"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, a FIFO in the place of a file would hold us for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_MARK: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_LOCK_SECONDS: Final = 20.0
"""Far more than a first start takes, on any machine."""
_LOCK_POLL_SECONDS: Final = 0.01

_ANY_OTHER: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHER_WRITES: Final = stat.S_IWGRP | stat.S_IWOTH


class Store:
    """The directory ``process`` of a state directory, held open. Use it in a ``with`` block."""

    def __init__(self, state: Path, *, create: bool) -> None:
        """Open it.

        Raises:
            TeeError: It is not there and not to be made, or others may change it.
        """
        self.path = state / "process"
        try:
            if create:
                # A volume must not be sealed to a secret that a power cut takes away again.
                make_durably(state)
                make_durably(self.path)
            self._check_state(state)
            self._fd = os.open(self.path, _DIRECTORY)
        except OSError as err:
            raise TeeError(
                f"cannot use {self.path}: {err.strerror}",
                hint="it is made by the first enclave that starts; STRONGROOM_STATE_DIR moves it",
            ) from err
        try:
            self._check(os.fstat(self._fd), self.path, forbidden=_ANY_OTHER)
        except TeeError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def secret(self, name: str) -> Secret | None:
        """Return a secret of 32 bytes, or ``None`` where there is no such file.

        Raises:
            TeeError: It is of another size or owner, not a file, or others may read it.
        """
        fd = self._open(name, forbidden=_ANY_OTHER)
        if fd is None:
            return None
        try:
            size = os.fstat(fd).st_size
            if size != SECRET_BYTES:
                raise TeeError(
                    f"{self.path / name} has {size} bytes instead of {SECRET_BYTES}",
                    hint=self.lost_hint(name),
                )
            return read_secret_exactly(fd, SECRET_BYTES)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def first_start(self) -> Iterator[bool]:
        """Tell whether the machine's own secrets are to be made in this block.

        They are made once. What is missing at a later start was lost, and another one would be
        another machine's. A first start that was cut short is still the first when it is repeated;
        of several at once, each waits for the one before.

        Raises:
            TeeError: The file system refuses to make files here, or another first start does not
                end.
        """
        if self._has(_STARTED):
            yield False
            return
        # The lock goes when the directory is closed.
        self._lock()
        if not self._is_first():
            yield False
            # Made by a version that left no mark; it may be that nothing can be written now.
            with contextlib.suppress(OSError):
                self._mark(_STARTED)
            return
        try:
            self._mark(_STARTING)
        except OSError as err:
            raise TeeError(f"cannot make {self.path / _STARTING}: {err.strerror}") from err
        yield True
        try:
            os.rename(_STARTING, _STARTED, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
        except OSError as err:
            raise TeeError(f"cannot make {self.path / _STARTED}: {err.strerror}") from err

    def _lock(self) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                if time.monotonic() > until:
                    raise TeeError(
                        f"another process holds {self.path} since {_LOCK_SECONDS:.0f} seconds",
                        hint=f"it may be stopped; `fuser {shlex.quote(str(self.path))}` names it",
                    ) from err
            else:
                return
            time.sleep(_LOCK_POLL_SECONDS)

    def was_started(self) -> bool:
        """Tell whether an enclave has ever started here, as far as its traces say."""
        return any(self._has(name) for name in (_STARTED, ROOT, SIGNER))

    def lost_hint(self, name: str) -> str:
        """Return what to do when a secret is lost."""
        place = shlex.quote(str(self.path))
        return (
            f"put {self.path / name} back from a backup. Without one, `mv {place} {place}.lost`,"
            " and open the volumes of this account with their recovery keys"
        )

    def make_secret(self, name: str) -> None:
        """Make a random secret of 32 bytes, unless there is one: of several makers, one wins.

        Raises:
            PlatformError: It could not be written, or there is no room.
            TeeError: The file system refuses to make files here.
        """
        draft = f".{name}.{os.urandom(8).hex()}"
        try:
            fd = os.open(draft, _MAKE, 0o600, dir_fd=self._fd)
            try:
                write_random_secret(fd, SECRET_BYTES)
                os.fsync(fd)
                os.link(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except FileExistsError:
                pass
            finally:
                os.close(fd)
                os.unlink(draft, dir_fd=self._fd)
            os.fsync(self._fd)
        except OSError as err:
            raise TeeError(f"cannot make {self.path / name}: {err.strerror}") from err

    def document(self, name: str, max_bytes: int) -> bytes | None:
        """Return a public file's bytes, or ``None`` where there is none.

        Raises:
            TeeError: It is longer than ``max_bytes``, not a file, or others may change it.
        """
        fd = self._open(name, forbidden=_OTHER_WRITES)
        if fd is None:
            return None
        with os.fdopen(fd, "rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise TeeError(f"{self.path / name} is longer than {max_bytes} bytes")
        return content

    def _is_first(self) -> bool:
        return not self.was_started() or (self._has(_STARTING) and not self._has(_STARTED))

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _mark(self, name: str) -> None:
        os.close(os.open(name, _MARK, 0o600, dir_fd=self._fd))
        os.fsync(self._fd)

    def _open(self, name: str, *, forbidden: int) -> int | None:
        path = self.path / name
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise TeeError(f"cannot open {path}: {err.strerror}") from err
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise TeeError(f"{path} is not a regular file")
            self._check(status, path, forbidden=forbidden)
        except TeeError:
            os.close(fd)
            raise
        return fd

    def _check_state(self, state: Path) -> None:
        # Whoever may write there may put another ``process`` in the place of ours.
        status = state.stat()
        self._check(status, state, forbidden=_OTHER_WRITES, owners=(0, os.geteuid()))

    @staticmethod
    def _check(
        status: os.stat_result, path: Path, *, forbidden: int, owners: tuple[int, ...] | None = None
    ) -> None:
        if status.st_uid not in (owners or (os.geteuid(),)):
            raise TeeError(
                f"{path} belongs to user {status.st_uid}",
                hint="an enclave and its state belong to the same user",
            )
        if status.st_mode & forbidden:
            verb = "change" if forbidden == _OTHER_WRITES else "read or change"
            raise TeeError(
                f"others may {verb} {path}: its mode is {stat.S_IMODE(status.st_mode):04o}",
                hint=f"`chmod go= {path}`, and think of who may have done so",
            )

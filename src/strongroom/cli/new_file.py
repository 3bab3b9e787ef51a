# SPDX-License-Identifier: Apache-2.0
"""Files that a command makes: new ones, for their owner's eyes, whole or not at all."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from strongroom.errors import NoPermissionError, NotFoundError, PlatformError, UsageError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def refuse_stream(path: Path, called: str) -> None:
    """Refuse the name of a standard stream where only a file will do.

    Raises:
        UsageError: It is ``-``.
    """
    if str(path) == "-":
        raise UsageError(
            f"the {called} cannot be standard output", hint="./- is a file with that name"
        )


@contextlib.contextmanager
def new_file(path: Path, *, called: str = "file") -> Iterator[int]:
    """Lend the descriptor of a new file, mode 0600; on an error inside the block it is removed.

    Its name is on the disk before the block begins, and its contents when the block has ended. A
    block that needs them earlier syncs the descriptor itself.

    Args:
        path: Where; nothing may be there.
        called: What it is to the operator.

    Raises:
        UsageError: It exists, or is ``-``.
        NotFoundError: Its directory does not.
        NoPermissionError: It may not be made.
        PlatformError: It cannot be made, or not be made durable.
    """
    refuse_stream(path, called)
    with contextlib.ExitStack() as undo:
        with _translating(path, called):
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, directory)
            file = os.open(path.name, _FLAGS, 0o600, dir_fd=directory)
            undo.callback(os.close, file)
        removal = undo.enter_context(contextlib.ExitStack())
        removal.callback(_remove, path.name, directory, file)
        with _translating(path, called):
            os.fchmod(file, stat.S_IRUSR | stat.S_IWUSR)
            os.fsync(directory)
        yield file
        with _translating(path, called):
            os.fsync(file)
        removal.pop_all()


@contextlib.contextmanager
def _translating(path: Path, called: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise UsageError(
            f"the {called} exists: {path}", hint="name a new file; none is overwritten"
        ) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"no such directory: {path.parent}") from error
    except PermissionError as error:
        raise NoPermissionError(f"the {called} may not be created: {path}") from error
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise UsageError(f"the {called} is a directory: {path}") from error
        reason = (error.strerror or "unknown reason").lower()
        raise PlatformError(f"cannot create {path}: {reason}") from error


def _remove(name: str, directory: int, file: int) -> None:
    """Remove a file that we made, if it still has its name."""
    with contextlib.suppress(OSError):
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if os.path.samestat(there, os.fstat(file)):
            os.unlink(name, dir_fd=directory)

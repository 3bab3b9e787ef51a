# SPDX-License-Identifier: Apache-2.0
"""From the system's error numbers to our errors."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.errors import (
    DiskError,
    NoPermissionError,
    NoSpaceError,
    NotFoundError,
    StrongroomError,
    TargetInUseError,
)


@contextmanager
def translating(path: Path, *, read_only_hint: str = "") -> Iterator[None]:
    """Raise the errors of the system in the block as ours; ``path`` is what they are about."""
    try:
        yield
    except OSError as err:
        raise translated(err, path, read_only_hint=read_only_hint) from err


def translated(err: OSError, path: Path, *, read_only_hint: str = "") -> StrongroomError:
    """Return the error of ours that says the same; the hint is for what may not be written."""
    match err.errno:
        case errno.ENOENT | errno.ENOTDIR:
            if not path.parent.is_dir():
                return NotFoundError(f"the directory {path.parent} does not exist")
            return NotFoundError(f"{path} does not exist")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return NoPermissionError(
                f"no permission to use {path}: {err.strerror}",
                hint=read_only_hint if err.errno == errno.EROFS else "",
            )
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return NoSpaceError(f"no room for {path}: {err.strerror}")
        case errno.EEXIST:
            return TargetInUseError(
                f"{path} exists already", hint="choose another name; nothing is overwritten"
            )
        case _:
            return DiskError(f"{path} cannot be used: {err.strerror}")

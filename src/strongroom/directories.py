# SPDX-License-Identifier: Apache-2.0
"""Directories whose making outlives a power cut."""

import os
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o700


def make_durably(directory: Path) -> None:
    """Make a directory, mode 0700, and the missing ones above it; what is there stays as it is.

    A directory's name lies in the one above, so that each of those is synced as well.

    Raises:
        OSError: One of them cannot be made or synced.
    """
    missing = [directory]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        try:
            path.mkdir(mode=_PRIVATE if path == directory else 0o777)
        except FileExistsError:
            if not path.is_dir():
                raise
            continue
        _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

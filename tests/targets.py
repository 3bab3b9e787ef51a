# SPDX-License-Identifier: Apache-2.0
"""What is asked about a target through a descriptor, for tests that have its path."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.host import target


@contextmanager
def opened(path: Path, *, read_only: bool = False) -> Iterator[int]:
    """Open an image for the block."""
    descriptor = target.open_image(path, read_only=read_only)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def signatures(path: Path) -> tuple[str, ...]:
    """Return what is on an image."""
    with opened(path) as descriptor:
        return target.probe_signatures(descriptor, path)


def ensure_formattable(path: Path, *, force: bool) -> None:
    """Look at a target as ``format`` does."""
    with opened(path) as descriptor, target.Hold(descriptor, path=path, shared=False):
        target.ensure_formattable(descriptor, path, force=force)


def ensure_free(path: Path) -> None:
    """Hold a target for a moment."""
    with opened(path) as descriptor, target.Hold(descriptor, path=path, shared=False):
        pass

# SPDX-License-Identifier: Apache-2.0
"""The sockets of a volume, and the log that says why there are none."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.host.runtime import place

_BACKLOG: Final = 64


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Listen on a UNIX socket that only its owner can reach, for the length of a block.

    Raises:
        StrongroomError: There is no room for it, or no permission to make it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with place.translating(path):
            listener.bind(str(path))
            listener.listen(_BACKLOG)
        yield listener


def log(text: str, name: str = "host") -> None:
    """Write a line to standard error, which is the volume's log or what a supervisor collects.

    A terminal that is gone must not keep a volume from being closed, so failing to is no error.
    """
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"strongroom {name}: {text}\n")
        sys.stderr.flush()

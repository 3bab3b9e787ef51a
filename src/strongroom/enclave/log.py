# SPDX-License-Identifier: Apache-2.0
"""What the enclave says to the host's log: one line for each failure, and never a secret."""

import contextlib
import sys
from collections.abc import Callable
from typing import TypeVar

from strongroom.errors import StrongroomError

PartT = TypeVar("PartT")


def log(text: str) -> None:
    """Write a line to standard error, which is the log of the host; failing to is not an error."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"strongroom enclave: {text}\n")
        sys.stderr.flush()


def attempt(step: Callable[[], PartT]) -> PartT | StrongroomError:
    """Return what a step gives, or why it failed, for whoever can tell the host."""
    try:
        return step()
    except StrongroomError as err:
        log(err.message)
        return err

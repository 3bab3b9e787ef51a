# SPDX-License-Identifier: Apache-2.0
"""Whether an open image is still the file at its path, and still as long as its volume."""

import os
import stat
from pathlib import Path
from typing import Literal

from strongroom.values import dataclass

ImageCondition = Literal["in place", "unknown", "moved", "replaced", "deleted", "cut short"]


@dataclass(frozen=True, slots=True)
class ImageState:
    """The state of an open image. ``words`` is a sentence for the operator, empty in order."""

    condition: ImageCondition
    words: str


_IN_PLACE = ImageState("in place", "")


def image_state(image_fd: int, path: Path, *, needed_bytes: int) -> ImageState:
    """Return the state of an open image; the worst one where several hold.

    The call asks the file system of the image, and blocks for as long as that blocks.

    Args:
        image_fd: The open image: a regular file or block device.
        path: The path under which it was opened, absolute.
        needed_bytes: Where the volume ends in the image: data offset plus data size.
    """
    try:
        info = os.fstat(image_fd)
        size = os.lseek(image_fd, 0, os.SEEK_END)
    except OSError as err:
        return ImageState("unknown", f"{path} cannot be looked at: {err.strerror}")
    if size < needed_bytes:
        return ImageState(
            "cut short",
            f"{path} was cut short: it has {size} bytes, and the volume needs {needed_bytes}; "
            "what is missing cannot be read or written",
        )
    is_file = stat.S_ISREG(info.st_mode)
    if is_file and info.st_nlink == 0:
        return ImageState(
            "deleted", f"{path} was deleted: all of its data is lost when the volume is closed"
        )
    return _state_at(path, info)


def _state_at(path: Path, info: os.stat_result) -> ImageState:
    """Compare an open image, which is whole, with the file at its path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return ImageState(
            "moved", f"{path} is not there any more: it was renamed, or unmounted while in use"
        )
    except OSError as err:
        return ImageState("unknown", f"{path} cannot be looked at: {err.strerror}")
    same = os.path.samestat(info, there)
    if stat.S_ISBLK(info.st_mode) and stat.S_ISBLK(there.st_mode):
        same = info.st_rdev == there.st_rdev
    if same:
        return _IN_PLACE
    return ImageState(
        "replaced", f"{path} is another file now: the volume uses the one that was there before"
    )

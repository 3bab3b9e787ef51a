# SPDX-License-Identifier: Apache-2.0
"""The stable name of an open volume's device: ``/dev/strongroom/NAME``."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

DEVICE_DIRECTORY: Final = Path("/dev/strongroom")
_ATTEMPTS: Final = 100


def make_link(directory: Path, name: str, device: Path) -> tuple[Path, str]:
    """Make the link appear at once, in place of a stale one.

    Returns:
        The path to use and a notice: the link and ``""``, or the device itself and why there is no
        link. A missing link is a nuisance, not a reason to refuse the volume.
    """
    link = directory / name
    temporary = directory / f".{name}.{os.getpid()}"
    try:
        if link.exists() and not link.is_symlink():
            return device, f"{link} is not a link and was left alone: use {device}"
        temporary.unlink(missing_ok=True)
        _link_below(directory, temporary, device)
        temporary.replace(link)
    except OSError as err:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return device, f"{link} could not be made ({err.strerror}): use {device}"
    return link, ""


def _link_below(directory: Path, link: Path, device: Path) -> None:
    """Make a link and its directory, which another volume that ends may remove in between."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            directory.mkdir(mode=0o755, exist_ok=True)
            link.symlink_to(device)
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def remove_link(link: Path, device: Path) -> bool:
    """Remove a link if it still leads to ``device``, and its directory if that is empty then."""
    try:
        if link.readlink() != device:
            return False
        link.unlink()
    except OSError:
        return False
    with suppress(OSError):
        link.parent.rmdir()
    return True

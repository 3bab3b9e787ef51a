# SPDX-License-Identifier: Apache-2.0
"""Where is kept what must outlive a boot: secrets of enclaves, and what is known of them."""

import os
import pwd
from pathlib import Path
from typing import Final

from strongroom.errors import PlatformError
from strongroom.values import dataclass

ROOT: Final = 0
_DEFAULT: Final = "/var/lib/strongroom"
_IN_HOME: Final = Path(".local/state/strongroom")


@dataclass(frozen=True, slots=True)
class Account:
    """Another account of this machine, and where its state is unless it was moved."""

    name: str
    state: Path


def state_directory() -> Path:
    """Return the state directory; it need not exist, and is not made here.

    It is the first of these that applies:

    1. ``STRONGROOM_STATE_DIR``, unless empty. A relative path counts from the current directory.
    2. ``/var/lib/strongroom`` for root.
    3. ``strongroom`` in ``XDG_STATE_HOME``, unless that is empty or relative.
    4. ``~/.local/state/strongroom``.

    Returns:
        An absolute path. Who owns it, and who else may write there, is for its users to check.

    Raises:
        PlatformError: The fourth applies, and the user has no home.

    Spec: XDG Base Directory Specification 0.8, "a relative path should be considered invalid".
    """
    chosen = os.environ.get("STRONGROOM_STATE_DIR")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == ROOT:
        return Path(_DEFAULT)
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():
        home = _home() / ".local" / "state"
    return home / "strongroom"


def invoking_account() -> Account | None:
    """Return who runs this with sudo; for messages only, as anybody can set such a variable."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != ROOT or not (uid.isascii() and uid.isdigit()) or int(uid) == ROOT:
        return None
    try:
        entry = pwd.getpwuid(int(uid))
    except (KeyError, OverflowError):
        return None
    return Account(entry.pw_name, Path(entry.pw_dir) / _IN_HOME)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as err:
        raise PlatformError(
            f"user {os.geteuid()} has no home directory to keep state in",
            hint="set STRONGROOM_STATE_DIR",
        ) from err

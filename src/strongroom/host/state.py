# SPDX-License-Identifier: Apache-2.0
"""Where is kept what must outlive a boot: secrets of enclaves, and what is known of them."""

import os
from pathlib import Path
from typing import Final

from strongroom.errors import PlatformError

_DEFAULT: Final = "/var/lib/strongroom"
_ROOT: Final = 0


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
    if os.geteuid() == _ROOT:
        return Path(_DEFAULT)
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():
        home = _home() / ".local" / "state"
    return home / "strongroom"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as err:
        raise PlatformError(
            f"user {os.geteuid()} has no home directory to keep state in",
            hint="set STRONGROOM_STATE_DIR",
        ) from err

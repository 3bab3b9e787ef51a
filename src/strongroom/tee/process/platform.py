# SPDX-License-Identifier: Apache-2.0
"""What stands for the hardware: the machine's root secret, its boot, who watches."""

import sys
from pathlib import Path
from typing import Final

from strongroom._core import Secret, hkdf_sha256
from strongroom.errors import TeeError
from strongroom.tee.process.store import ROOT, Store
from strongroom.uuids import uuid_bytes

REPORT_KEY_BYTES: Final = 32

_MADE_HINT: Final = "it is made by the first enclave that starts with this state directory"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_REPORT_KEY_INFO: Final = b"strongroom/1 report key\0"


def root_secret(store: Store, *, create: bool) -> Secret:
    """Return the platform's root secret, 32 bytes.

    Args:
        store: Where it is.
        create: This is the machine's first start, so it may be made.

    Raises:
        TeeError: There is none and none is to be made, or its file is not as it must be.
        PlatformError: It could not be written.
    """
    root = store.secret(ROOT)
    if root is None and create:
        store.make_secret(ROOT)
        root = store.secret(ROOT)
    if root is None:
        raise TeeError(
            f"there is no {store.path / ROOT}",
            hint=store.lost_hint(ROOT) if store.was_started() else _MADE_HINT,
        )
    return root


def boot_id() -> bytes:
    """Return what tells this boot of the kernel from every other, 16 bytes.

    Raises:
        TeeError: The kernel does not tell.
    """
    try:
        return uuid_bytes(_BOOT_ID.read_text().strip())
    except (OSError, ValueError) as err:
        raise TeeError(f"cannot read {_BOOT_ID}", hint="mount /proc") from err


def report_key(root: Secret, boot: bytes) -> Secret:
    """Return the key of this boot's reports, 32 bytes: HKDF of the root, the boot in the info."""
    info = _REPORT_KEY_INFO + boot
    return hkdf_sha256([root], salt=b"", info=info, length_bytes=REPORT_KEY_BYTES)


def is_debugged() -> bool:
    """Tell whether this Python is a debug build, in development mode, traced or profiled."""
    watched = sys.gettrace() is not None or sys.getprofile() is not None
    return sys.flags.dev_mode or watched or hasattr(sys, "gettotalrefcount")

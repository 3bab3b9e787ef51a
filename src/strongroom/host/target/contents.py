# SPDX-License-Identifier: Apache-2.0
"""What is on a target, and who uses it.

Nothing here parses a volume: the magic numbers only answer whether there is one.
"""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Final

from strongroom.errors import DiskError, TargetInUseError, UnavailableError
from strongroom.host.attach.usage import device_uses, file_uses, in_use
from strongroom.host.target._errno import translated

_LUKS_PRIMARY: Final = b"LUKS\xba\xbe"
_LUKS_SECONDARY: Final = b"SKUL\xba\xbe"
_SECONDARY_OFFSETS: Final = tuple(0x4000 << shift for shift in range(9))
_PROBE_SECONDS: Final = 60.0


def probe_signatures(fd: int, path: Path) -> tuple[str, ...]:
    """Return the types of all known signatures: file systems, partition tables, RAID, LUKS.

    All of them, also where they contradict each other. LUKS is looked for at the places of both
    headers without any tool.

    Args:
        fd: The open target. Nothing is opened by name: what is found is what ``fd`` writes to.
        path: What a message calls it.

    Raises:
        UnavailableError: util-linux's ``wipefs`` is missing or failed, so nobody knows.
        DiskError: Reading failed.
    """
    found = ["crypto_LUKS"] if _has_luks(fd, path) else []
    return tuple(dict.fromkeys(found + _probe_with_wipefs(fd)))


def ensure_formattable(fd: int, path: Path, *, force: bool) -> None:
    """Refuse a target that holds anything known, unless ``force`` is given.

    The target must be held (:class:`strongroom.host.target.Hold`), and be written through ``fd``
    alone: another file may be at ``path`` by then.

    Raises:
        TargetInUseError: It holds something; the message says what.
        StrongroomError: Whatever :func:`probe_signatures` raises.
    """
    if force:
        return
    found = probe_signatures(fd, path)
    if found:
        raise TargetInUseError(
            f"{path} holds {', '.join(found)}",
            hint="use --force to destroy what is there, after looking twice",
        )


def ensure_restorable(fd: int, path: Path, *, force: bool) -> None:
    """Refuse a target that holds something known and no LUKS header, unless ``force`` is given.

    Which volume's header it is, where there is one, is not looked at.

    Raises:
        TargetInUseError: It holds something else; the message says what.
        StrongroomError: As :func:`probe_signatures`.
    """
    # A header needs no tool to be found, so a rescue system without wipefs restores it.
    if force or _has_luks(fd, path):
        return
    found = probe_signatures(fd, path)
    if found and "crypto_LUKS" not in found:
        raise TargetInUseError(
            f"{path} holds {', '.join(found)}, and no header of a volume",
            hint="if that overwrote the header of the volume, --force puts the backup back",
        )


def ensure_unused(fd: int, path: Path) -> None:
    """Refuse a block device that is mounted, held or swap, and a file under a loop device or swap.

    A snapshot: what begins to use the target later is not seen.

    Raises:
        MountedError: It is in use; the message says by what.
        StrongroomError: The caller may not look at it.
    """
    target = Path(f"/proc/self/fd/{fd}")
    try:
        is_device = stat.S_ISBLK(os.fstat(fd).st_mode)
        uses = device_uses(target) if is_device else file_uses(target)
    except OSError as err:
        raise translated(err, path) from err
    if uses:
        raise in_use(path, uses)


def _has_luks(fd: int, path: Path) -> bool:
    try:
        return _has_luks_magic(fd)
    except OSError as err:
        raise DiskError(f"{path} cannot be read: {err.strerror}") from err


def _has_luks_magic(fd: int) -> bool:
    if os.pread(fd, len(_LUKS_PRIMARY), 0) == _LUKS_PRIMARY:
        return True
    length = len(_LUKS_SECONDARY)
    return any(os.pread(fd, length, place) == _LUKS_SECONDARY for place in _SECONDARY_OFFSETS)


def _probe_with_wipefs(fd: int) -> list[str]:
    """Ask libblkid for all signatures; unlike blkid, wipefs also lists those that contradict."""
    try:
        done = subprocess.run(
            ["wipefs", "--no-act", "--json", f"/proc/self/fd/{fd}"],
            check=True,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
        )
        listed = json.loads(done.stdout or b"{}").get("signatures", [])
        return [str(entry["type"]) for entry in listed]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as err:
        raise UnavailableError(
            "it cannot be found out what is on the target: wipefs failed",
            hint="install util-linux, or use --force after looking yourself",
        ) from err

# SPDX-License-Identifier: Apache-2.0
"""How a device says whose it is, and what is written down for cleaning up after a dead host."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from strongroom.values import dataclass

JsonScalar: TypeAlias = str | int | float | bool | None
Record: TypeAlias = dict[str, JsonScalar]

ATTACHMENTS: Final = "fuse"
"""The directory in a volume's own in which an attachment has its mount for a moment."""
_PREFIX: Final = "strongroom"
_NAME_LIMIT: Final = 34
"""Characters of the volume's name in a tag, which must fit into a loop device's 63 bytes."""


@dataclass(frozen=True, slots=True)
class Tag:
    """The mark on a device: runtime root, this attachment, volume.

    The nonce tells a device from a later one that got the same number, even of the same volume.
    """

    root: str
    nonce: str
    name: str

    @property
    def text(self) -> str:
        """Return the tag as the device carries it."""
        return f"{_PREFIX}:{self.root}:{self.nonce}:{self.name}"


def new_tag(runtime: Path, name: str) -> Tag:
    """Make a fresh tag for a volume whose runtime directory is ``runtime``."""
    return Tag(root_digest(runtime.parent), os.urandom(4).hex(), name[:_NAME_LIMIT])


def is_name_of(volume: str, tag_name: str) -> bool:
    """Say whether a name from a tag, which may be cut short, is that of ``volume``."""
    return volume[:_NAME_LIMIT] == tag_name[:_NAME_LIMIT]


def parse_tag(text: str) -> Tag | None:
    """Read a tag; ``None`` when the device is not one of ours."""
    parts = text.split(":", 3)
    if len(parts) != 4 or parts[0] != _PREFIX:  # noqa: PLR2004 - the four parts of a tag
        return None
    return Tag(*parts[1:])


def root_digest(runtime_root: Path) -> str:
    """Return the short name of a runtime root in tags."""
    import hashlib  # noqa: PLC0415 - it loads OpenSSL, and few processes ask

    path = os.fsencode(runtime_root.resolve())
    return hashlib.sha256(path).hexdigest()[:8]


def text(record: Mapping[str, JsonScalar], key: str) -> str:
    """Return a text of a record; empty if it is missing or something else."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def number(record: Mapping[str, JsonScalar], key: str) -> int:
    """Return an integer of a record that is at least 0; -1 if it is missing or something else."""
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else -1


def path(record: Mapping[str, JsonScalar], key: str) -> Path | None:
    """Return an absolute path of a record; ``None`` if it is missing or something else."""
    value = text(record, key)
    return Path(value) if value.startswith("/") and "\0" not in value else None


def process_started(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; -1 if there is none.

    Together with the pid it names a process for ever, because pids are reused.

    Spec: proc_pid_stat(5), field 22.
    """
    try:
        # The second field, the program's name, may hold anything, parentheses and blanks included.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return -1
    state, ticks = fields[0], int(fields[19])
    return -1 if state in {"Z", "X"} else ticks

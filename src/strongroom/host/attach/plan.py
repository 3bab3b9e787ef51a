# SPDX-License-Identifier: Apache-2.0
"""What is to be attached."""

import os
from pathlib import Path
from typing import Final

from strongroom.host.attach.record import Tag
from strongroom.values import dataclass

_MAX_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class AttachPlan:
    """A volume's socket and geometry, and the tag that its device will carry."""

    name: str
    socket: Path
    runtime: Path
    size_bytes: int
    sector_size_bytes: int
    read_only: bool
    tag: Tag

    @property
    def connections(self) -> int:
        """How many NBD connections to use."""
        return min(_MAX_CONNECTIONS, os.cpu_count() or 1)

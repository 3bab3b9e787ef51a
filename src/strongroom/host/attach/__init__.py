# SPDX-License-Identifier: Apache-2.0
"""Turn an open volume's NBD socket into a block device, and take it away again.

``attach`` and ``detach`` are for the live host; ``clean_stale`` and ``find_orphans`` clear up after
one that was killed. Nothing here sees a key, or a byte of the volume besides the kernel's own
plaintext device.
"""

from strongroom.host.attach._libc import io_flusher
from strongroom.host.attach.attaching import attach
from strongroom.host.attach.backend import Attached
from strongroom.host.attach.detaching import detach
from strongroom.host.attach.link import DEVICE_DIRECTORY
from strongroom.host.attach.record import JsonScalar
from strongroom.host.attach.stale import Orphan, clean_stale, find_orphans

__all__ = [
    "DEVICE_DIRECTORY",
    "Attached",
    "JsonScalar",
    "Orphan",
    "attach",
    "clean_stale",
    "detach",
    "find_orphans",
    "io_flusher",
]

# SPDX-License-Identifier: Apache-2.0
"""Turn an open volume into a block device, and take it away again.

``attach`` and ``detach`` are for the live host; ``clean_stale`` and ``find_orphans`` clear up after
one that was killed. Nothing here sees a key, or a byte of the volume besides the kernel's own
plaintext device.
"""

from typing import TYPE_CHECKING

from strongroom import lazy

if TYPE_CHECKING:
    from strongroom.host.attach._libc import io_flusher
    from strongroom.host.attach.attaching import attach
    from strongroom.host.attach.backend import Attached
    from strongroom.host.attach.detaching import detach
    from strongroom.host.attach.link import DEVICE_DIRECTORY
    from strongroom.host.attach.record import JsonScalar
    from strongroom.host.attach.stale import Orphan, clean_stale, find_orphans
else:
    __getattr__ = lazy.exports(
        __name__,
        {
            "DEVICE_DIRECTORY": "strongroom.host.attach.link",
            "Attached": "strongroom.host.attach.backend",
            "JsonScalar": "strongroom.host.attach.record",
            "Orphan": "strongroom.host.attach.stale",
            "attach": "strongroom.host.attach.attaching",
            "clean_stale": "strongroom.host.attach.stale",
            "detach": "strongroom.host.attach.detaching",
            "find_orphans": "strongroom.host.attach.stale",
            "io_flusher": "strongroom.host.attach._libc",
        },
    )

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

# SPDX-License-Identifier: Apache-2.0
"""Where open volumes leave their traces, which of them live, and what the dead ones left.

::

    /run/strongroom/NAME.lock       flock held by the volume's host process for as long as it lives
    /run/strongroom/NAME/           control.sock, nbd.sock, log, fuse/
    /run/strongroom/NAME/record.json   what a later command needs to clean up after a crash
    /run/strongroom/.NAME.log       the end of the log of a crash, until the name is closed in order

All of these are files, and files can be removed while a volume is open. So a host process also
holds a mark that only its end removes (:mod:`~strongroom.host.runtime.marks`). A volume is dead
only if its lock is free, its mark is gone and the process in its record has ended.
"""

from typing import TYPE_CHECKING

from strongroom import lazy

if TYPE_CHECKING:
    from strongroom.host.runtime.claims import Claim, claim, is_alive, volumes
    from strongroom.host.runtime.directory import Record, VolumeDirectory, check_name
    from strongroom.host.runtime.place import root
    from strongroom.host.runtime.sweeping import kept_logs, kept_words, sweep
else:
    __getattr__ = lazy.exports(
        __name__,
        {
            "Claim": "strongroom.host.runtime.claims",
            "Record": "strongroom.host.runtime.directory",
            "VolumeDirectory": "strongroom.host.runtime.directory",
            "check_name": "strongroom.host.runtime.directory",
            "claim": "strongroom.host.runtime.claims",
            "is_alive": "strongroom.host.runtime.claims",
            "root": "strongroom.host.runtime.place",
            "kept_logs": "strongroom.host.runtime.sweeping",
            "kept_words": "strongroom.host.runtime.sweeping",
            "sweep": "strongroom.host.runtime.sweeping",
            "volumes": "strongroom.host.runtime.claims",
        },
    )

__all__ = [
    "Claim",
    "Record",
    "VolumeDirectory",
    "check_name",
    "claim",
    "is_alive",
    "kept_logs",
    "kept_words",
    "root",
    "sweep",
    "volumes",
]

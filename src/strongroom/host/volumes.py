# SPDX-License-Identifier: Apache-2.0
"""Everything the command line asks for, one function a command.

A volume that is open has a host process, which is asked over its control socket; everything else
starts an enclave for the one operation and ends it. Every function first cleans up after host
processes that died, so that no command meets the traces of a crash.
"""

from typing import TYPE_CHECKING

from strongroom import lazy

if TYPE_CHECKING:
    from strongroom.host.backups import backup_header, restore_header
    from strongroom.host.doctor import doctor
    from strongroom.host.foreground import serve_volume
    from strongroom.host.forgetting import forget
    from strongroom.host.formatting import format_volume
    from strongroom.host.identity import identity
    from strongroom.host.images import (
        add_keyslot,
        change_keyslot,
        remove_keyslot,
        selftest,
    )
    from strongroom.host.listing import list_volumes
    from strongroom.host.looking import dump, list_keyslots
    from strongroom.host.opening import open_volume
    from strongroom.host.resealing import reseal
    from strongroom.host.running import close_volume, status
    from strongroom.host.unlocking import set_key
else:
    __getattr__ = lazy.exports(
        __name__,
        {
            "add_keyslot": "strongroom.host.images",
            "backup_header": "strongroom.host.backups",
            "change_keyslot": "strongroom.host.images",
            "close_volume": "strongroom.host.running",
            "doctor": "strongroom.host.doctor",
            "dump": "strongroom.host.looking",
            "forget": "strongroom.host.forgetting",
            "format_volume": "strongroom.host.formatting",
            "identity": "strongroom.host.identity",
            "list_keyslots": "strongroom.host.looking",
            "list_volumes": "strongroom.host.listing",
            "open_volume": "strongroom.host.opening",
            "remove_keyslot": "strongroom.host.images",
            "reseal": "strongroom.host.resealing",
            "restore_header": "strongroom.host.backups",
            "selftest": "strongroom.host.images",
            "serve_volume": "strongroom.host.foreground",
            "set_key": "strongroom.host.unlocking",
            "status": "strongroom.host.running",
        },
    )

__all__ = [
    "add_keyslot",
    "backup_header",
    "change_keyslot",
    "close_volume",
    "doctor",
    "dump",
    "forget",
    "format_volume",
    "identity",
    "list_keyslots",
    "list_volumes",
    "open_volume",
    "remove_keyslot",
    "reseal",
    "restore_header",
    "selftest",
    "serve_volume",
    "set_key",
    "status",
]

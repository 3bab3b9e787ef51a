# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the host: attaches, says so, and waits to be killed.

Usage: standin.py KIND NAME SOCKET RUNTIME SIZE DEVICES [STOP], where STOP is a function of the
package before whose return the process stops dead, to be killed there.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Literal, cast

from strongroom.host.attach import attach, attaching, loop, nbdfuse


def stop_after(place: str) -> None:
    """Send ourselves SIGSTOP when the named call is done."""
    owner, name = {
        "start": (nbdfuse, "_start"),
        "bind": (nbdfuse, "bind"),
        "loop": (loop, "make_loop"),
        "link": (attaching, "make_link"),
    }[place]
    wrapped = getattr(owner, name)

    def stopping(*arguments: object, **named: object) -> object:
        result = wrapped(*arguments, **named)
        os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, stopping)


def main() -> None:
    kind, name, socket, runtime, size, devices, *stop = sys.argv[1:]
    for place in stop:
        stop_after(place)
    attached = attach(
        cast("Literal['fuse', 'nbd']", kind),
        name=name,
        socket=Path(socket),
        runtime=Path(runtime),
        size_bytes=int(size),
        sector_size_bytes=4096,
        read_only=False,
        discard=False,
        serve_fuse=None,
        device_directory=Path(devices),
    )
    print(json.dumps(attached.record), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()

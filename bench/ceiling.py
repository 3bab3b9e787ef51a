# SPDX-License-Identifier: Apache-2.0
"""How fast a server with nothing to do would be: what remains is the client and the protocol."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.bench.clients import warm
from strongroom.bench.comparison import Comparison
from strongroom.bench.nbd import RANDOM, SEQUENTIAL, speeds, uris
from strongroom.bench.place import require
from strongroom.bench.run import Run
from strongroom.bench.servers import (
    NBDKIT_FILE,
    NBDKIT_ON_LUKS,
    STRONGROOM_NBD,
    Contestant,
    make_plain,
)

REPOSITORY: Final = Path(__file__).parents[1]
EXAMPLE: Final = ("--release", "--quiet", "-p", "strongroom-data", "--example", "serve_nothing")
PROGRAM: Final = REPOSITORY / "target/release/examples/serve_nothing"
NOTHING: Final = Contestant.by_command(
    "no disk, no cipher", make_plain, (), str(PROGRAM), "{image}", "{socket}"
)
CONTESTANTS: Final = (STRONGROOM_NBD, NBDKIT_FILE, NBDKIT_ON_LUKS, NOTHING)


def ceiling(run: Run) -> Iterator[Comparison]:
    """Measure our server without a disk and without a cipher, beside whole ones."""
    require("fio", "nbdinfo")
    subprocess.run(["cargo", "build", *EXAMPLE], check=True, cwd=REPOSITORY)
    with run.serving(CONTESTANTS) as servers:
        warm(run.place, uris(servers), run.size_bytes)
        yield from speeds(run, servers, (*SEQUENTIAL, *RANDOM))

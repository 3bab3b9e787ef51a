# SPDX-License-Identifier: Apache-2.0
"""Write numbered blocks and note, outside of the volume, which of them were flushed.

``writer.py nbd SOCKET EXPORT JOURNAL`` (libnbd's Python) or ``writer.py file PATH JOURNAL``. A line
of the journal is the number of a round: all its blocks are flushed once the line is there. Runs
until the volume fails, or for a minute.
"""

import importlib
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

BLOCK_BYTES = 4096
BLOCKS = 256
BLOCKS_A_ROUND = 6
SECONDS = 60


def block(place: int, number: int) -> bytes:
    """Return the content of a block that was written in a round."""
    return b"%08d %08d\n" % (place, number) * 226 + bytes(BLOCK_BYTES - 226 * 18)


def places(number: int) -> list[int]:
    """Return which blocks a round writes."""
    return random.Random(number).sample(range(BLOCKS), BLOCKS_A_ROUND)


def work(write: Callable[[bytes, int], object], flush: Callable[[], object], journal: Path) -> None:
    end, number = time.monotonic() + SECONDS, 0
    with journal.open("w") as notes:
        while time.monotonic() < end:
            number += 1
            for place in places(number):
                write(block(place, number), place * BLOCK_BYTES)
            flush()
            notes.write(f"{number}\n")
            notes.flush()


def main() -> None:
    if sys.argv[1] == "nbd":
        nbd = importlib.import_module("nbd")  # only the system's Python has it

        handle = nbd.NBD()
        handle.set_export_name(sys.argv[3])
        handle.connect_unix(sys.argv[2])
        work(handle.pwrite, handle.flush, Path(sys.argv[4]))
        return
    file = os.open(sys.argv[2], os.O_RDWR)
    work(
        lambda data, offset: os.pwrite(file, data, offset),
        lambda: os.fsync(file),
        Path(sys.argv[3]),
    )


if __name__ == "__main__":
    main()

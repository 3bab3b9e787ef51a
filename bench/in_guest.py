# SPDX-License-Identifier: Apache-2.0
"""Runs inside the guest: dm-crypt, ours and a plain loop device take turns; prints JSON.

Arguments: rounds, seconds of a turn.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.bench.clients import Workload, fio, timed
from strongroom.bench.comparison import Comparison
from strongroom.bench.files import LOOP, Block, dd_and_hdparm, ext4_mounted, loop_device, our_device
from strongroom.bench.nbd import RANDOM, SEQUENTIAL
from strongroom.bench.place import Place, place_in
from strongroom.bench.run import Run
from strongroom.units import MIB

GROUP: Final = "guest"
SIZE_BYTES: Final = 160 * MIB
DM_CRYPT: Final = "dm-crypt"
LUKS2: Final = (
    *("--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512"),
    *("--sector-size", "4096", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
)


class Quiet:
    """A reporter for a machine that nobody looks at."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def notice(self, text: str) -> None:
        """Say nothing; the result has it."""


@contextmanager
def dm_crypt(place: Place) -> Iterator[Block]:
    """Hold a LUKS2 volume with 4096-byte sectors open, on a loop device, by the kernel."""
    with loop_device(place, DM_CRYPT, SIZE_BYTES + 16 * MIB) as below:
        key = ("--batch-mode", "--key-file", place.key_file)
        place.run("cryptsetup", "luksFormat", *LUKS2, *key, below.path)
        place.run("cryptsetup", "open", *key, below.path, "theirs")
        try:
            yield Block(DM_CRYPT, Path("/dev/mapper/theirs"))
        finally:
            place.run("cryptsetup", "close", "theirs", check=False)


def measured(run: Run) -> Iterator[Comparison]:
    """The devices as such, and then file systems on them."""
    with ExitStack() as stack:
        blocks = [
            stack.enter_context(our_device(run.place, SIZE_BYTES)),
            stack.enter_context(dm_crypt(run.place)),
            stack.enter_context(loop_device(run.place, LOOP, SIZE_BYTES)),
        ]
        for workload in (*SEQUENTIAL, *RANDOM):
            actions = {one.name: partial(on_device, run, one, workload) for one in blocks}
            measure = f"{workload.name}, O_DIRECT"
            yield Comparison(GROUP, measure, "GB/s", run.in_turn(actions))
        places = [stack.enter_context(ext4_mounted(run.place, block)) for block in blocks]
        yield from dd_and_hdparm(run, places)


def on_device(run: Run, block: Block, workload: Workload) -> float:
    """Read or write a device past the page cache; return GB/s."""
    options = ("--ioengine=libaio", "--direct=1", *workload.options, *timed(run.seconds))
    target = (f"--filename={block.path}", f"--size={SIZE_BYTES}", "--name=job")
    return fio(run.place, *options, *target).gigabytes_per_second


def main() -> None:
    """Measure and print."""
    # There is no udev here that would make the nodes.
    os.environ["DM_DISABLE_UDEV"] = "1"
    with place_in(None) as place:
        run = Run(GROUP, place, int(sys.argv[1]), float(sys.argv[2]), SIZE_BYTES, Quiet())
        measures = [one.facts() for one in measured(run)]
    print(json.dumps({"measures": measures, "left_out": run.left_out}))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The kernel's dm-crypt against ours, both in one virtual machine with a stock Debian kernel.

The machine is emulated, instruction by instruction. Only how the two compare in it means anything:
its AES is slow, its cores are slow, and what a system call costs beside both is not what it costs
on a processor.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from strongroom.bench.comparison import Comparison
from strongroom.bench.run import Run
from strongroom.errors import UnavailableError
from tests.system.guest import GuestError, GuestKernelMissingError, run_in_guest

IN_GUEST: Final = Path(__file__).with_name("in_guest.py")
MODULES: Final = (
    *("loop", "ext4", "crc32c_generic", "fuse", "nbd"),
    *("dm_crypt", "xts", "aesni_intel", "algif_skcipher"),
)
SECONDS: Final = 500
MEMORY_MIB: Final = 2048


def guest(run: Run) -> Iterator[Comparison]:
    """Measure in the guest, and say what it said."""
    run.expect(1)
    command = [sys.executable, str(IN_GUEST), str(run.rounds), str(run.seconds)]
    try:
        done = run_in_guest(command, modules=MODULES, timeout=SECONDS, memory_mib=MEMORY_MIB)
    except (GuestKernelMissingError, GuestError) as err:
        raise UnavailableError(f"no guest: {err}") from err
    lines = done.output.splitlines()
    if done.status or not lines:
        raise UnavailableError(f"the guest failed: {done.output[-500:]}")
    said = json.loads(lines[-1])
    run.left_out.extend(said["left_out"])
    run.left_out.append("the guest is emulated: only ratios within it mean anything")
    for facts in said["measures"]:
        yield Comparison.from_facts(facts)
    run.step()

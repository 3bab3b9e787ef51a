# SPDX-License-Identifier: Apache-2.0
"""Runs inside the guest: Ctrl-C on ``serve`` with the kernel's NBD client and a file system."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.harness import Operator
from tests.system.lifecycle.test_signals import INTERRUPT, QUIT, check_saved, save, serving


def ensure(condition: object, what: str) -> None:
    if not condition:
        raise RuntimeError(f"not so: {what}")
    print("shown:", what, flush=True)


def main() -> None:
    for key in (INTERRUPT, QUIT):
        with tempfile.TemporaryDirectory(dir="/run") as place:
            operator, point = Operator(Path(place)), Path(place) / "point"
            point.mkdir()
            with serving(operator, "--attach", "nbd") as served:
                ensure(os.path.realpath("/dev/strongroom/served") == "/dev/nbd0", "kernel nbd")
                save(operator, point)
                os.write(served.terminal, key)
                ensure(served.wait() == 0, f"closed in order: {served.said!r}")
            check_saved(operator, point, "nbd")
            ensure(not Path("/sys/block/nbd0/pid").exists(), "nothing lost, nothing left")
    found = subprocess.run(["losetup", "-a"], check=False, capture_output=True).stdout
    ensure(not found, "no loop device was in it")
    print("all shown")


if __name__ == "__main__":
    main()

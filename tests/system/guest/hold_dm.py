# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: devices of dm on a loop device, and which of them can be held."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from strongroom.errors import AlreadyOpenError, MountedError
from strongroom.host.target import Hold, open_image

SECTORS = 16384
FILE = Path("/dev/shm/disk")


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=text)
    return done.stdout.strip()


def held(path: Path) -> Hold:
    """Hold a target as an open volume does."""
    return Hold(open_image(path, read_only=False), path=path, shared=False)


def refused(path: Path, kind: type[Exception], words: str) -> None:
    """Expect that a target cannot be held."""
    with pytest.raises(kind, match=re.escape(words)):
        held(path)


def main() -> None:
    """Make the devices, and hold them in every order that matters."""
    FILE.touch()
    os.truncate(FILE, SECTORS * 512)
    with held(FILE):
        loop = Path(run("losetup", "--find", "--show", FILE))
        half = SECTORS // 2
        for name, start in (("low", 0), ("high", half)):
            run("dmsetup", "create", name, text=f"0 {half} linear {loop} {start}")
        low, high = Path("/dev/mapper/low"), Path("/dev/mapper/high")
        for device in (low, high):
            refused(device, AlreadyOpenError, f"{device} stands on {FILE}, which is open")
    with held(low), held(high):
        refused(low, AlreadyOpenError, "is open already")
        refused(loop, MountedError, "is in use")
        other = Path(run("losetup", "--find", "--show", FILE))
        refused(other, AlreadyOpenError, f"stands on {FILE}")
    with held(low):
        pass


if __name__ == "__main__":
    main()
    print("held as they should be")

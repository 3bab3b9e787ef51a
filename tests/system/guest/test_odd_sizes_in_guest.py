# SPDX-License-Identifier: Apache-2.0
"""The kernel's own dm-crypt opens volumes of odd sizes with the recovery key; it needs a guest."""

import os
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import Operator
from tests.system.guest.machine import require_guest, run_in_guest

pytestmark = pytest.mark.system

MODULES: Final = (
    "loop",
    "dm_crypt",
    "aes_generic",
    "ecb",
    "xts",
    "algif_skcipher",
    "algif_hash",
    "sha256_generic",
)
HEADER: Final = 16 << 20
SIZES: Final = (HEADER + (1 << 20), HEADER + (1 << 20) + 1536, HEADER + (1 << 20) + 2048)


def made(operator: Operator, size: int) -> tuple[Path, Path]:
    """Make a volume of exactly this size with a recovery key, as cryptsetup wants the key."""
    image, recovery = operator.place / f"image-{size}", operator.place / f"recovery-{size}"
    image.touch()
    os.truncate(image, size)
    operator.format(image, "--recovery-key-file", recovery, size=None)
    recovery.write_text(recovery.read_text().strip())
    return image, recovery


def test_stock_cryptsetup_opens_every_size(operator: Operator) -> None:
    require_tools("cryptsetup", "dmsetup")
    require_guest()
    script = "export DM_DISABLE_UDEV=1\n"
    for size in SIZES:
        image, recovery = made(operator, size)
        script += (
            # The file system of the host does not take the direct reads of cryptsetup.
            f"cp {image} /dev/shm/image && D=$(losetup --find --show /dev/shm/image) || exit 2\n"
            f"cryptsetup open --key-file {recovery} $D v{size} || exit 3\n"
            f"echo size $(blockdev --getsize64 /dev/mapper/v{size}); cryptsetup close v{size}\n"
            "losetup --detach $D\n"
        )
    result = run_in_guest(["sh", "-c", script], modules=MODULES)
    assert result.status == 0, f"{result.output}\n{result.console}"
    sizes = [int(line.split()[1]) for line in result.output.splitlines() if line[:5] == "size "]
    assert sizes == [size - HEADER for size in SIZES]

# SPDX-License-Identifier: Apache-2.0
"""An image that is cut short while it is open: no write makes it longer again, and all is told."""

import os
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import DiskError
from tests.conftest import require_tools
from tests.harness import Operator

pytestmark = pytest.mark.system

MIB: Final = 1 << 20
SIZE: Final = 24 * MIB
CUT: Final = SIZE - 4 * MIB


@pytest.fixture
def image(operator: Operator) -> Path:
    require_tools("qemu-io")
    path = operator.place / "image"
    operator.format(path, size=str(SIZE))
    return path


def qemu_io(operator: Operator, uri: str, *commands: str) -> str:
    """Run commands of qemu-io, which says what failed and exits with 0 or 1."""
    words = [word for command in commands for word in ("-c", command)]
    done = operator.run("qemu-io", "-f", "raw", "-t", "none", *words, uri, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("direct", [False, True])
def test_writes_behind_the_cut_are_errors(operator: Operator, image: Path, *, direct: bool) -> None:
    options = ("--direct",) if direct else ()
    facts = operator.open(image, "v", *options)
    try:
        end = facts["size_bytes"] - MIB
        assert "wrote" in qemu_io(operator, facts["uri"], f"write -P 7 {end} 64k", "flush")
        os.truncate(image, CUT)
        for command in (f"write -P 8 {end} 64k", f"write -P 8 {end + 512} 512", f"read {end} 4k"):
            assert "Input/output error" in qemu_io(operator, facts["uri"], command), command
        assert image.stat().st_size == CUT
        # Longer again, it has a gap of zeroes, which no flush may call whole.
        os.truncate(image, SIZE)
        assert operator.strongroom("close", "v", check=False).returncode == DiskError.exit_code
    finally:
        operator.close("v", "--force", check=False)

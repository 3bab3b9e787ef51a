# SPDX-License-Identifier: Apache-2.0
"""What a trim and a zero do to the image, with and without ``--discard``."""

from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import STOCK, Operator
from tests.interop.nbd import offline, tools

pytestmark = pytest.mark.interop

SECTORS: Final = (512, 4096)
MIB: Final = 1024 * 1024
IMAGE_SIZE: Final = "28M"
"""12 MiB of it are data."""
PATTERN: Final = b"\x5a"
TRIMMED: Final = slice(2 * MIB + 100, 10 * MIB + 100)
"""Off the sector grid at both ends."""


def qemu_io(operator: Operator, uri: str, *commands: str) -> None:
    """Run commands, all of which must succeed."""
    words = [word for command in commands for word in ("-c", command)]
    printed = operator.run("qemu-io", "-f", "raw", "-d", "unmap", *words, uri).stdout
    assert "failed" not in printed, printed


def made(operator: Operator, sector: int) -> Path:
    """Make a small volume whose image has no holes."""
    require_tools("qemu-io", "cryptsetup", tools.SYSTEM_PYTHON)
    image = operator.place / "image"
    operator.format(image, *STOCK, "--sector-size", str(sector), size=IMAGE_SIZE)
    return image


def trim(operator: Operator, image: Path, *options: str) -> tuple[int, int]:
    """Fill a volume, trim a part of it; return what the image occupied before and after."""
    start, length = TRIMMED.start, TRIMMED.stop - TRIMMED.start
    with operator.opened(image, "trim", *options) as facts:
        qemu_io(operator, facts["uri"], "write -P 0x5a 0 12M", "flush")
        before = image.stat().st_blocks * 512
        tools.check_libnbd(facts["uri"], "trim", str(start), str(length))
        after = image.stat().st_blocks * 512
        assert operator.facts("status", "trim")["counters"]["trims"] == 1
    return before, after


@pytest.mark.parametrize("sector", SECTORS)
def test_trim_with_discard_punches_a_hole(operator: Operator, sector: int) -> None:
    image = made(operator, sector)
    before, after = trim(operator, image, "--discard")
    wanted = TRIMMED.stop - TRIMMED.start
    assert wanted - 2 * 4096 <= before - after <= wanted
    assert image.stat().st_size == 28 * MIB
    plaintext = offline.plaintext(operator, image)
    assert set(plaintext[: TRIMMED.start]) == set(PATTERN)
    assert set(plaintext[TRIMMED.stop :]) == set(PATTERN)


@pytest.mark.parametrize("sector", SECTORS)
def test_trim_without_discard_changes_nothing(operator: Operator, sector: int) -> None:
    image = made(operator, sector)
    before, after = trim(operator, image)
    assert after == before
    assert set(offline.plaintext(operator, image)) == set(PATTERN)


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("options", [(), ("--discard",)], ids=["plain", "discard"])
def test_zeroes_are_stored_encrypted(
    operator: Operator, sector: int, options: tuple[str, ...]
) -> None:
    image = made(operator, sector)
    with operator.opened(image, "trim", *options) as facts:
        qemu_io(operator, facts["uri"], "write -P 0x5a 0 12M", "flush")
        before = image.stat().st_blocks
        qemu_io(operator, facts["uri"], "write -z -u 1000001 4M", "flush")
        assert image.stat().st_blocks == before
    plaintext = offline.plaintext(operator, image)
    zeroed = slice(1_000_001, 1_000_001 + 4 * MIB)
    assert not any(plaintext[zeroed])
    assert set(plaintext[: zeroed.start]) | set(plaintext[zeroed.stop :]) == set(PATTERN)

# SPDX-License-Identifier: Apache-2.0
"""Data areas that are no multiple of 4096 bytes: dm-crypt takes only sectors that divide them."""

import os
import re
from pathlib import Path

import pytest

from strongroom.errors import UsageError
from tests.conftest import require_tools
from tests.harness import STOCK, Operator

pytestmark = pytest.mark.interop

MIB = 1 << 20
HEADER = 16 * MIB


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("cryptsetup")


def sector_size_of(operator: Operator, header: Path) -> int:
    dumped = operator.run("cryptsetup", "luksDump", header).stdout
    found = re.search(r"sector:\s+(\d+) \[bytes\]", dumped)
    assert found is not None, dumped
    return int(found[1])


@pytest.mark.parametrize(
    ("left_over", "sector"),
    [(0, 4096), (1536, 512), (512, 512), (1024, 1024), (2048, 2048), (6144, 2048), (100, 4096)],
)
@pytest.mark.parametrize("place", ["existing", "new", "detached"])
def test_the_sector_size_divides_the_data_area(
    operator: Operator, place: str, left_over: int, sector: int
) -> None:
    image, header = operator.place / "image", operator.place / "header"
    size = 4 * MIB + left_over
    if place == "detached":
        made = operator.format(image, "--header", header, *STOCK, size=str(size))
    else:
        image.touch()
        os.truncate(image, HEADER + size)
        if place == "new":
            image.unlink()
        given = str(HEADER + size) if place == "new" else None
        made = operator.format(image, *STOCK, size=given)
        header = image
    assert made["sector_size_bytes"] == sector
    assert sector_size_of(operator, header) == sector
    assert made["data_size_bytes"] == size - size % 512
    with operator.opened(image, "v", *(("--header", header) if header != image else ())) as facts:
        assert facts["notices"] == []


def test_a_sector_size_that_does_not_fit_is_refused(operator: Operator) -> None:
    image = operator.place / "image"
    image.touch()
    os.truncate(image, HEADER + MIB + 1024)
    key = ("--passphrase-file", operator.passphrase_file, "--no-recovery")
    for size in ("2048", "4096"):
        done = operator.strongroom("format", image, "--sector-size", size, *key, check=False)
        assert done.returncode == UsageError.exit_code, done.stderr
        assert "leave out --sector-size, which gives 1024" in done.stderr
    assert image.read_bytes() == bytes(HEADER + MIB + 1024)
    assert operator.format(image, "--sector-size", "512", size=None)["sector_size_bytes"] == 512


def test_a_size_that_became_odd_is_said_at_open(operator: Operator) -> None:
    image = operator.place / "image"
    operator.format(image, *STOCK, size=str(HEADER + MIB))
    os.truncate(image, HEADER + MIB + 1536)
    with operator.opened(image, "v") as facts:
        (said,) = facts["notices"]
    assert "until it is 1536 shorter or 2560 longer" in said
    for size in (HEADER + MIB, HEADER + MIB + 4096):
        os.truncate(image, size)
        with operator.opened(image, "v") as facts:
            assert facts["notices"] == []

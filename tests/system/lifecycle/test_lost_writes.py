# SPDX-License-Identifier: Apache-2.0
"""A write that the disk refused is lost, and no end of its volume is a success."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse, require_root, require_tools
from tests.harness import Operator
from tests.system.crash.remains import end_all

pytestmark = pytest.mark.system

DISK: Final = 51
UNFLUSHED: Final = 56
ROOM: Final = "24M"
NAME: Final = "full"
LOST: Final = "failed: what was to be written there is lost"


@pytest.fixture
def full(operator: Operator) -> Iterator[Path]:
    """A sparse volume on a disk that has not enough room for it."""
    require_root()
    place = operator.place / "disk"
    place.mkdir()
    operator.run("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", place)
    try:
        operator.format(place / "image", "--sparse", size="64M")
        yield place / "image"
    finally:
        end_all(operator.place)


def state(operator: Operator) -> tuple[str, list[str]]:
    facts = operator.facts("status", NAME)
    return facts["state"], facts["problems"]


def closed(operator: Operator, *options: str) -> tuple[int, str]:
    done = operator.strongroom("close", NAME, *options, check=False)
    return done.returncode, done.stderr


def test_a_device_whose_disk_is_full(operator: Operator, full: Path) -> None:
    """The kernel drops what it could not write, and takes the next flush for a good one."""
    require_fuse()
    require_tools("dd")
    facts = operator.open(full, NAME, "--attach", "fuse")
    device = facts["device"]
    dd = ("dd", "if=/dev/urandom", f"of={device}", "bs=1M", "count=40", "conv=fsync")
    assert operator.run(*dd, check=False).returncode
    word, problems = state(operator)
    assert (word, [LOST in problem for problem in problems]) == ("failing", [True]), problems
    code, said = closed(operator)
    if code == DISK:
        assert "still open" in said
        code, said = closed(operator)
    assert code == UNFLUSHED, said
    assert f"{NAME} is closed, but" in said
    assert LOST in said


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["in order", "by force"])
def test_a_client_whose_disk_is_full(
    operator: Operator, full: Path, options: tuple[str, ...]
) -> None:
    require_tools("nbdcopy")
    uri = operator.open(full, NAME)["uri"]
    data = operator.place / "data"
    data.write_bytes(bytes(40 << 20))
    assert operator.run("nbdcopy", "--flush", data, uri, check=False).returncode
    assert state(operator)[0] == "failing"
    code, said = closed(operator, *options)
    assert (code, LOST in said) == (UNFLUSHED, True), said


def test_a_request_that_was_wrong_loses_nothing(operator: Operator, full: Path) -> None:
    require_tools("nbdsh")
    uri = operator.open(full, NAME)["uri"]
    beyond = "h.set_strict_mode(0); h.pwrite(b'x' * 512, h.get_size())"
    assert operator.run("nbdsh", "-u", uri, "-c", beyond, check=False).returncode
    assert state(operator) == ("open", [])
    assert closed(operator) == (0, "")

# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

from tests.system.guest import require_guest, run_in_guest

from .conftest import require

pytestmark = [pytest.mark.system, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("guest_nbd.py")
SOURCE = Path(__file__).parents[3] / "src"


def test_the_kernels_nbd_client_is_attached_used_and_cleaned_up() -> None:
    require("nbdkit", "mkfs.ext4", root=False)
    require_guest()
    result = run_in_guest(
        [sys.executable, str(SCRIPT)],
        modules=("nbd", "ext4", "crc32c_generic"),
        timeout=400,
        environment={"PYTHONPATH": str(SOURCE)},
    )
    assert result.status == 0, result.output + result.console
    assert result.output.endswith("all shown\n")


def test_a_command_that_fails_in_the_guest_says_so() -> None:
    require_guest()
    result = run_in_guest(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout=120)
    assert (result.status, result.output) == (7, "out\nerr\n")

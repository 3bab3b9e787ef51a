# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.system.guest import require_guest, run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


def test_a_key_at_the_terminal_closes_the_kernels_nbd_in_order() -> None:
    require_tools("mkfs.ext4")
    require_guest()
    result = run_in_guest(
        [sys.executable, "-m", "tests.system.lifecycle.guest_signals"],
        modules=("nbd", "ext4", "crc32c_generic"),
        timeout=560,
        environment={"PYTHONPATH": str(ROOT), "STRONGROOM_STATE_DIR": "/run/state"},
    )
    assert result.status == 0, result.output + result.console
    assert result.output.endswith("all shown\n")

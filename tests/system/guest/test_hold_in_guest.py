# SPDX-License-Identifier: Apache-2.0
"""Devices of dm, which the build machine's kernel has none of, on files that are open."""

import sys
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.system.guest.machine import require_guest, run_in_guest

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).with_name("hold_dm.py")


def test_devices_of_dm_are_held_with_the_file_below() -> None:
    require_tools("dmsetup", "losetup")
    require_guest()
    environment = {"DM_DISABLE_UDEV": "1"}
    command = [sys.executable, str(PROGRAM)]
    result = run_in_guest(command, modules=("loop", "dm_mod"), environment=environment)
    assert result.status == 0, f"{result.output}\n{result.console}"
    assert "held as they should be" in result.output

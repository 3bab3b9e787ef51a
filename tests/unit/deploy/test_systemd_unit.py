# SPDX-License-Identifier: Apache-2.0
"""The guide's unit, as systemd reads it: no ordering cycle at boot, and it can be enabled."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import STRONGROOM

pytestmark = pytest.mark.unit

GUIDE: Final = Path(__file__).parents[3] / "docs" / "guide" / "operating.md"
PROGRAM: Final = "/opt/strongroom/.venv/bin/strongroom"
INSTANCE: Final = "strongroom@data.service"


def unit() -> str:
    """Return the unit of the guide, with the program where it is here."""
    (text,) = re.findall(r"```ini\n(\[Unit\]\n.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(text).replace(PROGRAM, str(STRONGROOM))


def verified(place: Path, text: str) -> tuple[int, str]:
    """Have systemd verify a boot with the unit enabled as it says."""
    require_tools("systemd-analyze")
    (place / "strongroom@.service").write_text(text)
    for target in re.findall(r"^WantedBy=(.*)$", text, re.MULTILINE):
        wants = place / f"{target}.wants"
        wants.mkdir()
        (wants / INSTANCE).symlink_to("../strongroom@.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "multi-user.target", str(place / INSTANCE)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"},
    )
    return done.returncode, done.stdout + done.stderr


def test_a_boot_with_the_unit_has_no_ordering_cycle(tmp_path: Path) -> None:
    _, said = verified(tmp_path, unit())
    assert "ordering cycle" not in said
    assert INSTANCE not in said, "systemd has something to say about the unit"


def test_systemd_finds_the_cycle_of_a_unit_that_has_one(tmp_path: Path) -> None:
    text = unit().replace("DefaultDependencies=no\n", "Before=local-fs.target\n")
    _, said = verified(tmp_path, text)
    assert "ordering cycle" in said


def test_the_unit_can_be_enabled(tmp_path: Path) -> None:
    require_tools("systemctl")
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "strongroom@.service").write_text(unit())
    subprocess.run(
        ["systemctl", f"--root={tmp_path}", "enable", INSTANCE], check=True, capture_output=True
    )
    assert (units / "multi-user.target.wants" / INSTANCE).is_symlink()

# SPDX-License-Identifier: Apache-2.0
"""The threat model on Debian 12's own kernel: its tests from ``spec/evidence.md``, in one guest."""

import re
import sys
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.system.guest import require_guest, run_in_guest
from tests.unit.evidence.page import PAGE, REPOSITORY, read

GUEST_SECONDS: Final = 2700
PATIENCE: Final = "5"
"""How often the time that a program has here it has there."""
KERNEL: Final = "6.1."

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(GUEST_SECONDS + 60)]


def test_the_threat_model_holds_on_another_kernel() -> None:
    require_tools("swtpm", "cryptsetup", "setpriv")
    require_guest()
    tests = read(PAGE.read_text()).in_guest
    done = run_in_guest(
        [sys.executable, "-m", "tests.system.guest.evidence_in_guest", *tests],
        modules=("loop", "fuse"),
        timeout=GUEST_SECONDS,
        memory_mib=2048,
        environment={
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}",
            "STRONGROOM_TEST_PATIENCE": PATIENCE,
        },
    )
    print(done.output)
    assert done.status == 0, done.output
    assert f"kernel {KERNEL}" in done.output
    passed = re.findall(r"^passed (.+) call \d+ s", done.output, re.MULTILINE)
    assert sorted(passed) == sorted(tests)

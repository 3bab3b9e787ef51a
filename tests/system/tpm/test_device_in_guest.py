# SPDX-License-Identifier: Apache-2.0
"""The kernel's own TPM devices, in a guest whose kernel has the driver that swtpm stands behind."""

import sys
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.system.guest import require_guest, run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


def test_the_relay_before_a_kernels_tpm() -> None:
    require_tools("swtpm")
    require_guest()
    result = run_in_guest(
        [sys.executable, "-m", "tests.system.tpm.device_in_guest"],
        modules=("tpm_vtpm_proxy",),
        timeout=400,
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    )
    assert result.status == 0, result.output + result.console
    assert result.output.endswith("the kernel's TPM works\n")

# SPDX-License-Identifier: Apache-2.0
"""The kernel's own TPM devices, in a guest whose kernel has the driver that swtpm stands behind.

It boots once for all of them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_tools
from tests.system.guest import GuestResult, require_guest, run_in_guest
from tests.system.tpm.device_in_guest import PLACES, SELFTEST
from tests.system.tpm.test_commands import TESTS

GUEST_SECONDS = 2700
# The first test boots, and waits for all that is done.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(GUEST_SECONDS + 60)]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def guest() -> GuestResult:
    """What was done in the guest."""
    require_tools("swtpm")
    require_guest()
    return run_in_guest(
        [sys.executable, "-m", "tests.system.tpm.device_in_guest"],
        modules=("tpm_vtpm_proxy",),
        timeout=GUEST_SECONDS,
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    )


def test_the_relay_before_a_kernels_tpm(guest: GuestResult) -> None:
    assert guest.status == 0, guest.output + guest.console
    assert guest.output.endswith("the kernel's TPM works\n")


@pytest.mark.parametrize("enrolled", [False, True], ids=["not enrolled", "enrolled"])
@pytest.mark.parametrize("place", PLACES)
def test_the_program_before_a_kernels_tpm(
    guest: GuestResult, place: str, *, enrolled: bool
) -> None:
    (run,) = [
        run for run in selftests(guest) if (run["place"], run["enrolled"]) == (place, enrolled)
    ]
    assert run["status"] == 0, (run["said"], run["printed"])
    done = json.loads(run["printed"])
    assert {test["name"]: test["problem"] for test in done} == dict.fromkeys(TESTS, "")
    assert {test["in"] for test in done} == {place}
    # The enclave says so as long as it takes whichever TPM answers.
    assert ("not enrolled" in run["said"]) is (place == "enclave" and not enrolled)


def selftests(guest: GuestResult) -> list[dict[str, Any]]:
    lines = guest.output.splitlines()
    return [json.loads(line.removeprefix(SELFTEST)) for line in lines if line.startswith(SELFTEST)]

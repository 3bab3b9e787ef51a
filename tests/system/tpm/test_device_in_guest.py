# SPDX-License-Identifier: Apache-2.0
"""The kernel's own TPM devices, in a guest whose kernel has the driver that swtpm stands behind.

It boots once for what is tested always, and once for the rest. A machine that emulates another
takes the better part of a minute for each self test.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_tools
from tests.system.guest import GuestResult, require_guest, run_in_guest
from tests.system.tpm.device_in_guest import SELFTEST
from tests.system.tpm.test_commands import TESTS

GUEST_SECONDS = 2700
# The first test boots, and waits for all that is done.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(GUEST_SECONDS + 60)]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def guest() -> GuestResult:
    """What was done in the guest: each place once."""
    return done_in_guest("host", "enclave")


@pytest.fixture(scope="module")
def other_guest() -> GuestResult:
    """The same places, the other way round."""
    return done_in_guest("enclave", "host")


def done_in_guest(places_before: str, places_after: str) -> GuestResult:
    require_tools("swtpm")
    require_guest()
    program = "tests.system.tpm.device_in_guest"
    return run_in_guest(
        [sys.executable, "-m", program, places_before, places_after],
        modules=("tpm_vtpm_proxy",),
        timeout=GUEST_SECONDS,
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    )


def test_the_relay_before_a_kernels_tpm(guest: GuestResult) -> None:
    assert guest.status == 0, guest.output + guest.console
    assert guest.output.endswith("the kernel's TPM works\n")


@pytest.mark.parametrize(("place", "enrolled"), [("host", False), ("enclave", True)])
def test_the_program_before_a_kernels_tpm(
    guest: GuestResult, place: str, *, enrolled: bool
) -> None:
    check_selftest(guest, place, enrolled=enrolled)


@pytest.mark.long
@pytest.mark.parametrize(("place", "enrolled"), [("enclave", False), ("host", True)])
def test_the_program_the_other_way_round(
    other_guest: GuestResult, place: str, *, enrolled: bool
) -> None:
    check_selftest(other_guest, place, enrolled=enrolled)


def check_selftest(guest: GuestResult, place: str, *, enrolled: bool) -> None:
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

# SPDX-License-Identifier: Apache-2.0
"""A low limit of locked memory costs secret memory, is said, and costs nothing else."""

import json
from typing import Any, Final

import pytest

from tests.conftest import require_tools
from tests.harness import STRONGROOM, Operator

pytestmark = pytest.mark.system

KIB: Final = 1024
NEEDED: Final = 3584 * KIB
TOO_LITTLE: Final = (0, 4 * KIB, 8 * KIB, 64 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 3072 * KIB)
DEFAULT: Final = 8192 * KIB
"""The kernel's own since Linux 5.16."""


def limited(limit_bytes: int) -> tuple[str, ...]:
    return ("prlimit", f"--memlock={limit_bytes}:{limit_bytes}", str(STRONGROOM))


def secret_memory(operator: Operator) -> dict[str, Any]:
    (found,) = [
        item
        for item in operator.facts("status", "locked")["confinement"]
        if item["name"] == "secret memory"
    ]
    return dict(found)


@pytest.mark.parametrize("limit_bytes", TOO_LITTLE)
def test_every_enclave_starts_and_names_the_limit(operator: Operator, limit_bytes: int) -> None:
    require_tools("prlimit")
    image, key = operator.place / "image", ("--passphrase-file", operator.passphrase_file)
    operator.format(image)
    done = operator.run(*limited(limit_bytes), "open", image, "locked", "--attach", "none", *key)
    try:
        assert done.stderr.count("measures of confinement are missing here: secret memory") == 1
        found = secret_memory(operator)
    finally:
        operator.close("locked")
    assert not found["active"]
    assert f"is {limit_bytes // KIB} KiB, and {NEEDED // KIB} KiB are needed" in found["detail"]


def test_doctor_warns(operator: Operator) -> None:
    require_tools("prlimit")
    said = operator.run(*limited(64 * KIB), "doctor", "--json", check=False).stdout
    (found,) = [item for item in json.loads(said) if item["topic"] == "secret memory"]
    assert found["level"] == "warning"
    assert "64 KiB" in found["found"]
    assert "ulimit -l 8192" in found["mend"]


def test_the_kernels_default_is_enough(operator: Operator) -> None:
    require_tools("prlimit")
    image, key = operator.place / "image", ("--passphrase-file", operator.passphrase_file)
    operator.format(image)
    with operator.opened(image, "locked"):
        before = secret_memory(operator)
    done = operator.run(*limited(DEFAULT), "open", image, "locked", "--attach", "none", *key)
    try:
        assert ("secret memory" in done.stderr) == (not before["active"])
        assert secret_memory(operator) == before
    finally:
        operator.close("locked")

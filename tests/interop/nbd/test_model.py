# SPDX-License-Identifier: Apache-2.0
"""Ten thousand random requests, then the same bytes by three roads."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import require_tools
from tests.harness import Operator
from tests.interop.nbd import offline
from tests.interop.nbd.model import READ, Modelled, connections, machine
from tests.interop.nbd.tools import SYSTEM_PYTHON

pytestmark = [pytest.mark.interop, pytest.mark.slow]

OPERATIONS: Final = 10_000
STEPS: Final = 120
RUNS: Final = 100
IMAGE_SIZE: Final = "20M"
"""4 MiB of it are data."""


@pytest.mark.parametrize(
    ("sector", "count", "options"),
    [(4096, 2, ()), (512, 2, ("--discard",)), (4096, 1, ("--discard",))],
    ids=["4096-two-connections", "512-two-connections-discard", "4096-one-connection-discard"],
)
def test_random_requests(
    operator: Operator, sector: int, count: int, options: tuple[str, ...]
) -> None:
    require_tools(SYSTEM_PYTHON, "cryptsetup")
    image = operator.place / "image"
    size = operator.format(image, "--sector-size", str(sector), size=IMAGE_SIZE)["data_size_bytes"]
    expected = bytearray(size)
    with operator.opened(image, "model", *options) as facts:
        with connections(facts["uri"], count) as volume:
            target = Modelled(volume, expected, discard="--discard" in options)
            run_state_machine_as_test(
                machine(target),
                settings=settings(
                    max_examples=RUNS,
                    stateful_step_count=STEPS,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=tuple(HealthCheck),
                ),
            )
        counters = operator.facts("status", "model")["counters"]
    print(f"{target.operations} operations, {counters}")
    assert target.operations >= OPERATIONS
    assert counters["errors"] == 0
    check_after_close(operator, image, bytes(expected))


def check_after_close(operator: Operator, image: Path, expected: bytes) -> None:
    """Compare what a second opening and an independent decryption find."""
    with (
        operator.opened(image, "model", "--read-only") as facts,
        connections(facts["uri"], 1) as volume,
    ):
        assert volume.send(READ, 0, length=len(expected)) == expected
    assert offline.plaintext(operator, image) == expected

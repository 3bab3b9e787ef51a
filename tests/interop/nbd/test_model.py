# SPDX-License-Identifier: Apache-2.0
"""Ten thousand random requests, then the same bytes by three roads."""

import random
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import require_tools
from tests.harness import STOCK, Operator
from tests.interop.nbd import offline
from tests.interop.nbd.model import (
    DATA_BYTES,
    FLUSH,
    READ,
    TRIM,
    WRITE,
    ZERO,
    Modelled,
    connections,
    machine,
)
from tests.interop.nbd.tools import SYSTEM_PYTHON

pytestmark = [pytest.mark.interop, pytest.mark.slow]

OPERATIONS: Final = 10_000
STEPS: Final = 120
RUNS: Final = 105
COUNTED: Final = {"reads": READ, "writes": WRITE, "flushes": FLUSH, "trims": TRIM, "zeroes": ZERO}
IMAGE_SIZE: Final = "20M"
"""16 MiB of header before :data:`DATA_BYTES`."""


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
    made = operator.format(image, *STOCK, "--sector-size", str(sector), size=IMAGE_SIZE)
    assert made["data_size_bytes"] == DATA_BYTES
    with operator.opened(image, "model", "--structured-replies", *options) as facts:
        with connections(facts["uri"], count) as volume:
            beginning = random.Random(sector).randbytes(DATA_BYTES)
            target = Modelled(volume, beginning, discard="--discard" in options)
            run_state_machine_as_test(
                machine(target),
                settings=settings(
                    max_examples=RUNS,
                    stateful_step_count=STEPS,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    report_multiple_bugs=False,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=tuple(HealthCheck),
                ),
            )
        counters = operator.facts("status", "model")["counters"]
    print(f"{target.operations} operations, {counters}")
    assert target.operations >= OPERATIONS
    assert {name: counters[name] for name in COUNTED} == {
        name: volume.sent[kind] for name, kind in COUNTED.items()
    }
    assert counters["errors"] == 0
    check_after_close(operator, image, bytes(target.expected))


def check_after_close(operator: Operator, image: Path, expected: bytes) -> None:
    """Compare what a second opening and an independent decryption find."""
    with (
        operator.opened(image, "model", "--read-only") as facts,
        connections(facts["uri"], 1) as volume,
    ):
        assert volume.send(READ, 0, length=len(expected)) == expected
    assert offline.plaintext(operator, image) == expected

# SPDX-License-Identifier: Apache-2.0
"""The speed below which something is broken, measured against a stock tool in the same run."""

from contextlib import ExitStack
from typing import Final

import pytest

from strongroom.bench.clients import Workload, fio_nbd, warm
from strongroom.bench.nbd import SEQUENTIAL
from strongroom.bench.place import place_in
from strongroom.bench.servers import NBDKIT_ON_LUKS, STRONGROOM_NBD, Contestant
from strongroom.units import MIB
from tests.conftest import require_tools

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.alone]

FLOOR: Final = 2.0
MOST_PAIRS: Final = 5
SIZE_BYTES: Final = 64 * MIB
SECONDS: Final = 1.0


@pytest.mark.parametrize("workload", SEQUENTIAL, ids=lambda workload: workload.pattern)
def test_twice_as_fast_as_nbdkit_luks(workload: Workload) -> None:
    """The first good pair is enough: whoever else uses the machine must not fail it."""
    require_tools("nbdkit", "fio", "nbdinfo", "cryptsetup")
    with place_in(None) as place, ExitStack() as stack:

        def start(contestant: Contestant) -> str:
            image = place.images / f"{contestant.name.replace(' ', '-')}.img"
            contestant.prepare(place, image, SIZE_BYTES)
            return stack.enter_context(contestant.serve(place, image, SIZE_BYTES)).uri

        def measure(uri: str) -> float:
            return fio_nbd(
                place, workload, [uri], size_bytes=SIZE_BYTES, seconds=SECONDS
            ).bytes_per_second

        ours, theirs = start(STRONGROOM_NBD), start(NBDKIT_ON_LUKS)
        warm(place, (ours, theirs), SIZE_BYTES)
        ratios: list[float] = []
        while len(ratios) < MOST_PAIRS and max(ratios, default=0) < FLOOR:
            ratios.append(measure(ours) / measure(theirs))
    print(f"{workload.name}: {', '.join(f'{ratio:.1f}' for ratio in ratios)} x nbdkit luks")
    assert max(ratios) >= FLOOR

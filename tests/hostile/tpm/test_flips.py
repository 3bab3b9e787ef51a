# SPDX-License-Identifier: Apache-2.0
"""One bit of one message is changed: of every operation, in both directions.

Those of headers, handles, sizes and attributes of sessions are always changed, others by share.
"""

from collections.abc import Iterator

import pytest

from tests.hostile.tpm.framing import framing
from tests.hostile.tpm.liar import SIDES, Carried, Flip, Liar, lying
from tests.hostile.tpm.operations import OPERATIONS, Bench, Operation, set_up
from tests.hostile.tpm.share import Share
from tests.hostile.tpm.trials import About, honestly, judge
from tests.swtpm import swtpm

pytestmark = pytest.mark.hostile

Workplace = tuple[Liar, Bench]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with swtpm(tmp_path_factory.mktemp("flips")) as tpm, lying(tpm) as liar:
        yield liar, set_up(liar)


def flips_of(carried: list[Carried], share: Share) -> Iterator[About]:
    contents: list[About] = []
    for message, exchange in enumerate(carried):
        for side in SIDES:
            framed = framing(exchange, side)
            for bit in range(8 * len(exchange.side(side))):
                flip = message, Flip(side, bit)
                if bit // 8 in framed:
                    yield flip
                else:
                    contents.append(flip)
    yield from share.of(contents)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_no_flipped_bit_is_believed(place: Workplace, operation: Operation, share: Share) -> None:
    liar, bench = place
    _, carried = honestly(liar, bench, operation)
    verdicts = judge(liar, bench, operation, flips_of(carried, share))
    print(f"{operation.__name__}: {verdicts.summary()}")
    assert verdicts.counts["TpmTamperedError"]

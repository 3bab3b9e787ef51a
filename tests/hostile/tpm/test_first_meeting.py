# SPDX-License-Identifier: Apache-2.0
"""Lies at the first meeting with a TPM, and at each later one before it is known again."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from strongroom.errors import TpmError
from strongroom.tpm import ENDORSEMENT
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.enrolment import Enrolment, connected
from strongroom.tpm.wire import Transmit
from tests.hostile.tpm.liar import SIDES, Carried, Flip, Liar, Side, lying
from tests.hostile.tpm.meetings import Meetings, Outcomes, persistent, restore
from tests.hostile.tpm.share import Share
from tests.hostile.tpm.trials import PROVABLY_HARMLESS, About
from tests.swtpm import swtpm

pytestmark = pytest.mark.hostile

LOCKOUT_BIT = 8 * 14 - 1
"""The last of a command's first handle: what the endorsement and the lockout differ in."""


@dataclass(frozen=True)
class Place:
    liar: Liar
    meetings: Meetings
    other: Liar
    """The way to another TPM, of the same make."""


@pytest.fixture(scope="module", params=["plain", "certified"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A new TPM with an endorsement key under a policy; one with a certificate, and a root."""
    is_certified = request.param == "certified"
    here, there = (tmp_path_factory.mktemp(name) for name in ("meet", "other"))
    with (
        swtpm(here, certificates=is_certified) as tpm,
        swtpm(there, certificates=is_certified) as another,
        lying(tpm) as liar,
        lying(another) as other,
    ):
        meetings = Meetings(liar, keep_root=is_certified)
        assert bool(meetings.honest.certificate) == is_certified
        yield Place(liar, meetings, other)


@pytest.fixture
def seed() -> int:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return seed


@dataclass(frozen=True)
class Cut:
    """Only the beginning comes back, and says that it is the whole."""

    length: int

    def __call__(self, liar: Liar, command: bytes) -> bytes:
        answer = liar.raw(command)[: self.length]
        return answer[:2] + len(answer).to_bytes(4, "big") + answer[6:]


def switched(liar: Liar, other: Liar, at: int) -> Transmit:
    """Return a way to a TPM, on which another one answers from some message on."""
    carried = itertools.count()

    def carry(command: bytes) -> bytes:
        return (liar if next(carried) < at else other).raw(command)

    return carry


def sampled(
    carried: list[Carried], rng: random.Random, *, flips: int, cuts: int
) -> Iterator[About]:
    for message, exchange in enumerate(carried):
        for side in SIDES:
            bits = 8 * len(exchange.side(side))
            for bit in rng.sample(range(bits), min(flips, bits)):
                if not locks_out(exchange, side, bit):
                    yield message, Flip(side, bit)
        for _ in range(cuts):
            yield message, Cut(rng.randrange(6, len(exchange.response)))


def locks_out(exchange: Carried, side: Side, bit: int) -> bool:
    """Tell whether a flip has the TPM try a wrong authorization of the lockout.

    One is enough for a thousand seconds in which nothing can be reset. Other commands do not take
    the lockout in the place of the endorsement.
    """
    is_first_handle = side == "command" and bit == LOCKOUT_BIT
    return is_first_handle and exchange.code == CommandCode.POLICY_SECRET


def test_no_lie_at_the_first_meeting_is_believed(place: Place, seed: int, share: Share) -> None:
    liar, meetings, outcomes = place.liar, place.meetings, Outcomes()
    flips, cuts = share.count(part=4, everything=32), share.count(part=1, everything=8)
    for about in sampled(meetings.carried, random.Random(seed), flips=flips, cuts=cuts):
        liar.arm(about)
        meetings.judge(liar.transmit, outcomes)
    print(f"{len(meetings.carried)} messages, {outcomes.summary()}")
    assert outcomes.counts["TpmTamperedError"]
    assert outcomes.counts["TpmError"]


def test_two_tpms_are_not_met_as_one(place: Place) -> None:
    """The second one answers from a message on: from the first on it is simply another TPM."""
    meetings, kept = place.meetings, persistent(place.other)
    met_another = []
    every = Outcomes()
    for at in range(len(meetings.carried)):
        outcomes = Outcomes()
        meetings.judge(switched(place.liar, place.other, at), outcomes)
        restore(place.other, kept)
        met_another.append(bool(outcomes.counts["another endorsement key"]))
        every.counts += outcomes.counts
        left = {exchange.code for exchange in meetings.carried[at:]}
        assert not outcomes.counts["harmless"] or left == {CommandCode.FLUSH_CONTEXT}, at
    print(every.summary())
    assert met_another[0], "trust on first use"
    # Once the endorsement key is made that counts, only its TPM can answer.
    made = [message for message, said in enumerate(meetings.carried) if is_endorsement(said)]
    assert not any(met_another[made[-1] + 1 :])


def is_endorsement(said: Carried) -> bool:
    return said.code == CommandCode.CREATE_PRIMARY and ENDORSEMENT.name in said.command[10:14]


def test_no_lie_at_a_later_meeting_is_believed(place: Place, seed: int, share: Share) -> None:
    liar, met = place.liar, place.meetings.meet(place.liar.raw).enrolment
    counts: Counter[str] = Counter()
    liar.arm(None)
    recognise(liar.transmit, met)
    carried = liar.carried
    flips, cuts = share.count(part=32, everything=256), share.count(part=4, everything=32)
    for about in sampled(carried, random.Random(seed), flips=flips, cuts=cuts):
        liar.arm(about)
        said = verdict(liar.transmit, met)
        counts[said] += 1
        assert said != "harmless" or carried[about[0]].code in PROVABLY_HARMLESS, about
        liar.disarm()
        liar.tidy()
    for at in range(3):
        assert verdict(switched(liar, place.other, at), met) == "TpmChangedError", at
        liar.tidy()
    place.meetings.reset()
    print(f"{len(carried)} messages, {counts.total()} cases: {dict(counts)}")
    assert counts["TpmChangedError"]


def recognise(transmit: Transmit, met: Enrolment) -> None:
    with connected(transmit, met):
        pass


def verdict(transmit: Transmit, met: Enrolment) -> str:
    try:
        recognise(transmit, met)
    except TpmError as err:
        return type(err).__name__
    return "harmless"

# SPDX-License-Identifier: Apache-2.0
"""Rates of counters under a clock that the test moves."""

import time
from collections.abc import Callable

import pytest

from strongroom.host.rates import RateMeter

pytestmark = pytest.mark.unit


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock that rates are measured by."""
    now = [1000.0]

    def by(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return by


def test_there_is_no_rate_before_a_sample() -> None:
    assert RateMeter().rates({"reads": 7}) == {}


def test_a_rate_is_a_difference_per_second(advance: Callable[[float], None]) -> None:
    meter = RateMeter()
    meter.sample({"reads": 100, "connections": 3})
    advance(4.0)
    assert meter.rates({"reads": 300, "connections": 5}) == {"reads_per_second": 50.0}


def test_a_rate_is_over_the_last_four_samples(advance: Callable[[float], None]) -> None:
    meter = RateMeter()
    for total in (0, 1000, 1100, 1200, 1300):
        meter.sample({"reads": total})
        advance(1.0)
    assert meter.rates({"reads": 1400}) == {"reads_per_second": 100.0}


def test_samples_are_a_second_apart(advance: Callable[[float], None]) -> None:
    meter = RateMeter()
    for total in range(100):
        meter.sample({"reads": total})
        advance(0.01)
    assert meter.rates({"reads": 100}) == {"reads_per_second": 100.0}


@pytest.mark.usefixtures("advance")
def test_a_clock_that_stands_still_divides_by_no_zero() -> None:
    meter = RateMeter()
    meter.sample({"reads": 0})
    assert meter.rates({"reads": 1}) == {"reads_per_second": 1000.0}


def test_a_counter_that_is_new_counts_from_zero(advance: Callable[[float], None]) -> None:
    meter = RateMeter()
    meter.sample({})
    advance(2.0)
    assert meter.rates({"trims": 4}) == {"trims_per_second": 2.0}

# SPDX-License-Identifier: Apache-2.0
"""Rates from running totals: the difference to a sample of a few seconds ago, per second."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Final

_SAMPLES: Final = 4
_MIN_INTERVAL_SECONDS: Final = 1.0


class RateMeter:
    """Keeps the last few samples of counters that only grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=_SAMPLES)

    def sample(self, counters: Mapping[str, int]) -> None:
        """Remember the counters as they are now, at most once a second."""
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] >= _MIN_INTERVAL_SECONDS:
            self._samples.append((now, dict(counters)))

    def rates(self, counters: Mapping[str, int]) -> dict[str, float]:
        """Return per-second rates since the oldest sample; empty before there is one."""
        if not self._samples:
            return {}
        then, before = self._samples[0]
        elapsed = max(time.monotonic() - then, 1e-3)
        return {
            f"{name}_per_second": round((value - before.get(name, 0)) / elapsed, 1)
            for name, value in counters.items()
            if name != "connections"
        }

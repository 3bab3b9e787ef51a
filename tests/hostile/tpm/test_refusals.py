# SPDX-License-Identifier: Apache-2.0
"""Many forged answers use nothing up: no memory, no descriptor, no handle of the TPM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.tpm.share import Share
from tests.swtpm import Swtpm

pytestmark = pytest.mark.hostile

MOST_KIB = 1024
"""An allocator may take as much; a kilobyte that each of all refusals leaves is twice that."""
MOST_MAPPINGS = 8


def test_refused_answers_leave_nothing(tpm: Swtpm, share: Share) -> None:
    warm_up = share.count(part=200, everything=1000)
    cases = str(warm_up), str(2 * warm_up)
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.tpm.refusals", tpm.address, *cases],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    warm, end = map(json.loads, done.stdout.splitlines())
    print(f"{cases[1]} refusals: {warm} -> {end}")
    assert end["resident_kib"] - warm["resident_kib"] < MOST_KIB
    assert end["mappings"] - warm["mappings"] < MOST_MAPPINGS
    for kind in ("locked_kib", "descriptors", "handles"):
        assert end[kind] == warm[kind], kind
    loaded = ("sessions", "saved sessions", "transient")
    assert [end["handles"][kind] for kind in loaded] == [0, 0, 0]

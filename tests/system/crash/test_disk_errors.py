# SPDX-License-Identifier: Apache-2.0
"""EIO at every single write and sync of a header: what the command says is what holds.

The whole program; ``tests/unit/enclave/test_failing_disk.py`` has every kind of change.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.harness import Operator
from tests.system.crash.checks import SLOT_WORKS, Base, SlotWork
from tests.system.crash.remains import end_all
from tests.system.crash.tracer import Event, fail_at, record
from tests.system.crash.volumes import copy_of, opens

pytestmark = pytest.mark.system

AT_A_TIME = 3
DISK = 51


@pytest.fixture(autouse=True)
def _strace() -> None:
    require_tools("strace")


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("work", SLOT_WORKS)
def test_slot_work_says_which_state_holds(
    base: Base, tmp_path: Path, work: SlotWork, *, for_good: bool
) -> None:
    whole = base.copy(tmp_path)
    events = record(Operator(tmp_path), base.slot_command(work, whole), whole)

    def fail(event: Event) -> str:
        here = tmp_path / f"{event.call}{event.number}"
        here.mkdir()
        image, operator = here / "image", Operator(here)
        copy_of(base.image, image)
        command = base.slot_command(work, image)
        try:
            code, said = fail_at(operator, command, event, image, for_good=for_good)
        finally:
            end_all(here)
        assert code in {0, DISK}, said
        assert code == 0 or for_good, said
        unsure = "keep the old and the new" in said
        assert code == 0 or unsure or "error: nothing was changed" in said, said
        outcome = base.check_slots(operator, image, work)
        assert unsure or outcome == ("before" if code else "after"), said
        if work == "change":
            key = base.ways.old if outcome == "before" else base.ways.new
            assert opens(operator, image, key)
        return f"{outcome}, unsure" if unsure else outcome

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(fail, events))
    print(work, outcomes)
    assert for_good or set(outcomes) == {"after"}

# SPDX-License-Identifier: Apache-2.0
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_root, require_tools
from tests.harness import Operator
from tests.system.crash.checks import Base
from tests.system.crash.remains import end_all

SEED = os.environ.get("STRONGROOM_CRASH_SEED") or secrets.token_hex(4)
"""Every random point follows from this and its own number."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long loops out unless ``-m slow`` asks for them."""
    if "slow" in config.option.markexpr:
        return
    here = Path(__file__).parent
    left_out = [
        item for item in items if item.path.is_relative_to(here) and item.get_closest_marker("slow")
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def seed() -> str:
    """The seed of this run; a failing test shows it."""
    print(f"\nSTRONGROOM_CRASH_SEED={SEED} repeats this run's random points")
    return SEED


@pytest.fixture
def operator(operator: Operator) -> Iterator[Operator]:
    """An operator that leaves no process behind, whatever the test does."""
    require_root()
    require_tools("cryptsetup")
    yield operator
    end_all(operator.place)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The volume that the crash tests copy."""
    require_root()
    require_tools("cryptsetup")
    return Base.at(tmp_path_factory.mktemp("base"))

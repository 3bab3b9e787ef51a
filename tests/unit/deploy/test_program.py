# SPDX-License-Identifier: Apache-2.0
"""The installed program is the one that starts Python isolated, and not an entry point's."""

from pathlib import Path
from typing import Final

import pytest

from tests.harness import STRONGROOM

pytestmark = pytest.mark.unit

SOURCE: Final = Path(__file__).parents[3] / "deploy/wheel/scripts/strongroom"


def test_it_is_installed_as_it_is_written() -> None:
    assert STRONGROOM.read_bytes() == SOURCE.read_bytes()
    assert STRONGROOM.stat().st_mode & 0o111

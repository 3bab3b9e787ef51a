# SPDX-License-Identifier: Apache-2.0
"""One setting for all structural attacks, and their table."""

from collections.abc import Iterator

import pytest

from .judge import Table
from .setting import Setting, new_setting


@pytest.fixture(scope="package")
def setting() -> Setting:
    return new_setting()


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Outcomes of a module's attacks, printed at its end."""
    table = Table(str(request.module.__doc__).partition("\n")[0])
    yield table
    table.show()

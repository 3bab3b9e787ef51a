# SPDX-License-Identifier: Apache-2.0
"""Root's operator in a place that another user can reach."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require, require_root, require_tools
from tests.harness import Operator
from tests.hostile.runtime.other_user import shared_place


@dataclass(frozen=True, slots=True)
class Place:
    """An operator with a volume, whose runtime directory is ``runtime``."""

    operator: Operator
    image: Path

    @property
    def open(self) -> Path:
        """Where every user may make files."""
        return self.operator.place / "open"

    @property
    def runtime(self) -> Path:
        return Path(self.operator.environment["STRONGROOM_RUNTIME_DIR"])

    def opening(self, name: str) -> tuple[str | Path, ...]:
        key = ("--passphrase-file", self.operator.passphrase_file)
        return ("open", self.image, name, "--attach", "none", *key)

    def refuses(self, *command: str | Path, code: int, says: str) -> str:
        """Check that a command is refused with a code and a text; return what it said."""
        done = self.operator.strongroom(*command, check=False)
        if done.returncode == 0 and command[0] == "open":
            self.operator.close(str(command[2]), check=False)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert says in done.stderr
        return done.stderr


@pytest.fixture
def place() -> Iterator[Place]:
    require_root()
    require_tools("setpriv")
    require(condition=Path("/usr/bin/python3").exists(), reason="no Python of the system")
    with shared_place() as shared:
        runtime = shared / "open" / "run"
        operator = Operator(shared, environment={"STRONGROOM_RUNTIME_DIR": str(runtime)})
        image = shared / "image"
        operator.format(image, size="17M")
        yield Place(operator, image)

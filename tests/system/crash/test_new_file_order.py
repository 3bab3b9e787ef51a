# SPDX-License-Identifier: Apache-2.0
"""What is durable when: a volume must not appear before its recovery key is on the disk."""

import re
from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, STRONGROOM, Operator

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("strace")


def traced(operator: Operator, *command: str | Path) -> list[str]:
    """Run strongroom and return its syncs, links and renames, with the paths of descriptors."""
    log = operator.place / "trace"
    calls = "trace=fsync,fdatasync,linkat,rename,renameat,renameat2"
    options = ("-f", "--quiet=all", "--decode-fds=path", "-e", calls, "-o", log)
    operator.run("strace", *options, STRONGROOM, *command)
    return log.read_text().splitlines()


def first(lines: list[str], pattern: str) -> int:
    found = [number for number, line in enumerate(lines) if re.search(pattern, line)]
    assert found, f"{pattern} is not in\n" + "\n".join(lines)
    return found[0]


def test_a_recovery_key_is_durable_before_its_volume_appears(operator: Operator) -> None:
    image, folder = operator.place / "image", operator.place / "keys"
    folder.mkdir()
    key = folder / "recovery"
    options = ("--size", "20M", "--sparse", "--passphrase-file", operator.passphrase_file)
    lines = traced(operator, "format", image, *options, *CHEAP_KDF, "--recovery-key-file", key)
    appears = first(lines, rf'linkat\(.*"{image.name}"')
    assert first(lines, rf"fsync\(\d+<{folder}>") < appears, "the key file's name"
    assert first(lines, rf"fsync\(\d+<{key}>") < appears, "its contents"


def test_a_new_state_directory_is_durable_before_a_volume_is_sealed_to_it(
    operator: Operator,
) -> None:
    image, base = operator.place / "image", operator.place / "base"
    base.mkdir()
    state = base / "one" / "two"
    new = Operator(operator.place, environment={"STRONGROOM_STATE_DIR": str(state)})
    key = ("--passphrase-file", operator.passphrase_file, "--no-recovery")
    lines = traced(new, "format", image, "--size", "20M", "--sparse", *key, *CHEAP_KDF)
    appears = first(lines, rf'linkat\(.*"{image.name}"')
    for directory in (base, base / "one", state):
        assert first(lines, rf"fsync\(\d+<{directory}>") < appears, directory

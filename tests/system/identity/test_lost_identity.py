# SPDX-License-Identifier: Apache-2.0
"""A lost identity is replaced by a new one, and the operator is told, once."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.harness import STOCK
from tests.system.identity.machines import machine

pytestmark = pytest.mark.system

SAID = "is lost, and a new identity is made: the one before had sealed 1 volume, which opens"


@pytest.mark.parametrize("command", [("identity", "--json"), ("open", "IMAGE", "v")])
def test_it_is_said_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    where = machine(tmp_path, "account", Path(sys.executable))
    image = where.place / "disk.img"
    where.format(image, size="17M")
    key = ("--passphrase-file", where.passphrase_file, "--attach", "none")
    words = [str(image) if word == "IMAGE" else word for word in command]
    words += map(str, key if command[0] == "open" else ())
    shutil.rmtree(where.state / "process")
    first = where.strongroom(*words, check=False)
    assert first.stderr.count(SAID) == 1
    assert f"{where.state / 'process'} {SAID}" in first.stderr
    if command[0] == "identity":
        assert json.loads(first.stdout)["tee"] == "process"
    assert SAID not in where.strongroom(*words, check=False).stderr


def test_nothing_is_said_where_nothing_was_sealed(tmp_path: Path) -> None:
    where = machine(tmp_path, "account", Path(sys.executable))
    assert "lost" not in where.strongroom("identity").stderr
    where.format(where.place / "disk.img", *STOCK, size="17M")
    shutil.rmtree(where.state / "process")
    assert "lost" not in where.strongroom("identity").stderr

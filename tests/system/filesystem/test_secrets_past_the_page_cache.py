# SPDX-License-Identifier: Apache-2.0
"""Files past the page cache need pinned memory, which secret memory cannot be."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse
from tests.harness import Operator

pytestmark = pytest.mark.system

SERVER: Final = Path(__file__).parents[2] / "direct_fuse.py"


@pytest.fixture
def place(operator: Operator) -> Iterator[Path]:
    """A mounted file system whose files go past the page cache."""
    require_fuse()
    mount_point = operator.place / "direct"
    mount_point.mkdir()
    with subprocess.Popen([sys.executable, SERVER, mount_point], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"mounted\n"
        try:
            yield mount_point
        finally:
            operator.run("umount", "--lazy", mount_point, check=False)
            server.wait(10)


def test_a_passphrase_file_and_a_recovery_key_file(operator: Operator, place: Path) -> None:
    image, passphrase, recovery = operator.place / "image", place / "pass", place / "recovery"
    passphrase.write_text("a passphrase of some length\n")
    key = ("--passphrase-file", passphrase)
    operator.format(image, "--sparse", "--recovery-key-file", recovery, *key, size="20M")
    assert len(recovery.read_text()) == 72
    for file in (passphrase, recovery):
        with operator.opened(image, "v", "--passphrase-file", file):
            pass


def test_a_state_directory(operator: Operator, place: Path) -> None:
    there = Operator(operator.place, environment={"STRONGROOM_STATE_DIR": str(place / "state")})
    image = operator.place / "image"
    there.format(image, "--sparse", size="20M")
    assert len((place / "state/process/root").read_bytes()) == 32
    with there.opened(image, "v"):
        pass

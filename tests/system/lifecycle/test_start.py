# SPDX-License-Identifier: Apache-2.0
"""An enclave that cannot start says why to whoever typed the command."""

import json
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.errors import DiskError
from strongroom.host.contracts import ImageReference, Transport
from strongroom.host.launch import launch
from strongroom.host.silence import Silent
from strongroom.host.starting import StartDisk
from tests.harness import Operator

pytestmark = pytest.mark.system

TEE: Final = 72
SHORT: Final = "has 4 bytes instead of 32"


@pytest.fixture
def broken(tmp_path: Path) -> Operator:
    """An operator of a machine whose root secret was cut."""
    place = tmp_path / "state/process"
    place.mkdir(parents=True)
    for directory in (place.parent, place):
        directory.chmod(0o700)
    (place / "root").write_bytes(b"abc\n")
    (place / "root").chmod(0o600)
    return Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(place.parent)})


@pytest.mark.parametrize("boundary", ["fd", "stdio", "tcp"])
def test_open_says_why(operator: Operator, broken: Operator, boundary: str) -> None:
    image = operator.place / "image"
    operator.format(image)
    how = ("--attach", "none", "--boundary", boundary, "--passphrase-file", broken.passphrase_file)
    done = broken.strongroom("open", image, "v", *how, check=False)
    assert done.returncode == TEE, done.stderr
    assert SHORT in done.stderr
    root = broken.place / "state/process/root"
    assert f"hint: put {root} back from a backup" in done.stderr
    assert not broken.facts("list")


def test_commands_that_need_no_volume_say_why(broken: Operator) -> None:
    done = broken.strongroom("identity", check=False)
    assert done.returncode == TEE, done.stderr
    assert SHORT in done.stderr
    findings = json.loads(broken.strongroom("doctor", "--json").stdout)
    (found,) = (finding["found"] for finding in findings if finding["topic"] == "identity")
    assert SHORT in found


def test_known_answers_need_no_identity(broken: Operator) -> None:
    assert "passed  sealed" in broken.strongroom("selftest").stdout


@pytest.mark.parametrize("boundary", ["stdio", "tcp"])
def test_a_disk_that_cannot_be_opened(tmp_path: Path, boundary: Transport) -> None:
    """Between the host's look and the enclave's, a file can go."""
    missing = tmp_path / "missing"
    disk = StartDisk(ImageReference(missing), read_only=False)
    with (
        launch(Silent(), transport=boundary, disk=disk) as enclave,
        pytest.raises(DiskError, match=f"{missing} cannot be opened in the enclave"),
    ):
        enclave.call(calls.LoadDisk(None, None, read_only=False))

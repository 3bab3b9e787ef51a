# SPDX-License-Identifier: Apache-2.0
"""How the enclave is reached is the operator's choice, and a UNIX socket unless one is made."""

import json

import pytest

from tests.fakes.host_volumes import FakeVolumes
from tests.unit.cli.conftest import IMAGE, Run

pytestmark = pytest.mark.unit

USAGE = 2


@pytest.mark.parametrize("transport", ["fd", "stdio", "tcp"])
def test_open_and_serve_take_the_boundary(
    run: Run, volumes: FakeVolumes, passphrase_file: str, transport: str
) -> None:
    options = () if transport == "fd" else ("--boundary", transport)
    outcome = run(*("open", str(IMAGE), "opened", "--passphrase-file", passphrase_file, *options))
    assert outcome.code == 0, outcome.err
    assert volumes.opened["opened"].transport == transport
    outcome = run("serve", str(IMAGE), "served", "--wait-for-key", *options)
    assert outcome.code == 0, outcome.err
    assert volumes.served is not None
    assert volumes.served[0].transport == transport


def test_status_shows_the_boundary(run: Run, passphrase_file: str) -> None:
    run("open", str(IMAGE), "v", "--boundary", "tcp", "--passphrase-file", passphrase_file)
    assert "boundary" in run("status", "v").out
    assert "transport" in json.loads(run("status", "v", "--json").out)


def test_another_boundary_is_refused(run: Run) -> None:
    assert run("open", str(IMAGE), "v", "--boundary", "pigeon").code == USAGE

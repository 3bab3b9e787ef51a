# SPDX-License-Identifier: Apache-2.0
"""A TPM, and a relay that can be made to lie."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from tests.hostile.tpm.share import PART, Share
from tests.swtpm import Swtpm, swtpm


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path) as running:
        yield running


@pytest.fixture
def relay(tpm: Swtpm) -> Iterator[Relay]:
    with Relay(parse_address(tpm.address)) as relay:
        yield relay


@pytest.fixture(
    params=[
        pytest.param(PART, id="part"),
        pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ]
)
def share(request: pytest.FixtureRequest) -> Share:
    """How much a test tries."""
    return Share.beginning_anywhere(request.param)

# SPDX-License-Identifier: Apache-2.0
"""A TPM, and the enclave's road to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from strongroom.tpm import ENDORSEMENT, KeyKind, Sessions, endorsement_template
from strongroom.tpm.bootstrap import claimed_primary
from tests.swtpm import Swtpm, swtpm


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path, socket_kind="shared") as running:
        yield running


@pytest.fixture
def relay(tpm: Swtpm) -> Iterator[Relay]:
    with Relay(parse_address(tpm.address)) as relay:
        yield relay


@pytest.fixture
def road(relay: Relay) -> Iterator[Sessions]:
    """A road that is salted to the endorsement key."""
    template = endorsement_template(KeyKind.P256)
    with (
        claimed_primary(relay.transmit, ENDORSEMENT, template) as key,
        Sessions(relay.transmit, key) as road,
    ):
        yield road

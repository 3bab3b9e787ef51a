# SPDX-License-Identifier: Apache-2.0
"""What an enclave says to its TPM in the end: to flush, or, after a violation, not a word more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.boundary import tpm_calls
from strongroom.enclave.recipients import Recipients
from strongroom.enclave.tpm_operations import TpmOperations
from strongroom.errors import BoundaryError, TpmTransportError
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from tests.swtpm import swtpm
from tests.unit.tee.scene import enclave

pytestmark = pytest.mark.system


class Host:
    """Carries commands until it breaks the rules."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.carried = 0
        self.breaks = False

    def transmit(self, command: bytes) -> bytes:
        self.carried += 1
        if self.breaks:
            raise BoundaryError("the host answered something else")
        return self._relay.transmit(command)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        yield Host(relay)


@pytest.fixture
def operations(host: Host) -> TpmOperations:
    tee = enclave(name="version 1", security_version=1)
    found = TpmOperations(host.transmit, tee, Recipients(tee))
    found.answer(tpm_calls.KnowTpm(None))
    return found


def test_the_end_flushes(host: Host, operations: TpmOperations) -> None:
    before = host.carried
    operations.close()
    assert host.carried > before


def test_a_violation_is_followed_by_silence(host: Host, operations: TpmOperations) -> None:
    before = host.carried
    operations.erase()
    assert host.carried == before
    with pytest.raises(BoundaryError, match="no TPM is known"):
        operations.answer(tpm_calls.ReadTpmClock())
    with pytest.raises(TpmTransportError, match="no way"):
        operations.answer(tpm_calls.KnowTpm(None))


def test_a_violation_in_a_command_is_its_last(host: Host, operations: TpmOperations) -> None:
    """Also where something was loaded that would be flushed."""
    host.breaks = True
    before = host.carried
    with pytest.raises(BoundaryError, match="something else"):
        operations.answer(tpm_calls.ReadTpmClock())
    operations.erase()
    assert host.carried == before + 1

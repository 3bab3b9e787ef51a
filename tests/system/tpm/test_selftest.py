# SPDX-License-Identifier: Apache-2.0
"""The self test touches nothing but what it made, whatever goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import StrongroomError
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.in_host import InHost
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.selftest import FIRST_INDEX, Life
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import Nv, NvPublic
from strongroom.tpm.codes import CommandCode
from tests.swtpm import swtpm

pytestmark = pytest.mark.system


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        yield relay


@pytest.mark.parametrize("refused", [CommandCode.GET_CAPABILITY, CommandCode.NV_DEFINE_SPACE])
def test_an_index_of_others_survives_a_list_that_fails(relay: Relay, refused: CommandCode) -> None:
    nv: Nv[bytes] = Nv(Unprotected(relay.transmit))
    theirs = NvPublic.counter(FIRST_INDEX)
    nv.define(theirs, b"")

    def carry(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") == refused:
            return bytes.fromhex("8001 0000000a 00000101")
        return relay.transmit(command)

    passed = {}
    for name, test in Life(InHost(Unprotected(carry))).tests():
        try:
            passed[name] = test()
        except StrongroomError:
            passed[name] = False
    assert not passed["delete the counter"]
    assert passed["encrypted session"]
    assert nv.describe(FIRST_INDEX) == theirs


def test_no_free_index_is_said(relay: Relay) -> None:
    nv: Nv[bytes] = Nv(Unprotected(relay.transmit))
    for offset in range(64):
        nv.define(NvPublic.ordinary(FIRST_INDEX + offset, 8), b"")
    life = Life(InHost(Unprotected(relay.transmit)))
    tests = dict(life.tests())
    assert not tests["list nv indexes"]()
    with pytest.raises(StrongroomError, match="no free index"):
        tests["define a counter"]()
    with pytest.raises(StrongroomError, match="no counter of this test"):
        tests["delete the counter"]()

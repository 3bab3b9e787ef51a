# SPDX-License-Identifier: Apache-2.0
"""The same operations without protection: they work, and everybody can read along."""

from collections.abc import Callable

import pytest

from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Device,
    KeyKind,
    Nv,
    NvPublic,
    Objects,
    PolicySteps,
    Secret,
    Sessions,
    connected,
    endorsement_template,
    enrol,
    policy,
    storage_root_template,
)
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.commands import Road, SecretT
from tests.honest import known_secret
from tests.swtpm import Swtpm

pytestmark = pytest.mark.interop

AUTH = b"authorization value that is long"
DATA = b"data that nobody else is to read"
INDEX = 0x01800043


def work(road: Road[SecretT], secret: Callable[[bytes], SecretT]) -> SecretT:
    """Do everything that carries a secret, and return what the TPM drew."""
    auth, data = secret(AUTH), secret(DATA)
    nv, objects = Nv(road), Objects(road)
    index = NvPublic.ordinary(INDEX, len(DATA))
    nv.define(index, auth)
    nv.write(index, data, auth)
    nv.read(index.written(), auth, len(DATA))
    nv.undefine(index.written())
    with objects.primary(OWNER, storage_root_template()) as root:
        blob = objects.seal(root, data, auth=auth)
        with objects.load(root, blob) as loaded:
            objects.unseal(loaded, auth)
        blob = objects.seal(root, data, auth=auth, policy=policy.auth_value(policy.EMPTY))
        with objects.load(root, blob) as loaded, road.policy_session() as session:
            steps = PolicySteps(road, session)
            steps.auth_value()
            objects.unseal(loaded, steps.fulfilled(auth))
    return Device(road).random(32)


def is_in(drawn: Secret, seen: bytes) -> bool:
    """Tell whether a secret of 32 bytes was seen, without looking at it."""
    return any(drawn.matches(seen[at : at + 32]) for at in range(len(seen) - 31))


class Recorder:
    """A relay that reads along."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.seen = b""

    def transmit(self, command: bytes) -> bytes:
        answer = self._relay.transmit(command)
        self.seen += command + answer
        return answer


def test_who_carries_the_bytes_reads_the_secrets_of_the_host_alone(tpm: Swtpm) -> None:
    with Relay(parse_address(tpm.address)) as relay:
        host = Recorder(relay)
        drawn = work(Unprotected(host.transmit), bytes)
        assert is_in(known_secret(drawn), host.seen)
        assert host.seen.count(AUTH) >= 5
        assert host.seen.count(DATA) >= 6

        enclave = Recorder(relay)
        template = endorsement_template(KeyKind.P256)
        with (
            claimed_primary(enclave.transmit, ENDORSEMENT, template) as key,
            Sessions(enclave.transmit, key) as road,
        ):
            secretly_drawn = work(road, known_secret)
        with connected(enclave.transmit, enrol(enclave.transmit, known_secret(AUTH)).enrolment):
            pass
        assert not is_in(secretly_drawn, enclave.seen)
        assert AUTH not in enclave.seen
        assert DATA not in enclave.seen
        for part in (AUTH[:8], AUTH[8:16], DATA[:8], DATA[-8:]):
            assert part not in enclave.seen

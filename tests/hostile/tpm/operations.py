# SPDX-License-Identifier: Apache-2.0
"""Every operation, with what must come out of it if nobody lies."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom._core import Secret
from strongroom.errors import TpmError
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    Attestation,
    Blob,
    Device,
    Nv,
    NvPublic,
    Objects,
    PcrSelection,
    PolicySteps,
    Sessions,
    policy,
)
from strongroom.tpm.enrolment import Enrolment, attestation_auth, connected, enrol
from tests.honest import known_secret
from tests.hostile.tpm.liar import Liar

AUTH: Final = b"authorization value of 32 bytes!"
DATA: Final = b"sixteen bytes it"
ORDINARY: Final = NvPublic.ordinary(0x01800010, len(DATA)).written()
COUNTER: Final = NvPublic.counter(0x01800011).written()
NEW: Final = NvPublic.ordinary(0x01800012, 8)
PCRS: Final = PcrSelection.of([0, 23])
EXTENDED: Final = bytes(range(32))


@dataclass(frozen=True)
class Bench:
    """A TPM that was enrolled, with something of everything in it."""

    enrolment: Enrolment
    sealed: Blob
    sealed_under_policy: Blob
    pcr_digest: bytes
    auth: Secret
    data: Secret


def set_up(liar: Liar | Relay) -> Bench:
    auth, data = known_secret(AUTH), known_secret(DATA)
    enrolment = enrol(liar.transmit, auth).enrolment
    with connected(liar.transmit, enrolment) as road:
        nv, objects = Nv(road), Objects(road)
        nv.define(NvPublic.ordinary(ORDINARY.index, len(DATA)), auth)
        nv.write(NvPublic.ordinary(ORDINARY.index, len(DATA)), data, auth)
        nv.define(NvPublic.counter(COUNTER.index), auth)
        nv.increment(NvPublic.counter(COUNTER.index), auth)
        root = enrolment.storage_root
        digest = PCRS.digest_of(Device(road).read_pcrs(PCRS))
        demanded = policy.auth_value(policy.pcr(policy.EMPTY, PCRS, digest))
        return Bench(
            enrolment,
            objects.seal(root, data, auth=auth),
            objects.seal(root, data, auth=auth, policy=demanded),
            digest,
            auth,
            data,
        )


Operation = Callable[[Sessions, Bench], object]


def capabilities(road: Sessions, _: Bench) -> object:
    found = Device(road).capabilities()
    # The lockout counter and the like may change.
    return found.family, found.manufacturer, found.vendor, found.revision


def clock(road: Sessions, _: Bench) -> object:
    found = Device(road).clock()
    return found.reset_count, found.restart_count, found.is_safe


def random(road: Sessions, _: Bench) -> object:
    return Device(road).random(32).length_bytes


def handles(road: Sessions, _: Bench) -> object:
    return Device(road).handles(0x01000000)


def read_pcrs(road: Sessions, bench: Bench) -> object:
    return PCRS.digest_of(Device(road).read_pcrs(PCRS)) == bench.pcr_digest


def extend_pcr(road: Sessions, _: Bench) -> object:
    Device(road).extend_pcr(16, EXTENDED)
    return None


def describe_index(road: Sessions, _: Bench) -> object:
    return Nv(road).describe(ORDINARY.index)


def describe_key(road: Sessions, bench: Bench) -> object:
    return Objects(road).describe(bench.enrolment.storage_root.handle)


def write(road: Sessions, bench: Bench) -> object:
    Nv(road).write(ORDINARY, bench.data, bench.auth)
    return None


def read(road: Sessions, bench: Bench) -> object:
    return Nv(road).read(ORDINARY, bench.auth, len(DATA)).equals(bench.data)


def define(road: Sessions, bench: Bench) -> object:
    Nv(road).define(NEW, bench.auth)
    return None


def undefine(road: Sessions, _: Bench) -> object:
    Nv(road).undefine(NEW)
    return None


def increment(road: Sessions, bench: Bench) -> object:
    Nv(road).increment(COUNTER, bench.auth)
    return None


def count(road: Sessions, bench: Bench) -> object:
    return Nv(road).count(COUNTER, bench.auth) > 0


def seal(road: Sessions, bench: Bench) -> object:
    root = bench.enrolment.storage_root
    blob = Objects(road).seal(root, bench.data, auth=bench.auth)
    return blob.public.attributes


def unseal(road: Sessions, bench: Bench) -> object:
    objects = Objects(road)
    with objects.load(bench.enrolment.storage_root, bench.sealed) as key:
        return objects.unseal(key, bench.auth).equals(bench.data)


def unseal_under_policy(road: Sessions, bench: Bench) -> object:
    objects = Objects(road)
    with (
        objects.load(bench.enrolment.storage_root, bench.sealed_under_policy) as key,
        road.policy_session() as session,
    ):
        steps = PolicySteps(road, session)
        steps.pcr(PCRS, bench.pcr_digest)
        steps.auth_value()
        return objects.unseal(key, steps.fulfilled(bench.auth)).equals(bench.data)


def quote(road: Sessions, bench: Bench) -> object:
    key = bench.enrolment.attestation
    auth = attestation_auth(bench.auth, bench.enrolment.endorsement)
    made = Attestation(road).quote(key, auth, PCRS, b"question")
    return made.pcr_digest, made.qualifying_data


OPERATIONS: Final[tuple[Operation, ...]] = (
    capabilities,
    clock,
    random,
    handles,
    read_pcrs,
    extend_pcr,
    describe_index,
    describe_key,
    write,
    read,
    define,
    undefine,
    increment,
    count,
    seal,
    unseal,
    unseal_under_policy,
    quote,
)


def undo(liar: Liar, operation: Operation) -> None:
    """Bring the TPM back to where the operation starts."""
    road = Unprotected(liar.transmit)
    with contextlib.suppress(TpmError):
        if operation is define:
            Nv(road).undefine(NEW)
        if operation is undefine:
            Nv(road).define(NEW, AUTH)


@contextlib.contextmanager
def honest(liar: Liar, bench: Bench) -> Iterator[Sessions]:
    liar.disarm()
    with connected(liar.transmit, bench.enrolment) as road:
        yield road

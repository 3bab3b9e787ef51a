# SPDX-License-Identifier: Apache-2.0
"""Four ways to the same TPM. Each has it for itself, because an swtpm serves one at a time."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from tpm2_pytss import ESAPI, ESYS_TR, TPM2_ALG, TPM2_SE, TPMA_SESSION

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls, tpm_calls
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.silence import Silent
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.carrying import RelayCarrier
from strongroom.host.tpm.relay import Relay
from strongroom.tpm import Device, Nv, PublicArea, Sessions
from strongroom.tpm.sessions import SaltKey
from tests.honest import HonestClient
from tests.swtpm import Swtpm, swtpm

BYTES: Final = 32
INDEX: Final = 0x01800020
RANDOM: Final = "GetRandom, the command"
RANDOM_ECALL: Final = "GetRandom, the ecall"
READ: Final = "NV_Read, the command"
READ_ECALL: Final = "NV_Read, the ecall"
MANY: Final = 128


@dataclass(frozen=True, slots=True)
class Action:
    """Something to measure: ``run`` does it ``times`` times at once."""

    run: Callable[[], object]
    times: int = 1


Actions: TypeAlias = dict[str, Action]


@dataclass(frozen=True, slots=True)
class Ready:
    """A TPM that an enclave has enrolled, with an index that has something in it."""

    tpm: Swtpm
    met: tpm_calls.TpmMet


Contender: TypeAlias = Callable[[Ready], AbstractContextManager[Actions]]


@contextlib.contextmanager
def from_enclave(ready: Ready) -> Iterator[Actions]:
    """Through the boundary: the enclave builds, checks and decrypts, and the host carries."""
    reply_to = HpkeReceiver().public_key
    with enclave_before(ready.tpm) as enclave:
        enclave.call(tpm_calls.KnowTpm(ready.met.record))
        ask = partial(partial, enclave.call)
        yield {
            RANDOM: Action(ask(tpm_calls.DrawRandom(MANY * BYTES, reply_to)), MANY),
            RANDOM_ECALL: Action(ask(tpm_calls.DrawRandom(BYTES, reply_to))),
            READ_ECALL: Action(ask(tpm_calls.ReadNv(INDEX, 0, BYTES, "none", None, reply_to))),
        }


@contextlib.contextmanager
def in_process(ready: Ready) -> Iterator[Actions]:
    """The enclave's own code over the same relay, in one process."""
    root = ready.met.storage_root
    with (
        Relay(parse_address(ready.tpm.address)) as relay,
        Sessions(relay.transmit, SaltKey(root.handle, PublicArea(root.public))) as sessions,
    ):
        device, nv = Device(sessions), Nv(sessions)
        public = nv.describe(INDEX)
        yield {
            RANDOM: Action(partial(device.random, BYTES)),
            READ: Action(partial(nv.read, public, None, BYTES)),
            READ_ECALL: Action(lambda: nv.read(nv.describe(INDEX), None, BYTES)),
        }


@contextlib.contextmanager
def libtss2_session(ready: Ready) -> Iterator[Actions]:
    """libtss2 in a session of the same kind: salted to the same key, answers encrypted."""
    with ESAPI(ready.tpm.address) as esapi:
        root = esapi.tr_from_tpmpublic(ready.met.storage_root.handle)
        kind = (TPM2_SE.HMAC, "aes128cfb", TPM2_ALG.SHA256)
        session = esapi.start_auth_session(root, ESYS_TR.NONE, *kind)
        try:
            attributes = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.ENCRYPT
            esapi.trsess_set_attributes(session, attributes)
            yield libtss2_actions(esapi, session)
        finally:
            esapi.flush_context(session)


@contextlib.contextmanager
def libtss2_plain(ready: Ready) -> Iterator[Actions]:
    """libtss2 without a session: reading an index takes its password, which is empty."""
    with ESAPI(ready.tpm.address) as esapi:
        yield libtss2_actions(esapi, None)


def libtss2_actions(esapi: ESAPI, session: ESYS_TR | None) -> Actions:
    """What both do, with the same number of commands as ours."""
    index = esapi.tr_from_tpmpublic(INDEX)
    given = {} if session is None else {"session1": session}
    read = partial(esapi.nv_read, index, BYTES, auth_handle=index, **given)

    def described_and_read() -> None:
        esapi.nv_read_public(index)
        esapi.nv_read_public(index, **given)
        read()

    return {
        RANDOM: Action(partial(esapi.get_random, BYTES, **given)),
        READ: Action(read),
        READ_ECALL: Action(described_and_read),
    }


@contextlib.contextmanager
def enrolled_tpm(place: Path) -> Iterator[Ready]:
    """Run a TPM that is ready for all of them."""
    with swtpm(place) as tpm:
        # Where libtss2 looks for the control channel.
        (tpm.place / "swtpm.sock.ctrl").symlink_to(tpm.place / "control.sock")
        with enclave_before(tpm) as enclave:
            met = enclave.call(tpm_calls.MeetTpm(None))
        with enclave_before(tpm) as enclave:
            enclave.call(tpm_calls.KnowTpm(met.record))
            enclave.call(tpm_calls.DefineNv(INDEX, "ordinary", BYTES, "none", None))
            fill(enclave)
        yield Ready(tpm, met)


@contextlib.contextmanager
def enclave_before(tpm: Swtpm) -> Iterator[EnclaveProcess]:
    """Start an enclave, and end it such that nothing of it stays in the TPM."""
    with (
        Relay(parse_address(tpm.address)) as relay,
        launch(Silent(), tpm=RelayCarrier(relay)) as enclave,
    ):
        yield enclave
        enclave.shut_down()


def fill(enclave: EnclaveProcess) -> None:
    """Write the index."""
    client = HonestClient()
    key = enclave.call(calls.NewRecipient("tpm data")).public_key
    data = client.sealed(key, "tpm data", bytes(BYTES), calls.Terms())
    enclave.call(client.bound(tpm_calls.WriteNv(INDEX, 0, data, "none", None)))

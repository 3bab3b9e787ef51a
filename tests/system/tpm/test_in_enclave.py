# SPDX-License-Identifier: Apache-2.0
"""A TPM that a real, confined enclave uses, over a relay in this process."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls, tpm_calls
from strongroom.boundary.calls import Call, Purpose, Sealed
from strongroom.boundary.sealed import TPM_ANSWER_INFO
from strongroom.errors import (
    BoundaryError,
    TpmChangedError,
    TpmError,
    TpmTransportError,
    UsageError,
)
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.silence import Silent
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.carrying import RelayCarrier
from strongroom.host.tpm.relay import Relay
from tests.honest import HonestClient
from tests.swtpm import Swtpm, swtpm

pytestmark = pytest.mark.system

ResultT = TypeVar("ResultT")
INDEX = 0x01800020


class Operating:
    """An enclave with a TPM, and a client that is honest with it."""

    def __init__(self, enclave: EnclaveProcess) -> None:
        self._enclave = enclave
        self._client = HonestClient()

    def ask(self, request: Call[ResultT]) -> ResultT:
        return self._enclave.call(self._client.bound(request))

    def sealed(self, purpose: Purpose, data: bytes) -> Sealed:
        key = self._enclave.call(calls.NewRecipient(purpose)).public_key
        return self._client.sealed(key, purpose, data, calls.Terms())

    def end(self) -> None:
        self._enclave.shut_down()


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path, socket_kind="shared") as running:
        yield running


@pytest.fixture
def relay(tpm: Swtpm) -> Iterator[Relay]:
    with Relay(parse_address(tpm.address)) as relay:
        yield relay


@pytest.fixture
def operating(relay: Relay) -> Iterator[Operating]:
    with launch(Silent(), tpm=RelayCarrier(relay)) as enclave:
        yield Operating(enclave)


def enrolled(operating: Operating) -> None:
    """Have the enclave meet its TPM, and know it."""
    operating.ask(tpm_calls.KnowTpm(operating.ask(tpm_calls.MeetTpm(None)).record))


def loaded(tpm: Swtpm) -> str:
    kinds = ("handles-transient", "handles-loaded-session", "handles-saved-session")
    return "".join(tpm.tool("tpm2_getcap", kind).stdout.decode() for kind in kinds)


@pytest.mark.parametrize("root", [None, "rsa2048", "rsa3072"])
def test_enrolled_in_one_life_and_known_in_the_next(
    tpm: Swtpm, relay: Relay, root: str | None
) -> None:
    if root is not None:
        tpm.keep_root(root)
    with launch(Silent(), tpm=RelayCarrier(relay)) as enclave:
        operating = Operating(enclave)
        met = operating.ask(tpm_calls.MeetTpm(None))
        operating.ask(tpm_calls.KnowTpm(met.record))
        assert operating.ask(tpm_calls.ReadTpmClock()).reset_count == met.clock.reset_count
        operating.end()
    assert loaded(tpm) == ""
    with launch(Silent(), tpm=RelayCarrier(relay)) as enclave:
        operating = Operating(enclave)
        known = operating.ask(tpm_calls.KnowTpm(met.record))
        assert known.vouched == "enrolled"
        assert known.salt_key == met.storage_root
        selection = (0, 16)
        quote = operating.ask(tpm_calls.QuotePcrs("sha256", selection, b"question"))
        assert quote.signer == met.attestation
        assert [value.pcr for value in quote.values] == [0, 16]
        changed = met.record[:-1] + bytes([met.record[-1] ^ 1])
        operating.end()
    assert loaded(tpm) == ""
    with (
        launch(Silent(), tpm=RelayCarrier(relay)) as enclave,
        pytest.raises(TpmChangedError, match="not one of this enclave"),
    ):
        enclave.call(tpm_calls.KnowTpm(changed))


def test_operations_without_an_enrolment(tpm: Swtpm, operating: Operating) -> None:
    with pytest.raises(BoundaryError, match="no TPM is known"):
        operating.ask(tpm_calls.ReadTpmClock())
    assert operating.ask(tpm_calls.KnowTpm(None)).vouched == "first use"
    facts = operating.ask(tpm_calls.ReadTpmFacts())
    assert facts.manufacturer == "IBM"
    assert operating.ask(tpm_calls.ReadTpmClock()).is_safe in {True, False}
    digest = hashlib.sha256(b"event").digest()
    operating.ask(tpm_calls.ExtendPcr(16, "sha256", digest))
    values = operating.ask(tpm_calls.ReadPcrs("sha256", (16,))).values
    assert values[0].value == hashlib.sha256(bytes(32) + digest).digest()
    operating.end()
    assert loaded(tpm) == ""


def revealed(receiver: HpkeReceiver, reply: tpm_calls.TpmReply) -> bytes:
    """Return what came back, as its owner sees it."""
    reader, writer = os.pipe()
    try:
        receiver.open_to_fd(
            reply.encapsulated_key,
            reply.ciphertext,
            info=TPM_ANSWER_INFO,
            aad=receiver.public_key,
            fd=writer,
            ending=b"",
        )
        return os.read(reader, 8192)
    finally:
        os.close(reader)
        os.close(writer)


def test_secrets_cross_for_their_owner_alone(tpm: Swtpm, operating: Operating) -> None:
    enrolled(operating)
    data = bytes(range(256)) * 3
    index = operating.ask(
        tpm_calls.DefineNv(
            INDEX, "ordinary", len(data), "password", operating.sealed("tpm auth", b"owner's")
        )
    )
    assert index.type == "ordinary"
    assert index.attributes == ("authwrite", "authread")
    operating.ask(
        tpm_calls.WriteNv(
            INDEX,
            0,
            operating.sealed("tpm data", data),
            "password",
            operating.sealed("tpm auth", b"owner's"),
        )
    )
    receiver = HpkeReceiver()
    reply = operating.ask(
        tpm_calls.ReadNv(
            INDEX, 0, 0, "password", operating.sealed("tpm auth", b"owner's"), receiver.public_key
        )
    )
    assert revealed(receiver, reply) == data
    theirs = tpm.tool("tpm2_nvread", "-P", "owner's", f"{INDEX:#x}").stdout
    assert theirs == data
    with pytest.raises(TpmError, match="auth fail"):
        operating.ask(tpm_calls.ReadNv(INDEX, 0, 0, "enclave", None, receiver.public_key))
    receiver = HpkeReceiver()
    drawn = operating.ask(tpm_calls.DrawRandom(100, receiver.public_key))
    assert len(revealed(receiver, drawn)) == 100


def test_a_counter_of_this_enclave_alone(tpm: Swtpm, operating: Operating) -> None:
    enrolled(operating)
    operating.ask(tpm_calls.DefineNv(INDEX, "counter", 8, "enclave", None))
    first = operating.ask(tpm_calls.IncrementNv(INDEX, "enclave", None)).value
    assert operating.ask(tpm_calls.IncrementNv(INDEX, "enclave", None)).value == first + 1
    assert operating.ask(tpm_calls.ReadCounter(INDEX, "enclave", None)).value == first + 1
    (listed,) = operating.ask(tpm_calls.ListNv()).indexes
    assert (listed.index, listed.type) == (INDEX, "counter")
    assert "written" in listed.attributes
    assert tpm.tool("tpm2_nvread", f"{INDEX:#x}", check=False).returncode
    operating.ask(tpm_calls.UndefineNv(INDEX))
    assert operating.ask(tpm_calls.ListNv()).indexes == ()


@pytest.mark.parametrize("pcrs", [(), (16, 23)])
def test_sealed_data(tpm: Swtpm, operating: Operating, pcrs: tuple[int, ...]) -> None:
    enrolled(operating)
    made = operating.ask(
        tpm_calls.SealToTpm(operating.sealed("tpm data", b"share"), "enclave", None, "sha256", pcrs)
    )

    def opened() -> bytes:
        receiver = HpkeReceiver()
        request = tpm_calls.UnsealFromTpm(
            made, "enclave", None, "sha256", pcrs, receiver.public_key
        )
        return revealed(receiver, operating.ask(request))

    assert opened() == b"share"
    tpm.tool("tpm2_pcrextend", f"16:sha256={'11' * 32}")
    if pcrs:
        with pytest.raises(TpmError, match="policy"):
            opened()
    else:
        assert opened() == b"share"


def test_a_tpm_that_is_not_enrolled_is_told_no_value_of_the_enclave(operating: Operating) -> None:
    """Whoever answers would learn what opens the same index of another TPM."""
    operating.ask(tpm_calls.KnowTpm(None))
    for request in (
        tpm_calls.DefineNv(INDEX, "counter", 8, "enclave", None),
        tpm_calls.IncrementNv(INDEX, "enclave", None),
        tpm_calls.SealToTpm(operating.sealed("tpm data", b"x"), "enclave", None, "sha256", ()),
    ):
        with pytest.raises(UsageError, match="enrolled"):
            operating.ask(request)


def test_what_an_earlier_enrolment_protected_stays_of_use(
    tpm: Swtpm, operating: Operating, relay: Relay
) -> None:
    met = operating.ask(tpm_calls.MeetTpm(None))
    operating.ask(tpm_calls.KnowTpm(met.record))
    operating.ask(tpm_calls.DefineNv(INDEX, "counter", 8, "enclave", None))
    value = operating.ask(tpm_calls.IncrementNv(INDEX, "enclave", None)).value
    operating.end()
    with launch(Silent(), tpm=RelayCarrier(relay)) as enclave:
        later = Operating(enclave)
        again = later.ask(tpm_calls.MeetTpm(met.record))
        later.ask(tpm_calls.KnowTpm(again.record))
        assert later.ask(tpm_calls.ReadCounter(INDEX, "enclave", None)).value == value
        later.ask(tpm_calls.ForgetTpm(met.record))
        assert met.attestation.handle not in persistent(tpm)
        assert again.attestation.handle in persistent(tpm)
        later.end()


def persistent(tpm: Swtpm) -> list[int]:
    listed = tpm.tool("tpm2_getcap", "handles-persistent").stdout.decode().split()[1::2]
    return [int(handle, 16) for handle in listed]


@pytest.mark.parametrize(
    "request_",
    [
        tpm_calls.ReadCounter(INDEX, "none", None),
        tpm_calls.IncrementNv(INDEX, "none", None),
        tpm_calls.ReadNv(INDEX, 4, 8, "none", None, bytes(32)),
        tpm_calls.ReadNv(INDEX, 9, 0, "none", None, bytes(32)),
    ],
)
def test_an_index_is_used_for_what_it_is(operating: Operating, request_: Call[object]) -> None:
    operating.ask(tpm_calls.KnowTpm(None))
    operating.ask(tpm_calls.DefineNv(INDEX, "ordinary", 8, "none", None))
    with pytest.raises(UsageError):
        operating.ask(request_)


def test_more_than_an_index_holds_is_not_begun(tpm: Swtpm, operating: Operating) -> None:
    operating.ask(tpm_calls.KnowTpm(None))
    operating.ask(tpm_calls.DefineNv(INDEX, "ordinary", 600, "none", None))
    kept = b"k" * 600
    operating.ask(tpm_calls.WriteNv(INDEX, 0, operating.sealed("tpm data", kept), "none", None))
    for offset, length in ((0, 601), (100, 501), (600, 1)):
        data = operating.sealed("tpm data", b"n" * length)
        with pytest.raises(UsageError, match="has no"):
            operating.ask(tpm_calls.WriteNv(INDEX, offset, data, "none", None))
    assert tpm.tool("tpm2_nvread", f"{INDEX:#x}").stdout == kept


def test_a_tpm_that_goes_away_is_said_to_be(tpm: Swtpm, operating: Operating) -> None:
    operating.ask(tpm_calls.KnowTpm(None))
    tpm.power_off()
    with pytest.raises(TpmTransportError):
        operating.ask(tpm_calls.ReadTpmClock())
    with pytest.raises(TpmError):
        operating.ask(tpm_calls.ReadTpmClock())

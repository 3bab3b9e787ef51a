# SPDX-License-Identifier: Apache-2.0
"""What the host process says of a volume is not taken for more than its word."""

import dataclasses
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary import calls
from strongroom.boundary.sealed import report_data
from strongroom.errors import IdentityError, ReportError
from strongroom.host import control, control_calls, known_enclaves, unlocking
from strongroom.host.contracts import Unlocking
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.silence import Silent
from strongroom.host.trust import VolumeTrust
from strongroom.tee.identity import Identity
from strongroom.tee.process import platform
from strongroom.tee.process.provider import ProcessTee
from tests.unit.tee.scene import ROOT, enclave

pytestmark = pytest.mark.unit

VOLUME: Final = "aaaaaaaa-0000-4000-8000-00000000000a"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with the root secret of the enclaves in the scene."""
    provider = tmp_path / "process"
    provider.mkdir(mode=0o700)
    (provider / "root").write_bytes(ROOT)
    (provider / "root").chmod(0o600)
    monkeypatch.setenv("STRONGROOM_STATE_DIR", str(tmp_path))
    return tmp_path


def running(**what: Any) -> ProcessTee:  # noqa: ANN401 - as there
    return enclave("enclave", boot_id=platform.boot_id(), **what)


def recipient(tee: ProcessTee) -> calls.Recipient:
    key = HpkeReceiver().public_key
    return calls.Recipient(key, tee.report(report_data("unlock", key)))


def enrolment(identity: Identity, policy: calls.SealPolicy = "signer") -> calls.Enrolment:
    return calls.Enrolment(policy, calls.EnclaveIdentity(**dataclasses.asdict(identity)))


def trusting(tee: ProcessTee) -> VolumeTrust:
    trust = VolumeTrust(VOLUME, Unlocking(), Silent(), image=None)
    trust.check(recipient(tee), "unlock")
    return trust


def test_a_volume_that_is_known_stays_what_it_is() -> None:
    tee = running()
    known = KnownEnclave(VOLUME, "measurement", tee.identity, authenticated=True, epoch=4)
    known_enclaves.remember(known)
    stranger = dataclasses.replace(tee.identity, signer=b"a" * 32, measurement=b"b" * 32)
    trusting(tee).remember(VOLUME, enrolment(stranger), authenticated=False, epoch=7)
    assert known_enclaves.find(VOLUME) == dataclasses.replace(known, epoch=7)
    trusting(tee).remember(VOLUME, enrolment(tee.identity), authenticated=True, epoch=2)
    assert known_enclaves.find(VOLUME) == dataclasses.replace(known, epoch=7)


@pytest.mark.parametrize(
    ("changed", "policy"),
    [
        ({"signer": b"a" * 32}, "signer"),
        ({"product_id": 9}, "signer"),
        ({"security_version": 9}, "signer"),
        ({"tee": "gramine"}, "signer"),
        ({"measurement": b"a" * 32}, "measurement"),
    ],
    ids=str,
)
def test_an_enrolment_that_cannot_be_is_not_remembered(
    changed: dict[str, Any], policy: calls.SealPolicy
) -> None:
    tee = running()
    said = enrolment(dataclasses.replace(tee.identity, **changed), policy)
    with pytest.raises(IdentityError, match="not the one which opened"):
        trusting(tee).remember(VOLUME, said, authenticated=True, epoch=1)
    assert known_enclaves.find(VOLUME) is None
    trusting(tee).remember(VOLUME, enrolment(tee.identity, policy), authenticated=True, epoch=1)
    found = known_enclaves.find(VOLUME)
    assert found is not None
    assert (found.identity, found.policy) == (tee.identity, policy)


def test_a_forgotten_enclave_is_no_condition_and_the_epoch_is() -> None:
    tee = running()
    lost = dataclasses.replace(tee.identity, signer=b"a" * 32)
    known_enclaves.remember(KnownEnclave(VOLUME, "signer", lost, authenticated=True, epoch=4))
    with pytest.raises(IdentityError, match="signer is") as refusal:
        trusting(tee)
    assert f"`strongroom forget {VOLUME}`" in refusal.value.hint
    known_enclaves.forget_enclave(VOLUME)
    trust = trusting(tee)
    terms = trust._terms(None, None)
    assert (terms.authenticated, terms.minimum_epoch) == (True, 4)
    # Opened by a key that needs no enclave: the one that ran is known from now on.
    trust.remember(VOLUME, None, authenticated=True, epoch=4)
    found = known_enclaves.find(VOLUME)
    assert found is not None
    assert (found.identity, found.sealed_elsewhere, found.forgotten) == (tee.identity, True, False)
    trusting(tee)


class NobodyIsAsked:
    """A source that must not be read."""

    attempts = 3

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        raise AssertionError((prompt, confirm))


HONEST: Final = {"volume": VOLUME, "tee": "process"}


@pytest.mark.parametrize(
    ("lie", "error", "words"),
    [
        ({"volume": ""}, ReportError, "which volume"),
        ({"volume": VOLUME + " "}, ReportError, "which volume"),
        ({"volume": "aaaaaaaa"}, ReportError, "which volume"),
        ({"tee": "gramine"}, IdentityError, "--tee gramine, not process"),
    ],
    ids=str,
)
def test_a_host_that_does_not_say_which_volume_gets_nothing(
    monkeypatch: pytest.MonkeyPatch, lie: dict[str, str], error: type[Exception], words: str
) -> None:
    said_of_it = HONEST | lie
    said = control_calls.Waiting(
        recipient=recipient(running()),
        authentication="absent",
        enrolment=None,
        acceptable=(),
        volume=said_of_it["volume"],
        tee=said_of_it["tee"],
    )
    monkeypatch.setattr(control, "ask", lambda *_: said)
    with pytest.raises(error, match=words):
        unlocking.set_key("name", NobodyIsAsked(), Unlocking(), Silent())


def test_a_host_that_names_another_volume_at_the_second_attempt_gets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = VOLUME.replace("a", "b")
    trust = VolumeTrust(VOLUME, Unlocking(), Silent(), image=None)
    waiting = control_calls.Waiting(
        recipient(running()), other, "process", "absent", None, acceptable=()
    )
    with pytest.raises(ReportError, match="which volume"):
        unlocking._trust_in(waiting, Unlocking(), Silent(), image=None, before=trust)
    monkeypatch.setattr(control, "ask", lambda *_: waiting)
    with pytest.raises(AssertionError, match="Passphrase for name"):
        unlocking.set_key("name", NobodyIsAsked(), Unlocking(), Silent())

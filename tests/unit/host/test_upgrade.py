# SPDX-License-Identifier: Apache-2.0
"""What is said of an upgrade is what the next enclave will do, and nobody is left in the dark."""

import dataclasses
import os
import sys
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary.calls import Successor, Terms
from strongroom.boundary.sealed import report_data
from strongroom.enclave.handover import check_successor
from strongroom.enclave.sealed_slots import seal_key_for, sealing_of
from strongroom.errors import StrongroomError, TeeError
from strongroom.host import attestation, known_enclaves, upgrade
from strongroom.host.attestation import Attested
from strongroom.host.contracts import Finding, Reporter, TeeName
from strongroom.host.identity import prove
from strongroom.host.known_enclaves import KnownEnclave, everything, remember
from strongroom.host.silence import Silent
from strongroom.host.upgrade import obstacle, upgrade_findings
from strongroom.tee.identity import Identity, SealPolicy
from strongroom.tee.process import platform
from strongroom.tee.process.provider import ProcessTee
from tests.unit.tee.scene import enclave

pytestmark = pytest.mark.unit

ONE: Final = "aaaaaaaa-0000-4000-8000-00000000000a"
TWO: Final = "bbbbbbbb-0000-4000-8000-00000000000b"
THREE: Final = "cccccccc-0000-4000-8000-00000000000c"
PYTHON: Final = Path("/opt/strongroom-2/bin/python")
PRESENT: Final = enclave("present", security_version=2).identity


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own; it does not exist yet."""
    monkeypatch.setenv("STRONGROOM_STATE_DIR", str(tmp_path / "state"))
    answers(monkeypatch)
    return tmp_path / "state"


def known(
    volume: str = ONE,
    policy: SealPolicy = "signer",
    identity: Identity = PRESENT,
    *,
    authenticated: bool = True,
) -> KnownEnclave:
    return KnownEnclave(volume, policy, identity, authenticated=authenticated, epoch=1)


def append(state: Path, text: str) -> None:
    with (state / "known-enclaves").open("a") as file:
        file.write(text)


# --- the verdict ----------------------------------------------------------------------------------


def enclaves() -> list[ProcessTee]:
    return [
        enclave(
            name,
            signer=signer,
            product_id=number,
            security_version=version,
            debug=debug,
            boot_id=platform.boot_id(),
        )
        for name, signer, number, version, debug in product(
            ("present", "next"), ("signer", "other"), (1, 2), (1, 2, 3), (False, True)
        )
    ]


def opens(volume: KnownEnclave, sealer: ProcessTee, following: ProcessTee) -> bool:
    """Ask the code that decides: the operator's side, then the enclave's."""
    sealing = sealing_of(sealer, volume.policy, volume.volume)
    report = following.report(report_data("unlock", b"key"))
    try:
        attestation.check(report, "unlock", b"key", tee="process", known=volume)
        seal_key_for(following, sealing, volume.volume).erase()
    except StrongroomError:
        return False
    return True


def may_go(volume: KnownEnclave, sealer: ProcessTee, following: ProcessTee) -> bool:
    """Ask the enclave whether it hands the volume over."""
    sealing = sealing_of(sealer, volume.policy, volume.volume)
    key = HpkeReceiver().public_key
    offer = Successor(key, following.report(report_data("handover", key)))
    terms = Terms(volume=volume.volume, next_enclave=following.identity.measurement)
    try:
        check_successor(sealer, sealing, offer, terms)
    except StrongroomError:
        return False
    return True


@pytest.mark.parametrize("debug", [False, True], ids=["closed", "debugged"])
@pytest.mark.parametrize("policy", ["signer", "measurement"])
def test_the_verdict_is_what_will_happen(
    policy: SealPolicy,
    debug: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealer = enclave("present", security_version=2, debug=debug, boot_id=platform.boot_id())
    # The root secret of a machine is this enclave's, so it can check what the others report.
    monkeypatch.setattr(attestation, "verify_report", lambda _tee, report, _: sealer.verify(report))
    volume = known(policy=policy, identity=sealer.identity)
    verdicts = set()
    for following in enclaves():
        found = obstacle(volume, following.identity)
        story = f"{following.identity}: {found}"
        assert (found is None) == opens(volume, sealer, following), story
        if found is not None:
            assert found[1] == may_go(volume, sealer, following), story
        verdicts.add(found and found[1])
    assert verdicts >= {None, False}, "some open and some stay"
    assert (True in verdicts) == (policy == "measurement" or debug)


def test_sgx_has_keys_of_one_version_only() -> None:
    sealed = dataclasses.replace(PRESENT, tee="gramine", simulated=False)
    raised = dataclasses.replace(sealed, security_version=3)
    assert obstacle(known(identity=sealed), sealed) is None
    found = obstacle(known(identity=sealed), raised)
    assert found is not None
    assert "security version 2" in found[0]
    assert found[1]


# --- without the next enclave ---------------------------------------------------------------------


def test_nothing_known_is_nothing_to_lose() -> None:
    (finding,) = upgrade_findings(None)
    assert (finding.level, finding.mend) == ("ok", "")
    assert "no volume known here is sealed" in finding.found


def test_what_an_upgrade_could_lock_is_named() -> None:
    sgx = dataclasses.replace(PRESENT, tee="gramine", simulated=False)
    remember(known(ONE, "measurement"))
    remember(known(TWO))
    remember(known(THREE, identity=sgx))
    first, second = upgrade_findings(None)
    assert first == Finding(
        f"volume {ONE}",
        "warning",
        "the next version cannot open it: it is sealed to this one",
        "before the upgrade: strongroom reseal IMAGE --next PYTHON",
    )
    assert second.topic == f"volume {THREE}"
    assert "the next security version cannot open it" in second.found


@pytest.mark.parametrize("python", [None, PYTHON], ids=["alone", "next"])
@pytest.mark.parametrize(("policy", "what"), [("measurement", "measurement"), ("signer", "signer")])
def test_what_the_present_enclave_does_not_open_is_locked_already(
    monkeypatch: pytest.MonkeyPatch, policy: SealPolicy, what: str, python: Path | None
) -> None:
    """As after an upgrade, or with another state directory: no next version is to blame."""
    remember(dataclasses.replace(known(ONE, policy), image="/srv/a b.img"))
    following = dataclasses.replace(PRESENT, **{what: b"n" * 32})  # type: ignore[arg-type]  # by name
    answers(monkeypatch, following, following)
    finding = list(upgrade_findings(python))[-1]
    assert (finding.topic, finding.level) == (f"volume {ONE}", "warning")
    assert finding.found.startswith(f"LOCKED for the present enclave: it is sealed to {what}")
    assert finding.found.endswith("; last used as /srv/a b.img")
    assert finding.mend == (
        f"with its recovery key: strongroom forget {ONE}; strongroom reseal '/srv/a b.img' --adopt"
    )


def test_a_forgotten_enclave_is_no_verdict() -> None:
    remember(known(ONE, "measurement", dataclasses.replace(PRESENT, measurement=b"n" * 32)))
    known_enclaves.forget_enclave(ONE)
    finding = list(upgrade_findings(None))[-1]
    assert "its enclave was forgotten" in finding.found
    assert "--adopt" in finding.mend


def test_volumes_of_a_signer_are_not_in_danger() -> None:
    remember(known(ONE))
    remember(known(TWO))
    (finding,) = upgrade_findings(None)
    assert (finding.topic, finding.level) == ("upgrade", "ok")
    assert "opens the 2 volumes" in finding.found


def test_a_volume_without_enclave_is_of_no_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(known(ONE, "measurement", authenticated=False))
    assert [finding.level for finding in upgrade_findings(None)] == ["ok"]
    answers(monkeypatch, enclave("next", signer="other").identity)
    assert [finding.topic for finding in upgrade_findings(PYTHON)] == ["next enclave"]


@pytest.mark.parametrize("policy", ["signer", "measurement"])
@pytest.mark.parametrize("python", [None, PYTHON], ids=["alone", "next"])
def test_nothing_is_promised_for_what_is_sealed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, policy: SealPolicy, python: Path | None
) -> None:
    remember(dataclasses.replace(known(ONE, policy), sealed_elsewhere=True))
    answers(monkeypatch, PRESENT)
    found = [finding for finding in upgrade_findings(python) if finding.topic == f"volume {ONE}"]
    (finding,) = found
    assert finding.level == "warning"
    assert "sealed to an enclave that is not here" in finding.found
    assert "--adopt" in finding.mend


# --- with the next enclave ------------------------------------------------------------------------


def answers(
    patch: pytest.MonkeyPatch,
    identity: Identity | StrongroomError = PRESENT,
    present: Identity = PRESENT,
) -> list[str]:
    """Let another Strongroom answer; the real one is in ``tests/cli/test_upgrade.py``."""
    asked: list[str] = []

    def asking(
        _report: Reporter, *, tee: TeeName, python: Path | None, look_only: bool
    ) -> tuple[Attested, str]:
        assert look_only, "a question makes no identity"
        if python is None:
            return Attested(dataclasses.replace(present, tee=tee), genuine=True, notices=()), "1.0"
        assert python == PYTHON
        asked.append(tee)
        if isinstance(identity, StrongroomError):
            raise identity
        return Attested(dataclasses.replace(identity, tee=tee), genuine=True, notices=()), "9.9"

    patch.setattr(upgrade, "prove", asking)
    return asked


def test_each_volume_has_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(known(ONE, "measurement"))
    remember(known(TWO))
    answers(monkeypatch, dataclasses.replace(PRESENT, measurement=b"n" * 32))
    following, strict, lenient = upgrade_findings(PYTHON)
    assert (following.topic, following.level) == ("next enclave", "ok")
    assert "version 9.9" in following.found
    assert ("n" * 32).encode().hex() in following.found
    assert strict == Finding(
        f"volume {ONE}",
        "warning",
        "LOCKED for the next enclave: it is sealed to measurement " + PRESENT.measurement.hex(),
        f"before the upgrade: strongroom reseal IMAGE --next {PYTHON}",
    )
    assert lenient == Finding(f"volume {TWO}", "ok", "the next enclave opens it", "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"security_version": 1}, "a downgrade to security version 1"),
        ({"signer": b"s" * 32}, f"sealed to signer {PRESENT.signer.hex()}"),
        ({"product_id": 7}, "sealed to product 1"),
        ({"debug": True}, "open to a debugger"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_no_reseal_is_advised_that_would_be_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, int | bytes], words: str
) -> None:
    remember(known(ONE))
    answers(monkeypatch, dataclasses.replace(PRESENT, **changed))  # type: ignore[arg-type]  # by name
    _, finding = upgrade_findings(PYTHON)
    assert finding.level == "warning"
    assert finding.found.startswith("LOCKED for the next enclave: ")
    assert words in finding.found
    assert "reseal" not in finding.mend
    assert "recovery key" in finding.mend


def test_each_provider_is_asked_for_its_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(known(ONE))
    remember(known(TWO, identity=dataclasses.replace(PRESENT, tee="gramine", simulated=False)))
    remember(known(THREE, identity=dataclasses.replace(PRESENT, tee="later")))
    asked = answers(monkeypatch, PRESENT)
    findings = {finding.topic: finding for finding in upgrade_findings(PYTHON)}
    assert asked == ["process", "gramine"]
    assert findings[f"volume {ONE}"].level == findings[f"volume {TWO}"].level == "ok"
    assert findings[f"volume {THREE}"].level == "warning"
    assert "unknown TEE, later" in findings[f"volume {THREE}"].found
    assert findings[f"volume {THREE}"].mend.endswith("known-enclaves:3")


@pytest.mark.parametrize("python", [None, PYTHON])
def test_a_volume_with_a_new_uuid_is_one_volume(
    monkeypatch: pytest.MonkeyPatch, python: Path | None
) -> None:
    strict = dataclasses.replace(known(ONE, "measurement"), image="/srv/a.img")
    remember(strict)
    remember(dataclasses.replace(strict, volume=TWO))
    remember(dataclasses.replace(strict, volume=THREE, image="/srv/b.img"))
    answers(monkeypatch, PRESENT)
    topics = [finding.topic for finding in upgrade_findings(python)]
    named = [topic for topic in topics if topic.startswith("volume")]
    assert named == [f"volume {TWO}, formerly {ONE}", f"volume {THREE}"]


def test_no_verdict_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(known(ONE))
    answers(monkeypatch, TeeError("it does not start", hint="mend it"))
    (finding,) = upgrade_findings(PYTHON)
    assert (finding.level, finding.mend) == ("missing", "mend it")
    assert "cannot be asked for 1 volume known here: it does not start" in finding.found


def test_a_file_that_cannot_be_believed_is_a_finding(state: Path) -> None:
    remember(known(ONE, "measurement"))
    append(state, "what is this\n")
    for python in (None, PYTHON):
        (finding,) = upgrade_findings(python)
        assert finding.level == "missing"
        assert "known-enclaves:2 is malformed" in finding.found


def test_a_relative_path_is_that_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = Path(os.path.relpath(sys.executable))
    assert not python.is_absolute()
    attested, _ = prove(Silent(), tee="process", python=python)
    assert attested.genuine


# --- everything that is known ---------------------------------------------------------------------


def test_everything_is_in_the_order_of_the_file(state: Path) -> None:
    assert everything() == ()
    assert not state.exists()
    remember(known(TWO, "measurement"))
    append(state, "\n# a comment\n   \n")
    remember(known(ONE))
    assert everything() == (known(TWO, "measurement"), known(ONE))
    assert [one.place.rpartition(":")[2] for one in everything()] == ["1", "5"]
    assert known_enclaves.find(ONE) == everything()[1]


@pytest.mark.parametrize("line", ["of no volume", f"{TWO} policy=signer", ONE])
def test_a_malformed_line_is_not_passed_over(state: Path, line: str) -> None:
    remember(known(ONE))
    append(state, f"{line}\n")
    with pytest.raises(TeeError, match=r"known-enclaves:2 is malformed"):
        everything()


def test_of_two_lines_of_one_volume_none_is_chosen(state: Path) -> None:
    remember(known(ONE))
    file = state / "known-enclaves"
    file.write_text(file.read_text() * 2)
    with pytest.raises(TeeError, match=r"known-enclaves:1 and line 2 are both of volume"):
        everything()


def test_what_others_may_write_is_not_believed(state: Path) -> None:
    remember(known(ONE))
    (state / "known-enclaves").chmod(0o666)
    with pytest.raises(TeeError, match="others may change"):
        everything()

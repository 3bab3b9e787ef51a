# SPDX-License-Identifier: Apache-2.0
"""Which enclave opens a volume and to which it moves: the tables of ``spec/unlock.md``, all cells.

Without processes; with them in ``tests/system/identity``, and in ``tests/hostile/boundary`` with a
host that changes what is handed over.
"""

import dataclasses
from pathlib import Path
from typing import Final, get_args

import pytest

from strongroom.boundary import calls
from strongroom.boundary.calls import SealPolicy
from strongroom.boundary.sealed import report_data
from strongroom.errors import (
    EnclaveFactorError,
    HeaderChangedError,
    HeaderTamperedError,
    IdentityError,
    KeyslotStateError,
    ReportError,
    RollbackError,
    SecurityVersionError,
    WrongPassphraseError,
)
from tests.honest import AS_SHOWN
from tests.hostile.boundary.evil import NO_TERMS, PASSPHRASE
from tests.system.identity.truth_table import COLUMNS, YES, Cell, cells, shown
from tests.unit.enclave.lives import (
    SECOND,
    Life,
    Made,
    add_passphrase,
    make,
    opens,
    outcome,
    relabel,
    rewrite,
    shrink_sectors,
)

pytestmark = pytest.mark.unit

Volumes = dict[tuple[SealPolicy, str], Made]

POLICIES: Final[tuple[SealPolicy, ...]] = get_args(SealPolicy)
MAC_BYTES: Final = 32
STRANGERS: Final = (("debug", IdentityError), ("machine", ReportError), ("boot", ReportError))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """A volume of each policy and version; copied, never changed."""
    place = tmp_path_factory.mktemp("volumes")
    return {
        (policy, who): make(place / f"{policy}-{who}", who, policy)
        for policy in POLICIES
        for who in ("1", "2")
    }


@pytest.fixture
def volume(volumes: Volumes) -> Made:
    """A volume of version 1, sealed to its signer."""
    return volumes["signer", "1"]


@pytest.fixture
def image(volume: Made, tmp_path: Path) -> Path:
    """A copy of it."""
    return volume.copy(tmp_path)


def move(image: Path, old: str, new: str, policy: SealPolicy, *, named: bool) -> calls.Resealed:
    """Reseal a volume from one enclave to the next."""
    before, after = Life(old), Life(new)
    before.load(image)
    successor = after.ask(calls.BecomeSuccessor())
    name = after.identity.measurement if named else None
    handover = before.hand_over(successor, name, policy=policy)
    after.load(image)
    return after.ask(calls.TakeOver(handover))


def areas(image: Path) -> bytes:
    """Return the keyslots area."""
    with image.open("rb") as file:
        file.seek(32768)
        return file.read((16 << 20) - 32768)


# --- the tables -----------------------------------------------------------------------------------


def test_who_opens(volumes: Volumes, tmp_path: Path) -> None:
    found: dict[Cell, int] = {}
    for cell in cells("opens"):
        made = volumes[cell.policy, cell.sealed_by]
        image = made.copy(tmp_path)
        found[cell] = opens(image, cell.enclave)
        assert opens(image, cell.enclave, SECOND) == found[cell]
        assert opens(image, cell.enclave, made.recovery_key) == YES
        assert image.read_bytes() == made.image.read_bytes()
        image.unlink()
    print("\n" + shown("opens", found))
    assert {cell: cell.exit_code for cell in found} == found


def test_where_it_moves(volumes: Volumes, tmp_path: Path) -> None:
    opened_then = {(it.policy, it.sealed_by, it.enclave): it.exit_code for it in cells("opens")}
    found: dict[Cell, int] = {}
    for cell in cells("moves"):
        made = volumes[cell.policy, cell.sealed_by]
        image = made.copy(tmp_path)
        where = (cell.sealed_by, cell.enclave, cell.policy)
        found[cell] = outcome(move, image, *where, named=True)
        if found[cell]:
            assert image.read_bytes() == made.image.read_bytes()
            image.unlink()
            continue
        assert areas(image) == areas(made.image)
        for who in COLUMNS:
            # From another signer's point of view, both versions are of another one.
            new = (cell.policy, cell.enclave, who)
            assert opens(image, who) == opened_then.get(new, YES if who == "other" else 34), new
        assert opens(image, cell.enclave, SECOND) == opens(image, "1", made.recovery_key) == YES
        assert opens(image, cell.enclave, b"wrong") == WrongPassphraseError.exit_code
        image.unlink()
    print("\n" + shown("moves", found))
    assert {cell: cell.exit_code for cell in found} == found


@pytest.mark.parametrize("before", POLICIES)
@pytest.mark.parametrize("after", POLICIES)
def test_the_policy_changes_on_the_way(
    volumes: Volumes, tmp_path: Path, before: SealPolicy, after: SealPolicy
) -> None:
    """By a handover, and in the enclave itself."""
    made = volumes[before, "1"]
    image = made.copy(tmp_path)
    resealed = move(image, "1", "2", after, named=True)
    assert (resealed.enrolment.policy, resealed.epoch) == (after, 3)
    assert resealed.enrolment.identity.security_version == 2
    expected = {
        (it.sealed_by, it.enclave): it.exit_code for it in cells("opens") if it.policy == after
    }
    assert [opens(image, who) for who in COLUMNS] == [expected["2", who] for who in COLUMNS]

    itself = made.copy(tmp_path)
    life = Life("1")
    life.load(itself)
    resealed = life.reseal(after)
    assert (resealed.enrolment.policy, resealed.epoch, resealed.removed_keyslots) == (after, 3, ())
    assert [opens(itself, who) for who in COLUMNS] == [expected["1", who] for who in COLUMNS]
    assert opens(itself, "1", SECOND) == opens(itself, "other", made.recovery_key) == YES


def test_a_newer_version_reseals_to_itself_and_the_older_is_locked_out(image: Path) -> None:
    life = Life("2")
    assert life.load(image).authentication == "verified"
    assert life.reseal("signer").enrolment.identity.security_version == 2
    assert (opens(image, "1"), opens(image, "2")) == (SecurityVersionError.exit_code, YES)


def test_there_and_back_and_there_again(image: Path, volume: Made) -> None:
    for epoch, (old, new) in enumerate([("1", "twin"), ("twin", "1"), ("1", "2")], 3):
        assert move(image, old, new, "measurement", named=True).epoch == epoch
        assert opens(image, old) == EnclaveFactorError.exit_code
    assert opens(image, "2") == opens(image, "2", SECOND) == YES
    assert add_passphrase(image, "2", b"third", keyslot=3).epoch == 6
    assert opens(image, "2", b"third") == opens(image, "1", volume.recovery_key) == YES


# --- who may come next ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("to", "named"), [("2", "twin"), ("twin", "2"), ("1", "2")])
def test_only_the_named_enclave_comes_next(
    volumes: Volumes,
    tmp_path: Path,
    *,
    policy: SealPolicy,
    to: str,
    named: str,
) -> None:
    life, successor = Life("1"), Life(to).ask(calls.BecomeSuccessor())
    life.load(volumes[policy, "1"].copy(tmp_path))
    with pytest.raises(IdentityError, match="was agreed to"):
        life.hand_over(successor, Life(named).identity.measurement)


def test_the_strict_policy_needs_a_name(volumes: Volumes, tmp_path: Path) -> None:
    image = volumes["measurement", "1"].copy(tmp_path)
    for who in ("1", "2", "other"):
        with pytest.raises(IdentityError, match="a named one only"):
            move(image, "1", who, "measurement", named=False)
    assert move(volumes["signer", "1"].copy(tmp_path), "1", "2", "signer", named=False).epoch == 3


@pytest.mark.parametrize(
    ("policy", "who", "error"),
    [
        ("signer", "product", IdentityError),
        *(("signer", who, error) for who, error in STRANGERS),
        *(("measurement", who, error) for who, error in STRANGERS),
    ],
)
def test_strangers_never_come_next(
    volumes: Volumes,
    tmp_path: Path,
    *,
    policy: SealPolicy,
    who: str,
    error: type[IdentityError],
) -> None:
    image = volumes[policy, "1"].copy(tmp_path)
    with pytest.raises(error) as refused:
        move(image, "1", who, policy, named=True)
    assert type(refused.value) is error


@pytest.mark.parametrize("about", ["identity", "unlock", "existing passphrase", "another key"])
def test_a_report_about_something_else_does_not_make_a_successor(image: Path, about: str) -> None:
    """Reports that the next enclave gives to anybody who asks, and one of its other keys."""
    life, following = Life("1"), Life("2")
    life.load(image)
    own = following.ask(calls.BecomeSuccessor())
    key = bytes(32) if about == "another key" else own.public_key
    purpose = "handover" if about == "another key" else about
    report = following.tee.report(report_data(purpose, key))
    with pytest.raises(ReportError, match="not about its key"):
        life.hand_over(dataclasses.replace(own, report=report))


def test_a_report_that_was_written_by_somebody_else_makes_no_successor(image: Path) -> None:
    """With the identity of the next enclave, over a key of the host's own; the code is a guess."""
    life, following = Life("1"), Life("2")
    life.load(image)
    host = Life("2").ask(calls.BecomeSuccessor())
    genuine = following.tee.report(report_data("handover", host.public_key))
    body = genuine[:-MAC_BYTES]
    for forged in (
        body + bytes(MAC_BYTES),
        body + following.ask(calls.BecomeSuccessor()).report[-MAC_BYTES:],
        following.ask(calls.BecomeSuccessor()).report,
        body,
        b"",
        genuine + b"\0",
    ):
        with pytest.raises(ReportError):
            life.hand_over(dataclasses.replace(host, report=forged))
    # The same with the true code is the next enclave's own word.
    assert life.hand_over(dataclasses.replace(host, report=genuine)).slots


# --- what a header must be for it -----------------------------------------------------------------


def test_a_changed_header_is_not_resealed(image: Path) -> None:
    rewrite(image, relabel)
    life, successor = Life("1"), Life("2").ask(calls.BecomeSuccessor())
    assert life.load(image).authentication == "changed"
    before = image.read_bytes()
    for attempt in (lambda: life.reseal("signer"), lambda: life.hand_over(successor)):
        with pytest.raises(HeaderChangedError, match="label"):
            attempt()
    assert image.read_bytes() == before
    accepted = dataclasses.replace(NO_TERMS, accepted_changes=AS_SHOWN)
    life.ask(calls.Reseal(life.existing(terms=accepted), "signer", adopt=False))
    assert Life("1").load(image).authentication == "verified"


def test_a_changed_header_moves_when_that_is_accepted(image: Path) -> None:
    """And not a bit of it changes for a successor that is refused."""
    rewrite(image, relabel)
    life, following = Life("1"), Life("2")
    life.load(image)
    accepted = dataclasses.replace(NO_TERMS, accepted_changes=AS_SHOWN)
    before = image.read_bytes()
    stranger = Life("other").ask(calls.BecomeSuccessor())
    with pytest.raises(IdentityError):
        life.ask(calls.HandOver(life.existing(terms=accepted), stranger, "signer"))
    assert image.read_bytes() == before
    successor = following.ask(calls.BecomeSuccessor())
    handover = life.ask(calls.HandOver(life.existing(terms=accepted), successor, "signer"))
    assert following.load(image).label == "another label"
    assert following.ask(calls.TakeOver(handover)).epoch == 4
    assert opens(image, "2") == YES


def test_a_tampered_header_is_not_resealed_or_adopted(image: Path, volume: Made) -> None:
    rewrite(image, shrink_sectors)
    life, successor = Life("1"), Life("2").ask(calls.BecomeSuccessor())
    assert life.load(image).authentication == "tampered"
    elsewhere = Life("machine")
    assert elsewhere.load(image).authentication == "unverified"
    before = image.read_bytes()
    for attempt in (
        lambda: life.reseal("signer"),
        lambda: life.hand_over(successor),
        lambda: elsewhere.reseal("signer", volume.recovery_key, adopt=True),
    ):
        with pytest.raises(HeaderTamperedError):
            attempt()
    assert image.read_bytes() == before


def test_an_older_header_is_not_resealed(image: Path) -> None:
    life, successor = Life("1"), Life("2").ask(calls.BecomeSuccessor())
    assert life.load(image).epoch == 2
    seen = dataclasses.replace(NO_TERMS, minimum_epoch=3)
    for request in (
        calls.Reseal(life.existing(terms=seen), "signer", adopt=False),
        calls.HandOver(life.existing(terms=seen), successor, "signer"),
    ):
        with pytest.raises(RollbackError):
            life.ask(request)


def test_an_enclave_that_a_volume_is_not_sealed_to_hands_nothing_over(
    volumes: Volumes, tmp_path: Path
) -> None:
    """Not even with the recovery key, which opens the volume there."""
    made = volumes["measurement", "1"]
    image = made.copy(tmp_path)
    for who in ("2", "other", "machine"):
        life, following = Life(who), Life("2")
        successor, named = following.ask(calls.BecomeSuccessor()), following.identity.measurement
        life.load(image)
        for data in (PASSPHRASE, made.recovery_key):
            assert outcome(life.hand_over, successor, named, data) == 34
            assert outcome(life.reseal, "measurement", data) == 34


# --- adoption -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_another_machine_adopts_with_the_recovery_key(
    volumes: Volumes, tmp_path: Path, policy: SealPolicy
) -> None:
    made = volumes[policy, "1"]
    image = made.copy(tmp_path)
    life = Life("machine")
    life.load(image)
    for sealed in (PASSPHRASE, SECOND):
        with pytest.raises(EnclaveFactorError):
            life.reseal(policy, sealed, adopt=True)
    with pytest.raises(
        EnclaveFactorError, match="sealed with the keys of another state directory"
    ) as refused:
        life.reseal(policy, made.recovery_key)
    assert "--adopt" in refused.value.hint
    adopted = life.reseal(policy, made.recovery_key, adopt=True)
    assert (adopted.removed_keyslots, adopted.epoch) == ((0, 2), 3)
    assert opens(image, "machine", PASSPHRASE) == WrongPassphraseError.exit_code
    add_passphrase(image, "machine", b"new", keyslot=0, existing=made.recovery_key)
    assert opens(image, "machine", b"new") == opens(image, "1", made.recovery_key) == YES
    for who in COLUMNS:
        assert opens(image, who, b"new") == EnclaveFactorError.exit_code


def test_with_the_recovery_key_an_older_version_adopts_too(
    volumes: Volumes, tmp_path: Path
) -> None:
    """It is no move: whoever has the recovery key may enrol the volume anywhere."""
    made = volumes["signer", "2"]
    image = made.copy(tmp_path)
    life = Life("1")
    life.load(image)
    for data in (PASSPHRASE, made.recovery_key):
        with pytest.raises(SecurityVersionError):
            life.reseal("signer", data)
    with pytest.raises(SecurityVersionError):
        life.reseal("signer", PASSPHRASE, adopt=True)
    assert life.reseal("signer", made.recovery_key, adopt=True).removed_keyslots == (0, 2)


def test_what_is_not_lost_is_not_adopted(image: Path, volume: Made) -> None:
    before = image.read_bytes()
    for who in ("1", "2", "twin"):
        life = Life(who)
        life.load(image)
        for data in (PASSPHRASE, volume.recovery_key):
            with pytest.raises(KeyslotStateError, match="not lost"):
                life.reseal("signer", data, adopt=True)
    assert image.read_bytes() == before


def test_a_volume_that_is_sealed_to_nobody_goes_nowhere(tmp_path: Path) -> None:
    made = make(tmp_path / "plain", "1", "signer", factors=("passphrase",))
    life, successor = Life("1"), Life("2").ask(calls.BecomeSuccessor())
    life.load(made.image)
    for attempt in (
        lambda: life.reseal("signer"),
        lambda: life.reseal("signer", made.recovery_key, adopt=True),
        lambda: life.hand_over(successor),
    ):
        with pytest.raises(KeyslotStateError, match="not sealed"):
            attempt()

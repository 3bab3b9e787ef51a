# SPDX-License-Identifier: Apache-2.0
"""Every call in every state of a real enclave: what is allowed, and what changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.boundary.calls import Call
from strongroom.errors import BoundaryError, StrongroomError
from tests.hostile.boundary.evil import CHEAP, Enclave, creation, is_served, opened, serve

pytestmark = pytest.mark.hostile

STATES: Final = ("fresh", "loaded", "unlocked", "serving")
ALWAYS: Final = {
    "BecomeSuccessor",
    "Describe",
    "Erase",
    "NewRecipient",
    "ProveIdentity",
    "RunSelftest",
    "Shutdown",
}
ALLOWED: Final = {
    "fresh": {"LoadDisk", "LookAtDisk", "CreateVolume", "ReadBackup", "RestoreHeader"},
    "loaded": {
        "Unlock",
        "DumpHeader",
        "ProveWayIn",
        "AddKeyslot",
        "ChangeKeyslot",
        "RemoveKeyslot",
        "BackupHeader",
        "HandOver",
        "Reseal",
        "TakeOver",
    },
    "unlocked": {"Serve", "ServeFuse", "ReadCounters", "Flush"},
    "serving": {"ServeFuse", "ReadCounters", "Flush"},
}
"""Spec: spec/boundary.md, "Order"."""

SEALED: Final = calls.Sealed(bytes(32), calls.Terms(), bytes(32), bytes(17))
SUCCESSOR: Final = calls.Successor(bytes(32), b"")
HANDOVER: Final = calls.Handover(bytes(32), bytes(17), "signer", b"\0", ())


def requests(descriptor: int) -> list[Call[object]]:
    """Return one of each call whose passphrases open nothing: none of them succeeds by itself."""
    return [
        calls.AddKeyslot(
            existing=SEALED,
            new=SEALED,
            factors=("passphrase",),
            kdf=CHEAP,
            keyslot=None,
            recovery_key_to=None,
        ),
        calls.BackupHeader(descriptor),
        calls.ChangeKeyslot(SEALED, SEALED, CHEAP, None),
        creation(descriptor, SEALED),
        calls.DumpHeader(),
        calls.Flush(),
        calls.HandOver(SEALED, SUCCESSOR, "signer"),
        calls.LoadDisk(descriptor, None, read_only=True),
        calls.LookAtDisk(descriptor, None),
        calls.ProveWayIn(SEALED, None),
        calls.ReadBackup(descriptor),
        calls.ReadCounters(),
        calls.RemoveKeyslot(SEALED, 0),
        calls.Reseal(SEALED, "signer", adopt=False),
        calls.RestoreHeader(descriptor, None, descriptor, force=False),
        calls.Serve(descriptor, "volume", structured_replies=False),
        calls.ServeFuse((descriptor,), "volume"),
        calls.TakeOver(HANDOVER),
        calls.Unlock(SEALED, discard=False),
    ]


def bring_to(state: str, enclave: Enclave, image: Path, nbd: Path) -> None:
    """Bring a fresh enclave into a state."""
    for step in steps(enclave, image, nbd)[: STATES.index(state)]:
        step()


def bring_further(state: str, enclave: Enclave, image: Path, nbd: Path) -> None:
    """Show that a refused call did not move an enclave: the rest of its life is still ahead."""
    for step in steps(enclave, image, nbd)[STATES.index(state) :]:
        step()


def steps(enclave: Enclave, image: Path, nbd: Path) -> tuple[Callable[[], object], ...]:
    """Return what leads from each state to the next."""
    return (lambda: enclave.load(image), enclave.unlock, lambda: serve(enclave, nbd))


@pytest.mark.parametrize("state", STATES)
def test_a_call_in_the_wrong_state_is_refused_and_changes_nothing(
    state: str, enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    nbd = tmp_path / "nbd"
    bring_to(state, enclave, image, nbd)
    before = image.read_bytes()

    with opened(image) as descriptor:
        wrong = [it for it in requests(descriptor) if type(it).__name__ not in ALLOWED[state]]
        assert len(wrong) == len(requests(descriptor)) - len(ALLOWED[state])
        for request in wrong:
            with pytest.raises(BoundaryError) as refused:
                enclave.call(request)
            # Refused for the state, and not because the passphrase is none.
            assert "sealed" not in refused.value.message, request

    assert image.read_bytes() == before
    assert enclave.is_alive()
    assert is_served(nbd) == (state == "serving")
    bring_further(state, enclave, image, nbd)
    assert is_served(nbd)


def test_a_disk_that_is_looked_at_is_not_used(
    enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    before = image.read_bytes()
    with opened(image) as descriptor:
        enclave.call(calls.LookAtDisk(descriptor, None))
        allowed = {"DumpHeader", "BackupHeader"}
        wrong = [it for it in requests(descriptor) if type(it).__name__ not in allowed]
        for request in wrong:
            with pytest.raises(BoundaryError) as refused:
                enclave.call(request)
            assert "sealed" not in refused.value.message, request
    assert image.read_bytes() == before
    assert enclave.call(calls.DumpHeader()).json
    copy = tmp_path / "copy"
    copy.touch()
    with opened(copy) as output:
        enclave.call(calls.BackupHeader(output))
    assert before.startswith(copy.read_bytes())


@pytest.mark.parametrize("state", STATES)
def test_some_calls_are_allowed_always(
    state: str, enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    nbd = tmp_path / "nbd"
    bring_to(state, enclave, image, nbd)

    assert enclave.call(calls.Describe()).identity.tee == "process"
    assert len(enclave.call(calls.NewRecipient("unlock")).public_key) == 32
    assert enclave.call(calls.ProveIdentity(bytes(32))).report
    assert len(enclave.call(calls.BecomeSuccessor()).public_key) == 32
    assert all(test.passed for test in enclave.call(calls.RunSelftest()).results)
    assert enclave.call(calls.Shutdown()) == calls.Done()
    assert enclave.exit_code() == 0
    assert not is_served(nbd)


@pytest.mark.parametrize("state", STATES)
def test_after_erasing_nothing_but_the_end_is_allowed(
    state: str, enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    bring_to(state, enclave, image, tmp_path / "nbd")

    assert enclave.call(calls.Erase()) == calls.Done()
    with opened(image) as descriptor:
        always = [calls.Describe(), calls.NewRecipient("unlock"), calls.Erase()]
        for request in [*always, *requests(descriptor)]:
            with pytest.raises(BoundaryError, match="keys are erased"):
                enclave.call(request)
    assert enclave.call(calls.Shutdown()) == calls.Done()
    assert enclave.exit_code() == 0


def test_the_table_names_every_call() -> None:
    named = ALWAYS.union(*ALLOWED.values())
    assert named == {kind.__name__ for kind in calls.ECALLS}
    assert {type(it).__name__ for it in requests(0)} == named - ALWAYS


def test_two_changes_in_one_life_keep_each_other(
    enclave: Enclave, start: Callable[[], Enclave], image: Path
) -> None:
    enclave.load(image)
    for number, passphrase in enumerate((b"second", b"third"), start=1):
        written = enclave.call(
            calls.AddKeyslot(
                existing=enclave.sealed("existing passphrase"),
                new=enclave.sealed("new passphrase", passphrase),
                factors=("enclave", "passphrase"),
                kdf=CHEAP,
                keyslot=None,
                recovery_key_to=None,
            )
        )
        assert written.keyslot.number == number
    enclave.call(calls.RemoveKeyslot(enclave.sealed("existing passphrase", b"third"), 0))
    with pytest.raises(StrongroomError, match="no keyslot 0"):
        enclave.call(calls.RemoveKeyslot(enclave.sealed("existing passphrase", b"third"), 0))
    for passphrase, keyslot in ((b"second", 1), (b"third", 2)):
        reader = start()
        assert {slot.number for slot in reader.load(image).keyslots} == {1, 2}
        assert reader.unlock(passphrase).keyslot == keyslot

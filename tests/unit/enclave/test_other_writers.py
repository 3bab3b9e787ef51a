# SPDX-License-Identifier: Apache-2.0
"""A header that somebody wrote while this enclave waited, or of which a copy is broken."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from strongroom.boundary import calls
from strongroom.boundary.sealed import changes_digest, described
from strongroom.enclave import disk
from strongroom.errors import HeaderChangedError, KeyslotStateError, RollbackError
from strongroom.units import ByteOffset
from tests.honest import AS_SHOWN
from tests.hostile.boundary.evil import CHEAP, NO_TERMS

from .lives import Life, make, relabel, relabel_otherwise, rewrite

pytestmark = pytest.mark.unit

ACCEPTED = dataclasses.replace(NO_TERMS, accepted_changes=AS_SHOWN)
HEADER_BYTES = 16384


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "image", "1", "signer").image


def words(changes: tuple[calls.HeaderChange, ...]) -> tuple[str, ...]:
    return tuple(change.words for change in changes)


def add_keyslot(life: Life) -> int:
    """Add a keyslot as another command does meanwhile; return the epoch."""
    order = calls.AddKeyslot(
        life.existing(),
        life.sealed("new passphrase", b"meanwhile"),
        ("enclave", "passphrase"),
        CHEAP,
        None,
        None,
    )
    return life.ask(order).epoch


def test_what_was_accepted_is_not_written_over_what_came_later(image: Path) -> None:
    rewrite(image, relabel)
    waiting, meanwhile = Life("1"), Life("1")
    waiting.load(image)
    meanwhile.load(image)
    order = calls.Reseal(meanwhile.existing(terms=ACCEPTED), "signer", adopt=False)
    meanwhile.ask(order)
    assert add_keyslot(meanwhile) > 1
    before = image.read_bytes()
    with pytest.raises(KeyslotStateError, match="changed since it was read"):
        waiting.unlock(terms=ACCEPTED)
    assert image.read_bytes() == before
    again = Life("1")
    again.load(image)
    assert again.unlock(b"meanwhile").authenticated


def order_of(life: Life, change: str) -> calls.Call[object]:
    """Return a change as it is asked for once its passphrases are typed."""
    existing = life.existing()
    match change:
        case "add":
            new = life.sealed("new passphrase", b"new")
            return calls.AddKeyslot(existing, new, ("passphrase",), CHEAP, None, None)
        case "change":
            return calls.ChangeKeyslot(existing, life.sealed("new passphrase", b"new"), CHEAP, 0)
        case "remove":
            return calls.RemoveKeyslot(existing, 2)
        case "reseal":
            return calls.Reseal(existing, "signer", adopt=False)
        case _:
            successor = Life("2").ask(calls.BecomeSuccessor())
            return calls.HandOver(existing, successor, "signer")


@pytest.mark.parametrize("change", ["add", "change", "remove", "reseal", "hand over"])
def test_a_change_is_refused_that_would_undo_what_came_meanwhile(image: Path, change: str) -> None:
    waiting, meanwhile = Life("1"), Life("1")
    waiting.load(image)
    meanwhile.load(image)
    order = order_of(waiting, change)
    add_keyslot(meanwhile)
    before = image.read_bytes()
    with pytest.raises(KeyslotStateError, match="nothing was changed now"):
        waiting.ask(order)
    assert image.read_bytes() == before


def test_a_newer_header_on_the_disk_is_no_rollback(image: Path) -> None:
    waiting, meanwhile = Life("1"), Life("1")
    waiting.load(image)
    meanwhile.load(image)
    epoch = add_keyslot(meanwhile)
    seen = dataclasses.replace(NO_TERMS, minimum_epoch=epoch)
    with pytest.raises(KeyslotStateError, match="changed since it was read"):
        waiting.unlock(terms=seen)
    older = dataclasses.replace(NO_TERMS, minimum_epoch=epoch + 1)
    with pytest.raises(RollbackError) as refused:
        meanwhile.unlock(terms=older)
    assert "header restore IMAGE FILE --force" in refused.value.hint


def test_only_what_was_shown_is_accepted(image: Path) -> None:
    rewrite(image, relabel)
    life = Life("1")
    shown = life.load(image).acceptable
    assert words(shown) == ("the label was changed",)
    before = image.read_bytes()
    added = calls.HeaderChange("keyslot 2 was added", bytes(32))
    exchanged = dataclasses.replace(shown[0], content=bytes(32))
    for other in ((), (*shown, added), (exchanged,), (*shown, *shown)):
        terms = dataclasses.replace(NO_TERMS, accepted_changes=changes_digest(other))
        with pytest.raises(HeaderChangedError, match="not as it was accepted: the label"):
            life.unlock(terms=terms)
    assert image.read_bytes() == before
    assert life.unlock(terms=ACCEPTED).notices


def test_another_content_under_the_same_words_is_not_what_was_accepted(image: Path) -> None:
    rewrite(image, relabel)
    shown = Life("1").load(image).acceptable
    rewrite(image, relabel_otherwise)
    life = Life("1")
    other = life.load(image).acceptable
    assert words(other) == words(shown)
    assert described(other) != described(shown)
    terms = dataclasses.replace(NO_TERMS, accepted_changes=changes_digest(shown))
    with pytest.raises(HeaderChangedError, match="not as it was accepted") as refused:
        life.unlock(terms=terms)
    assert described(other) in refused.value.message


def test_elsewhere_only_what_was_shown_is_accepted_too(tmp_path: Path) -> None:
    made = make(tmp_path / "image", "1", "signer")
    rewrite(made.image, relabel)
    life = Life("machine")
    facts = life.load(made.image)
    assert facts.authentication == "unverified"
    assert words(facts.acceptable) == ("the label was changed",)
    with pytest.raises(HeaderChangedError, match="label"):
        life.unlock(made.recovery_key)
    assert life.unlock(made.recovery_key, ACCEPTED).authenticated


@pytest.mark.parametrize("read_only", [False, True])
def test_an_epoch_is_told_when_it_is_on_the_disk(
    image: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    """A killed change leaves a header in the page cache, and a power cut the one before it."""
    synced: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    life = Life("1")
    epoch = life.load(image, read_only=read_only).epoch
    monkeypatch.setattr(os, "fsync", recorded)
    assert (life.unlock().epoch, synced) == (epoch, [image.stat().st_ino])


@pytest.mark.parametrize("problem", [errno.EIO, errno.EINVAL])
def test_an_epoch_that_may_be_lost_is_not_told(
    image: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    def failing(_: int) -> None:
        raise OSError(problem, os.strerror(problem))

    life = Life("1")
    epoch = life.load(image, read_only=True).epoch
    monkeypatch.setattr(os, "fsync", failing)
    unlocked = life.unlock()
    # What cannot be synced cannot be written either.
    told = epoch if problem == errno.EINVAL else 0
    assert (unlocked.authenticated, unlocked.epoch) == (True, told)
    assert any("not remembered" in notice for notice in unlocked.notices) == (told == 0)


@pytest.mark.parametrize("broken", [0, HEADER_BYTES])
def test_a_broken_copy_is_whole_before_the_other_is_written(
    image: Path, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two writes would leave none."""
    rewrite(image, relabel)
    with image.open("r+b") as file:
        file.seek(broken + 5000)
        file.write(b"#")
    writes: list[int] = []
    write_at = disk.write_at

    def recorded(descriptor: int, offset: ByteOffset, data: bytes) -> None:
        writes.append(offset)
        write_at(descriptor, offset, data)

    life = Life("1")
    assert life.load(image).authentication == "changed"
    monkeypatch.setattr(disk, "write_at", recorded)
    life.unlock(terms=ACCEPTED)
    assert writes[:3] == [broken, HEADER_BYTES, 0]
    assert image.read_bytes()[:4] == b"LUKS"
    assert Life("1").load(image).notices == ()

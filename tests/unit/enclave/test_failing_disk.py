# SPDX-License-Identifier: Apache-2.0
"""A disk that fails at any write or sync of a change: what is said is what holds.

The real code on a real file; only the two system calls fail, once or from there on.
"""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.errors import NoSpaceError, PlatformError, StrongroomError
from tests.honest import AS_SHOWN
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, PASSPHRASE, opened

from .lives import BOTH, SECOND, Life, Made, make, relabel, rewrite

pytestmark = pytest.mark.unit

ACCEPTED = dataclasses.replace(NO_TERMS, accepted_changes=AS_SHOWN)
NEW: Final = b"the new passphrase"
NOTHING: Final = "nothing was changed"
UNSURE: Final = "the change is made as the disk shows it now, but may be lost with the next crash"


class Failing:
    """Fails the n-th of the calls that change a file, and those after it if that is wanted."""

    def __init__(self, at: int, number: int, *, for_good: bool) -> None:
        self.seen = 0
        self._at, self._number, self._for_good = at, number, for_good

    def called(self) -> None:
        here, self.seen = self.seen, self.seen + 1
        if here == self._at or (self._for_good and here > self._at):
            raise OSError(self._number, os.strerror(self._number))


@contextmanager
def failing(at: int, number: int, *, for_good: bool) -> Iterator[Failing]:
    fault = Failing(at, number, for_good=for_good)
    pwrite, fsync = os.pwrite, os.fsync

    def write(descriptor: int, data: bytes, offset: int) -> int:
        fault.called()
        return pwrite(descriptor, data, offset)

    def sync(descriptor: int) -> None:
        fault.called()
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        patch.setattr(os, "fsync", sync)
        yield fault


Answer = calls.KeyslotWritten | calls.HeaderWritten | calls.Resealed | calls.Unlocked


def change(life: Life) -> Answer:
    new = life.sealed("new passphrase", NEW)
    return life.ask(calls.ChangeKeyslot(life.existing(), new, CHEAP, None))


def add(life: Life) -> Answer:
    new = life.sealed("new passphrase", NEW)
    return life.ask(calls.AddKeyslot(life.existing(), new, BOTH, CHEAP, None, None))


def remove(life: Life) -> Answer:
    return life.ask(calls.RemoveKeyslot(life.existing(SECOND), 0))


def reseal(life: Life) -> Answer:
    return life.reseal("measurement")


def accept(life: Life) -> Answer:
    return life.unlock(terms=ACCEPTED)


Work = Callable[[Life], Answer]
WORKS: Final[dict[str, tuple[Work, dict[bytes, bool]]]] = {
    "change": (change, {PASSPHRASE: False, NEW: True, SECOND: True}),
    "add": (add, {PASSPHRASE: True, NEW: True, SECOND: True}),
    "remove": (remove, {PASSPHRASE: False, NEW: False, SECOND: True}),
    "reseal": (reseal, {PASSPHRASE: True, NEW: False, SECOND: True}),
    "accept": (accept, {PASSPHRASE: True, NEW: False, SECOND: True}),
}
"""What a change is, and which passphrases open the volume once it is made."""
BEFORE: Final = {PASSPHRASE: True, NEW: False, SECOND: True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "image", "1", "signer")


def opens(image: Path, data: bytes, terms: calls.Terms = NO_TERMS) -> bool:
    life = Life("1")
    life.load(image)
    try:
        return life.unlock(data, terms).authenticated
    except StrongroomError:
        return False


def work_on(
    image: Path, work: Work, at: int, number: int, *, for_good: bool
) -> tuple[PlatformError | None, tuple[str, ...], int]:
    """Return how a change ended: its error or its notices, and how many calls it made."""
    life = Life("1")
    life.load(image)
    with failing(at, number, for_good=for_good) as fault:
        try:
            answer = work(life)
        except PlatformError as err:
            return err, (), fault.seen
        return None, answer.notices, fault.seen


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("name", WORKS)
def test_what_is_said_of_a_change_is_what_holds(
    made: Made, tmp_path: Path, name: str, *, for_good: bool
) -> None:
    work, after = WORKS[name]
    whole = made.copy(tmp_path)
    if name == "accept":
        rewrite(whole, relabel)
    sound = whole.read_bytes()
    error, notices, points = work_on(whole, work, -1, 0, for_good=False)
    assert error is None
    assert not [words for words in notices if "made, but" in words]
    outcomes = []
    for at in range(points):
        for number in (errno.EIO, errno.ENOSPC):
            image = tmp_path / "image"
            image.write_bytes(sound)
            error, notices, _ = work_on(image, work, at, number, for_good=for_good)
            outcomes.append(_holds(image, error, notices, after, number=number, name=name))
            assert error is None or for_good, "one error is outlived"
    # From the first call that changes nothing to the last that can only be noted.
    assert outcomes == sorted(outcomes, key=["nothing", "unsure", "made"].index)
    if for_good:
        assert set(outcomes) == {"nothing", "unsure", "made"}


def _holds(
    image: Path,
    error: PlatformError | None,
    notices: tuple[str, ...],
    after: dict[bytes, bool],
    *,
    number: int,
    name: str,
) -> str:
    """Check the disk against what was said, and return which it was."""
    if error is not None:
        assert isinstance(error, NoSpaceError) == (number == errno.ENOSPC)
        outcome = "nothing" if error.message.startswith(NOTHING) else "unsure"
        if outcome == "unsure":
            assert error.message.startswith(UNSURE)
            assert "keep the old and the new" in error.hint
    else:
        outcome = "made"
    expected = BEFORE if outcome == "nothing" else after
    terms = ACCEPTED if name == "accept" and outcome == "nothing" else NO_TERMS
    assert {data: opens(image, data, terms) for data in expected} == expected, (outcome, notices)
    return outcome


def test_a_copy_that_could_not_be_written_is_told_and_repaired(made: Made, tmp_path: Path) -> None:
    """The old passphrase is in the other copy: it is said, nothing is wiped, and it is mended."""
    image = made.copy(tmp_path)
    _, _, points = work_on(made.copy(tmp_path), change, -1, 0, for_good=False)
    told = []
    for at in range(points):
        image.write_bytes(made.image.read_bytes())
        error, notices, _ = work_on(image, change, at, errno.EIO, for_good=True)
        if error is None:
            told.append(next(words for words in notices if "the change is made, but" in words))
            assert opens(image, NEW)
    assert any("one header copy is still the old one" in words for words in told)
    assert any("is not wiped from the disk" in words for words in told)


def test_a_repair_that_fails_is_a_notice(made: Made, tmp_path: Path) -> None:
    image = made.copy(tmp_path)
    with image.open("r+b") as file:
        file.seek(16384 + 4096)
        file.write(b"damage")
    damaged = image.read_bytes()
    with failing(0, errno.EIO, for_good=True):
        life = Life("1")
        facts = life.load(image)
        assert any("was not repaired" in words for words in facts.notices)
        assert life.unlock().authenticated
    assert image.read_bytes() == damaged
    assert "the damaged header copy was repaired from the good one" in Life("1").load(image).notices


def refusal_of(work: Callable[[], object]) -> str:
    try:
        work()
    except PlatformError as err:
        return err.message
    return ""


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_restore_that_fails_says_what_is_in_place(
    made: Made, tmp_path: Path, number: int
) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(made.image.read_bytes()[: 16 << 20])
    image = made.copy(tmp_path)
    life = Life("1")
    life.load(image)
    change(life)
    newer = image.read_bytes()

    def restore() -> calls.BackupWritten:
        with opened(image) as target, opened(backup) as source:
            return Life("1").ask(calls.RestoreHeader(target, None, source, force=True))

    with failing(-1, 0, for_good=False) as counted:
        restore()
    outcomes = []
    for at in range(counted.seen):
        image.write_bytes(newer)
        with failing(at, number, for_good=True):
            said = refusal_of(restore)
        outcomes.append("refused" if said else "made")
        assert not said or "run the restore again" in said
        assert said or opens(image, PASSPHRASE)
        restore()
        assert opens(image, PASSPHRASE)
    assert set(outcomes) == {"refused", "made"}


def test_a_sector_that_cannot_be_read_takes_one_keyslot_with_it(made: Made, tmp_path: Path) -> None:
    image = made.copy(tmp_path)
    bad = 32768 + 3 * 4096
    pread = os.pread

    def read(descriptor: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size and os.fstat(descriptor).st_size == image.stat().st_size:
            if offset == bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            size = bad - offset
        return pread(descriptor, size, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", read)
        life = Life("1")
        facts = life.load(image)
        assert facts.authentication == "damaged"
        assert f"4096 bytes at {bad} of the header cannot be read" in facts.notices
        unlocked = life.unlock(SECOND)
        assert (unlocked.keyslot, unlocked.read_only) == (2, True)
        backup = tmp_path / "backup"
        backup.touch()
        looking = Life("1")
        with opened(image) as disk:
            looking.ask(calls.LookAtDisk(disk, None))
        with opened(backup) as output:
            written = looking.ask(calls.BackupHeader(output))
        assert f"4096 bytes at {bad} of the header cannot be read" in written.notices
    expected = made.image.read_bytes()[: 16 << 20]
    assert backup.read_bytes() == expected[:bad] + bytes(4096) + expected[bad + 4096 :]

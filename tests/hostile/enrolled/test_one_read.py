# SPDX-License-Identifier: Apache-2.0
"""A disk that says something else when it is asked again deceives no reader.

One life of an enclave does all that reads a header; a second one restores a backup. What is used
of the header area is read at most once in each. A change compares the header once more before it
writes, and is refused where the disk says something else by then.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, Purpose, Sealed
from strongroom.errors import KeyslotStateError
from tests.conftest import require_fuse
from tests.hostile.boundary import evil
from tests.hostile.boundary.evil import CHEAP, PASSPHRASE, opened

from .scene import (
    ROOMY_OFFSET_BYTES,
    SECONDARY,
    Life,
    attempt,
    enrolled_enclave,
    living,
    new_volume,
    on_disk,
    rewritten,
    tree_of,
    ways_into,
)
from .two_faced import TwoFacedDisk, behind_pread, mounted

pytestmark = pytest.mark.hostile

ResultT = TypeVar("ResultT")

NEW: Final = b"a new passphrase"
FLAGS: Final = os.O_RDWR | os.O_DIRECT
"""No cache of the kernel's, which would hide second reads."""


class Host:
    """Asks an enclave, whichever way it is reached."""

    def __init__(self, enclave: Life | evil.Enclave) -> None:
        self._enclave = enclave

    def ask(self, request: Call[ResultT]) -> ResultT:
        if isinstance(self._enclave, Life):
            return self._enclave.ask(request)
        return self._enclave.call(request)

    def sealed(self, purpose: Purpose, data: bytes = PASSPHRASE) -> Sealed:
        return self._enclave.sealed(purpose, data)

    def look(self, image: int) -> None:
        """Read a header, and show it."""
        facts = self.ask(calls.LoadDisk(image, None, read_only=False))
        assert (facts.authentication, facts.epoch, facts.notices) == ("verified", 1, ())
        dumped = self.ask(calls.DumpHeader()).json
        assert '"iv_tweak":' in dumped.replace(" ", "")

    def back_up(self, backup: int) -> None:
        self.ask(calls.BackupHeader(backup))

    def change(self) -> list[int]:
        """Do all that changes a header, and return the epochs that were said."""
        existing: Purpose = "existing passphrase"
        added = self.ask(self._addition())
        new = self.sealed("new passphrase", NEW)
        changed = self.ask(calls.ChangeKeyslot(self.sealed(existing), new, CHEAP, None))
        removed = self.ask(calls.RemoveKeyslot(self.sealed(existing, NEW), 9))
        resealed = self.ask(calls.Reseal(self.sealed(existing, NEW), "signer", adopt=False))
        return [added.epoch, changed.epoch, removed.epoch, resealed.epoch]

    def check_refused(self) -> None:
        """See that no change begins."""
        with pytest.raises(KeyslotStateError, match="has changed since it was read"):
            self.ask(self._addition())
        removal = calls.RemoveKeyslot(self.sealed("existing passphrase"), 1)
        with pytest.raises(KeyslotStateError, match="has changed since it was read"):
            self.ask(removal)

    def unlock(self, passphrase: bytes) -> None:
        """Open the volume, with what was read at first."""
        unlocked = self.ask(calls.Unlock(self.sealed("unlock", passphrase), discard=False))
        assert unlocked.authenticated

    def _addition(self) -> calls.AddKeyslot:
        receiver = HpkeReceiver().public_key
        existing = self.sealed("existing passphrase")
        return calls.AddKeyslot(existing, None, (), CHEAP, 9, receiver)


def two_faced(image: bytes) -> TwoFacedDisk:
    """Make a disk whose other face is a forged header over spoilt key material."""
    tree = tree_of(image)
    tree["segments"]["0"]["iv_tweak"] = "8"
    forged = rewritten(image, tree)
    end = SECONDARY.stop
    spoilt = bytes(byte ^ 0xFF for byte in forged[end : end + (1 << 20)])
    return TwoFacedDisk(image, forged[:end] + spoilt + forged[end + len(spoilt) :])


def check_life(disk: TwoFacedDisk, host: Host, image: int, backup: int) -> None:
    """Use a disk that lies at the second read, and change it when it has stopped to."""
    before = bytes(disk.present)
    host.look(image)
    assert disk.second_reads == []
    assert disk.bytes_read() > SECONDARY.stop
    host.check_refused()
    assert disk.second_reads.count(0) == 2
    disk.read_as_written()
    assert host.change() == [2, 3, 4, 5]
    host.back_up(backup)
    host.unlock(NEW)
    # What the changes started from was the first face.
    tree, after = tree_of(before), tree_of(bytes(disk.present))
    assert after["segments"] == tree["segments"]
    assert after["keyslots"]["1"] == tree["keyslots"]["1"]


def test_in_this_process() -> None:
    volume = new_volume(data_offset_bytes=ROOMY_OFFSET_BYTES)
    disk = two_faced(volume.image)
    with behind_pread(disk) as image, on_disk(b"") as backup:
        with living(enrolled_enclave()) as life:
            check_life(disk, Host(life), image, backup)
        disk.forget()
        with living(enrolled_enclave()) as life:
            Host(life).ask(calls.RestoreHeader(image, None, backup, force=False))
        assert disk.second_reads == []
        with living(enrolled_enclave()) as life:
            disk.forget()
            assert life.load(image).epoch == 5
    way = ways_into(volume)[1]
    assert attempt(bytes(disk.present), way).refusal == ""


def test_unlocking_reads_once() -> None:
    volume = new_volume()
    disk = two_faced(volume.image)
    with behind_pread(disk) as image, on_disk(b"") as backup, living(enrolled_enclave()) as life:
        host = Host(life)
        host.look(image)
        host.back_up(backup)
        host.unlock(PASSPHRASE)
    assert disk.second_reads == []


def test_the_disk_is_two_faced() -> None:
    """A reader that reads twice would be deceived: the control of what is above and below."""
    volume = new_volume()
    disk = two_faced(volume.image)
    with behind_pread(disk) as image:
        for face in ("verified", "tampered"):
            with living(enrolled_enclave()) as life:
                assert life.load(image).authentication == face
    assert disk.second_reads


@contextlib.contextmanager
def running(log: Path) -> Iterator[evil.Enclave]:
    enclave = evil.Enclave(log)
    try:
        yield enclave
    finally:
        enclave.close()


def test_a_real_enclave(tmp_path: Path) -> None:
    require_fuse()
    with running(tmp_path / "maker") as enclave:
        evil.new_volume(enclave, tmp_path / "image", recovery_key_to=HpkeReceiver().public_key)
    image = (tmp_path / "image").read_bytes()
    disk = two_faced(image)
    (tmp_path / "backup").touch()
    with mounted(disk, tmp_path / "fuse") as path:
        check_mount(disk, path)
        with opened(tmp_path / "backup") as backup, opened(path, FLAGS) as descriptor:
            with running(tmp_path / "log") as enclave:
                check_life(disk, Host(enclave), descriptor, backup)
            disk.forget()
            with running(tmp_path / "log") as enclave:
                Host(enclave).ask(calls.RestoreHeader(descriptor, None, backup, force=False))
            assert disk.second_reads == []
    assert tree_of(bytes(disk.present))["segments"] == tree_of(image)["segments"]


def check_mount(disk: TwoFacedDisk, path: Path) -> None:
    """See that every read reaches the disk, the second one too."""
    with opened(path, FLAGS) as descriptor:
        first = os.pread(descriptor, 8192, 0)
        again = os.pread(descriptor, 8192, 0)
    assert first != again
    assert (disk.reads, disk.second_reads) == (2, [0])
    disk.forget()

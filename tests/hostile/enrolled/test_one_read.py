# SPDX-License-Identifier: Apache-2.0
"""A disk that says something else when it is asked again has nobody who asks again.

One life of an enclave does all that reads a header; a second one restores a backup. Each byte of
the header area is read at most once in each.
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

    def live(self, image: int, backup: int) -> list[int]:
        """Do all that there is to do with a header, and return the epochs that were said."""
        facts = self.ask(calls.LoadDisk(image, None, read_only=False))
        assert (facts.authentication, facts.notices) == ("verified", ())
        dumped = self.ask(calls.DumpHeader()).json
        assert '"iv_tweak":' in dumped.replace(" ", "")
        existing: Purpose = "existing passphrase"
        receiver = HpkeReceiver().public_key
        add = calls.AddKeyslot(self.sealed(existing), None, (), CHEAP, 9, receiver)
        added = self.ask(add)
        new = self.sealed("new passphrase", NEW)
        changed = self.ask(calls.ChangeKeyslot(self.sealed(existing), new, CHEAP, None))
        removed = self.ask(calls.RemoveKeyslot(self.sealed(existing, NEW), 9))
        resealed = self.ask(calls.Reseal(self.sealed(existing, NEW), "signer", adopt=False))
        self.ask(calls.BackupHeader(backup))
        unlocked = self.ask(calls.Unlock(self.sealed("unlock", NEW), discard=False))
        assert unlocked.authenticated
        return [facts.epoch, added.epoch, changed.epoch, removed.epoch, resealed.epoch]


def two_faced(image: bytes) -> TwoFacedDisk:
    """Make a disk whose other face is a forged header over spoilt key material."""
    tree = tree_of(image)
    tree["segments"]["0"]["iv_tweak"] = "8"
    forged = rewritten(image, tree)
    end = SECONDARY.stop
    spoilt = bytes(byte ^ 0xFF for byte in forged[end : end + (1 << 20)])
    return TwoFacedDisk(image, forged[:end] + spoilt + forged[end + len(spoilt) :])


def check_life(disk: TwoFacedDisk, epochs: list[int], image: bytes) -> None:
    assert disk.second_reads == []
    assert disk.bytes_read() > SECONDARY.stop
    assert epochs == [1, 2, 3, 4, 5]
    # What the changes started from was the first face.
    before, after = tree_of(image), tree_of(bytes(disk.present))
    assert after["segments"] == before["segments"]
    assert after["keyslots"]["1"] == before["keyslots"]["1"]


def test_in_this_process() -> None:
    volume = new_volume(data_offset_bytes=ROOMY_OFFSET_BYTES)
    disk = two_faced(volume.image)
    with behind_pread(disk) as image, on_disk(b"") as backup:
        with living(enrolled_enclave()) as life:
            check_life(disk, Host(life).live(image, backup), volume.image)
        disk.forget()
        with living(enrolled_enclave()) as life:
            Host(life).ask(calls.RestoreHeader(image, None, backup, force=False))
        assert disk.second_reads == []
        with living(enrolled_enclave()) as life:
            disk.forget()
            assert life.load(image).epoch == 5
    way = ways_into(volume)[1]
    assert attempt(bytes(disk.present), way).refusal == ""


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
                check_life(disk, Host(enclave).live(descriptor, backup), image)
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

# SPDX-License-Identifier: Apache-2.0
"""The state machine in this process: whole lives of volumes, and hosts that ask for nonsense."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, KdfParameters, Purpose, Sealed
from strongroom.boundary.channel import Received
from strongroom.boundary.schema import encode_message
from strongroom.boundary.sealed import BLANK, RECOVERY_INFO, request_digest
from strongroom.enclave.session import Session, Surroundings
from strongroom.errors import (
    BoundaryError,
    KeyslotStateError,
    LastWayInError,
    NoSpaceError,
    RollbackError,
    StrongroomError,
    WrongPassphraseError,
)
from strongroom.host.sealing import seal
from tests.honest import HonestClient, known_secret, revealed
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, PASSPHRASE, creation, opened
from tests.unit.boundary.generated import messages
from tests.unit.tee.scene import enclave

pytestmark = pytest.mark.unit

ResultT = TypeVar("ResultT")

SMALL_BYTES: Final = 17 << 20
SURROUNDINGS: Final = Surroundings((), "fd")
BOTH: Final[calls.Factors] = ("enclave", "passphrase")


class Enclave:
    """A session without a process around it."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.client = HonestClient()
        self.session = Session(
            SURROUNDINGS, enclave("session"), lambda stage, *_: self.stages.append(stage)
        )

    def ask(self, request: Call[ResultT]) -> ResultT:
        answer = self.session.answer(Received(self.client.bound(request), ()))
        self.client.notice(answer)
        encode_message(answer)
        assert isinstance(answer, request.result)
        return cast("ResultT", answer)

    def sealed(self, purpose: Purpose, data: bytes = PASSPHRASE) -> Sealed:
        key = self.ask(calls.NewRecipient(purpose)).public_key
        return self.client.sealed(key, purpose, data, NO_TERMS)

    def create(
        self, image: int, header: int | None = None, other: dict[str, object] | None = None
    ) -> calls.Created:
        fields: dict[str, object] = {"sector_size_bytes": 512, **(other or {})}
        return self.ask(creation(image, self.sealed("format"), header=header, **fields))

    def load(self, image: int, header: int | None = None) -> calls.DiskFacts:
        return self.ask(calls.LoadDisk(image, header, read_only=False))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """An empty disk of 17 MiB."""
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, SMALL_BYTES)
    with opened(path) as descriptor:
        yield descriptor


@pytest.fixture
def volume(image: int) -> int:
    """A disk with a volume."""
    Enclave().create(image)
    return image


def test_a_new_volume_is_what_was_asked_for(image: int) -> None:
    made = Enclave().create(image)
    enclave = Enclave()
    facts = enclave.load(image)

    assert (facts.uuid, facts.label, facts.key_bits) == (made.uuid, "a label", 512)
    assert facts.data_size_bytes == made.data_size_bytes == 1 << 20
    assert enclave.ask(calls.Unlock(enclave.sealed("unlock"), discard=False)).keyslot == 0
    assert enclave.ask(calls.ReadCounters()).reads == 0
    assert enclave.ask(calls.Shutdown()) == calls.Done()
    assert enclave.session.ended
    assert enclave.stages


def test_a_recovery_key_opens_its_keyslot(image: int) -> None:
    client = HpkeReceiver()
    made = Enclave().create(image, other={"recovery_key_to": client.public_key})
    assert made.recovery_keyslot == 1
    assert made.recovery_key is not None
    recovery_key = client.open(
        made.recovery_key.encapsulated_key,
        made.recovery_key.ciphertext,
        info=RECOVERY_INFO,
        aad=client.public_key,
    )
    enclave = Enclave()
    assert [slot.kind for slot in enclave.load(image).keyslots] == ["passphrase", "recovery"]
    recipient = enclave.ask(calls.NewRecipient("unlock")).public_key
    terms = dataclasses.replace(NO_TERMS, volume=made.uuid)
    sealed = seal(recovery_key, recipient, "unlock", terms)
    assert enclave.ask(calls.Unlock(sealed, discard=False)).keyslot == 1


def test_a_recovery_key_is_not_turned_into_a_passphrase(image: int) -> None:
    """That would lose the way back, and the factor enclave with it."""
    client = HpkeReceiver()
    made = Enclave().create(image, other={"recovery_key_to": client.public_key})
    recovery_key = revealed(client, made.recovery_key)
    enclave = Enclave()
    enclave.load(image)
    before = os.pread(image, 16 << 20, 0)
    for keyslot in (None, 1):
        existing = enclave.sealed("existing passphrase", recovery_key)
        new = enclave.sealed("new passphrase", b"new")
        with pytest.raises(KeyslotStateError, match="keyslot 1 is for a recovery key"):
            enclave.ask(calls.ChangeKeyslot(existing, new, CHEAP, keyslot))
    assert os.pread(image, 16 << 20, 0) == before


def test_a_detached_header_leaves_all_of_the_image_to_data(image: int, tmp_path: Path) -> None:
    path = tmp_path / "header"
    path.touch()
    os.truncate(path, 16 << 20)
    with opened(path) as header:
        assert Enclave().create(image, header).data_offset_bytes == 0
        enclave = Enclave()
        assert enclave.load(image, header).data_size_bytes == SMALL_BYTES
    assert os.pread(image, 4096, 0) == bytes(4096)
    with pytest.raises(StrongroomError):
        Enclave().load(image)


def test_keyslots_are_added_changed_and_removed_in_one_life(volume: int) -> None:
    enclave = Enclave()
    enclave.load(volume)
    add = calls.AddKeyslot(
        enclave.sealed("existing passphrase"),
        enclave.sealed("new passphrase", b"second"),
        BOTH,
        CHEAP,
        None,
        None,
    )
    assert enclave.ask(add).keyslot.number == 1
    change = calls.ChangeKeyslot(
        enclave.sealed("existing passphrase", b"second"),
        enclave.sealed("new passphrase", b"third"),
        CHEAP,
        None,
    )
    assert enclave.ask(change).keyslot.number == 1
    recovery = calls.AddKeyslot(
        enclave.sealed("existing passphrase", b"third"),
        None,
        (),
        CHEAP,
        7,
        HpkeReceiver().public_key,
    )
    assert enclave.ask(recovery).keyslot.kind == "recovery"
    with pytest.raises(WrongPassphraseError, match="no keyslot opens"):
        enclave.ask(calls.RemoveKeyslot(enclave.sealed("existing passphrase", b"wrong"), 0))
    with pytest.raises(WrongPassphraseError, match="opens keyslot 0, which is the one to go"):
        enclave.ask(calls.RemoveKeyslot(enclave.sealed("existing passphrase"), 0))
    enclave.ask(calls.RemoveKeyslot(enclave.sealed("existing passphrase", b"third"), 0))

    reader = Enclave()
    assert [slot.number for slot in reader.load(volume).keyslots] == [1, 7]
    unlocked = reader.ask(calls.Unlock(reader.sealed("unlock", b"third"), discard=False))
    assert unlocked.keyslot == 1


def test_a_way_in_is_proven_for_one_change_only(volume: int) -> None:
    enclave = Enclave()
    enclave.load(volume)

    def prove(keyslot: int | None) -> calls.Sealed:
        order = calls.ChangeKeyslot(BLANK, BLANK, CHEAP, keyslot)
        terms = calls.Terms(volume=enclave.client.volume, request=request_digest(order))
        key = enclave.ask(calls.NewRecipient("existing passphrase")).public_key
        sealed = seal(known_secret(PASSPHRASE), key, "existing passphrase", terms)
        enclave.ask(calls.ProveWayIn(sealed, keyslot))
        return sealed

    sealed = prove(None)
    other = calls.ChangeKeyslot(
        sealed, enclave.sealed("new passphrase", b"second"), CHEAP, keyslot=0
    )
    with pytest.raises(BoundaryError, match="another request"):
        enclave.ask(other)
    # Used up, whatever became of it.
    with pytest.raises(BoundaryError, match="not waiting"):
        enclave.ask(other)
    sealed = prove(0)
    changed = dataclasses.replace(other, existing=sealed)
    assert enclave.ask(changed).keyslot.number == 0


def test_the_last_way_in_stays(volume: int) -> None:
    enclave = Enclave()
    enclave.load(volume)
    with pytest.raises(LastWayInError):
        enclave.ask(calls.RemoveKeyslot(enclave.sealed("existing passphrase"), 0))
    with pytest.raises(KeyslotStateError):
        enclave.ask(calls.RemoveKeyslot(enclave.sealed("existing passphrase"), 5))


def test_a_backup_comes_back_and_an_old_one_does_not(volume: int, tmp_path: Path) -> None:
    enclave = Enclave()
    enclave.load(volume)
    (tmp_path / "backup").touch()
    with opened(tmp_path / "backup") as backup:
        written = enclave.ask(calls.BackupHeader(backup))
        assert written.size_bytes == os.fstat(backup).st_size
        assert Enclave().ask(calls.RestoreHeader(volume, None, backup, force=False)) == written
        add = calls.AddKeyslot(
            enclave.sealed("existing passphrase"),
            enclave.sealed("new passphrase", b"second"),
            BOTH,
            CHEAP,
            None,
            None,
        )
        enclave.ask(add)
        with pytest.raises(RollbackError):
            Enclave().ask(calls.RestoreHeader(volume, None, backup, force=False))
        assert Enclave().ask(calls.RestoreHeader(volume, None, backup, force=True)) == written


@pytest.mark.parametrize("new", [None, Sealed(bytes(32), NO_TERMS, bytes(32), bytes(17))])
def test_a_keyslot_is_for_a_passphrase_or_a_recovery_key(volume: int, new: Sealed | None) -> None:
    enclave = Enclave()
    enclave.load(volume)
    with pytest.raises(BoundaryError, match="or for a recovery key"):
        enclave.ask(
            calls.AddKeyslot(
                enclave.sealed("existing passphrase"),
                new,
                BOTH,
                CHEAP,
                None,
                None if new is None else bytes(32),
            )
        )


@pytest.mark.parametrize(
    "other",
    [
        {"key_bits": 0},
        {"key_bits": 8},
        {"key_bits": 128},
        {"key_bits": 511},
        {"sector_size_bytes": 513},
        {"sector_size_bytes": 3072},
        {"label": "a\0b"},
        {"recovery_key_to": bytes(32)},
        {"kdf": KdfParameters("argon2id", "sha256", 8, 1, 16)},
        {"kdf": KdfParameters("pbkdf2", "sha256", None, 2**32 - 1, None)},
        {"kdf": KdfParameters("argon2id", "sha256", 4 * 1024 * 1024, 2**32 - 1, 1)},
    ],
    ids=str,
)
def test_a_host_that_asks_for_a_bad_volume_gets_none(image: int, other: dict[str, object]) -> None:
    with pytest.raises(StrongroomError):
        Enclave().create(image, other=other)
    assert os.pread(image, 1 << 20, 0) == bytes(1 << 20)


@pytest.mark.parametrize("size", [0, 4096, 16 << 20, (16 << 20) + 511])
def test_a_target_without_room_is_refused(image: int, size: int) -> None:
    os.ftruncate(image, size)
    with pytest.raises(NoSpaceError):
        Enclave().create(image)


def test_erasing_ends_a_session_twice(volume: int) -> None:
    enclave = Enclave()
    enclave.load(volume)
    enclave.ask(calls.Unlock(enclave.sealed("unlock"), discard=False))
    enclave.session.erase()
    enclave.session.erase()
    assert enclave.session.ended
    with pytest.raises(BoundaryError, match="keys are erased"):
        enclave.ask(calls.ReadCounters())


HARMLESS: Final = tuple(
    kind for kind in calls.ECALLS if kind not in {calls.RunSelftest, calls.CreateVolume}
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(HARMLESS).flatmap(messages), min_size=1, max_size=5))
def test_nothing_but_our_errors_leaves_a_session(volume: int, requests: list[object]) -> None:
    enclave = Enclave()
    for request in requests:
        assert isinstance(request, Call)
        replaced = {
            field.name: volume
            for field in dataclasses.fields(request)  # type: ignore[arg-type]  # every call is one
            if field.name in {"image", "header", "direct", "backup", "listener"}
        }
        if isinstance(request, calls.BackupHeader):
            continue
        with contextlib.suppress(StrongroomError):
            enclave.ask(dataclasses.replace(request, **replaced))  # type: ignore[type-var]  # the same
    enclave.session.erase()

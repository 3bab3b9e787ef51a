# SPDX-License-Identifier: Apache-2.0
"""What a host can do between two enclaves: carry a handover, once, to the one that it is for."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import pytest

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary import calls
from strongroom.boundary.calls import Handover, HandoverSlot, Terms
from strongroom.boundary.sealed import HANDOVER_INFO
from strongroom.errors import (
    BoundaryError,
    HeaderTamperedError,
    IdentityError,
    ReportError,
    SealedBlobError,
    StrongroomError,
    WrongPassphraseError,
)
from strongroom.luks2 import JsonValue, canonical_json
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, Enclave, new_volume
from tests.hostile.enrolled.scene import both_resummed

pytestmark = pytest.mark.hostile

Start = Callable[[], Enclave]

HEADER_BYTES: Final = 32768
SECOND: Final = b"second passphrase"
KDF: Final = b'{"hash":"sha256","iterations":1000,"salt":"AAAA","type":"pbkdf2"}'


def add_second(enclave: Enclave) -> int:
    """Add a sealed keyslot, and return the header's epoch."""
    return enclave.call(
        calls.AddKeyslot(
            existing=enclave.sealed("existing passphrase"),
            new=enclave.sealed("new passphrase", SECOND),
            factors=("enclave", "passphrase"),
            kdf=CHEAP,
            keyslot=None,
            recovery_key_to=None,
        )
    ).epoch


def measurement(enclave: Enclave) -> bytes:
    return enclave.call(calls.Describe()).identity.measurement


def hand_over(old: Enclave, successor: calls.Successor, terms: Terms = NO_TERMS) -> Handover:
    existing = old.sealed("existing passphrase", terms=terms)
    return old.call(calls.HandOver(existing, successor, "signer"))


def handed(old: Enclave, new: Enclave) -> Handover:
    """Return a handover from one enclave to the next, as an honest host gets it."""
    return hand_over(old, new.call(calls.BecomeSuccessor()), Terms(next_enclave=measurement(new)))


def take_over(new: Enclave, handover: Handover) -> calls.Resealed:
    return new.call(calls.TakeOver(handover))


@pytest.fixture
def old(start: Start, image: Path) -> Enclave:
    """The enclave that the volume is sealed to, with two sealed keyslots."""
    enclave = start()
    enclave.load(image)
    assert add_second(enclave) == 2
    return enclave


@pytest.fixture
def new(start: Start, old: Enclave, image: Path) -> Enclave:
    """The next one, which has read the header as it is now."""
    assert old.is_alive()
    enclave = start()
    assert enclave.load(image).epoch == 2
    return enclave


def check_takes(old: Enclave, new: Enclave, start: Start, image: Path) -> None:
    """Check that an honest host has its way, so that what was refused was refused for a reason."""
    assert take_over(new, handed(old, new)).epoch == 3
    reader = start()
    assert reader.load(image).authentication == "verified"
    with pytest.raises(WrongPassphraseError):
        reader.unlock(b"wrong")
    unlocked = reader.unlock(SECOND)
    assert (unlocked.keyslot, unlocked.epoch) == (1, 3)


def refused_and_unchanged(
    error: type[StrongroomError], new: Enclave, handover: Handover, image: Path
) -> None:
    before = image.read_bytes()
    with pytest.raises(error) as refused:
        take_over(new, handover)
    assert type(refused.value) is error
    assert image.read_bytes() == before
    with pytest.raises(BoundaryError, match="nobody's successor"):
        take_over(new, handover)
    assert new.is_alive()


# --- to whom --------------------------------------------------------------------------------------


def test_a_report_of_something_else_gets_nothing(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    """All that an enclave vouches for without being asked who comes next."""
    genuine = new.call(calls.BecomeSuccessor())
    recipient = new.call(calls.NewRecipient("existing passphrase"))
    host_key = _core.HpkeReceiver().public_key
    for forged in (
        calls.Successor(host_key, genuine.report),
        calls.Successor(host_key, new.call(calls.ProveIdentity(host_key)).report),
        calls.Successor(genuine.public_key, new.call(calls.BecomeSuccessor()).report),
        calls.Successor(host_key, genuine.report[:-1] + bytes([genuine.report[-1] ^ 1])),
        calls.Successor(genuine.public_key, b""),
        calls.Successor(bytes(32), genuine.report),
        calls.Successor(recipient.public_key, recipient.report),
    ):
        with pytest.raises(ReportError):
            hand_over(old, forged)
    # A report says what its key is for.
    assert recipient.report != genuine.report
    check_takes(old, new, start, image)


def test_an_enclave_of_another_machine_gets_nothing(old: Enclave, tmp_path: Path) -> None:
    other = Enclave(tmp_path / "other.log", tmp_path / "other state")
    try:
        with pytest.raises(ReportError, match="not of this machine"):
            hand_over(old, other.call(calls.BecomeSuccessor()))
    finally:
        other.close()


def test_the_operator_says_which_enclave_comes_next(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    successor = new.call(calls.BecomeSuccessor())
    with pytest.raises(IdentityError, match="agreed to"):
        hand_over(old, successor, Terms(next_enclave=bytes(32)))
    sealed = old.sealed("existing passphrase", terms=Terms(next_enclave=bytes(32)))
    for named in (None, measurement(new)):
        terms = dataclasses.replace(sealed.terms, next_enclave=named)
        changed = dataclasses.replace(sealed, terms=terms)
        with pytest.raises(BoundaryError):
            old.call(calls.HandOver(changed, successor, "signer"))
    check_takes(old, new, start, image)


def test_a_passphrase_for_another_purpose_hands_nothing_over(old: Enclave) -> None:
    successor = old.call(calls.BecomeSuccessor())
    for purpose in get_args(calls.Purpose):
        if purpose != "existing passphrase":
            with pytest.raises(BoundaryError, match="was used for existing passphrase"):
                old.call(calls.HandOver(old.sealed(purpose), successor, "signer"))
    assert hand_over(old, successor).slots


# --- once, and to no other ------------------------------------------------------------------------


def test_a_handover_is_for_one_enclave_once(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    handover = handed(old, new)
    other = start()
    other.load(image)
    with pytest.raises(BoundaryError, match="nobody's successor"):
        take_over(other, handover)
    other.call(calls.BecomeSuccessor())
    refused_and_unchanged(BoundaryError, other, handover, image)
    assert take_over(new, handover).epoch == 3
    with pytest.raises(BoundaryError, match="nobody's successor"):
        take_over(new, handover)
    new.call(calls.BecomeSuccessor())
    refused_and_unchanged(BoundaryError, new, handover, image)


def test_asking_again_forgets_the_key_before(old: Enclave, new: Enclave, image: Path) -> None:
    handover = handed(old, new)
    new.call(calls.BecomeSuccessor())
    refused_and_unchanged(BoundaryError, new, handover, image)


def test_a_handover_is_of_one_epoch(old: Enclave, new: Enclave, start: Start, image: Path) -> None:
    """Of the header as it was when it was handed over, and of no older or newer one."""
    older = Path(shutil.copy(image, image.with_name("older")))
    late = start()
    offered = late.call(calls.BecomeSuccessor())
    early = hand_over(old, offered)
    old.call(calls.RemoveKeyslot(old.sealed("existing passphrase"), 1))
    late.load(image)
    refused_and_unchanged(SealedBlobError, late, early, image)

    put_back = start()
    put_back.load(older)
    refused_and_unchanged(SealedBlobError, put_back, handed(old, put_back), older)
    # This one read the header before the change, and would write over it.
    refused_and_unchanged(SealedBlobError, new, handed(old, new), image)


def test_a_handover_is_of_one_volume(old: Enclave, start: Start, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    maker, new = start(), start()
    new_volume(maker, elsewhere)
    owner = start()
    owner.load(elsewhere)
    assert add_second(owner) == 2
    new.load(elsewhere)
    refused_and_unchanged(SealedBlobError, new, handed(old, new), elsewhere)
    check_takes(owner, new, start, elsewhere)


# --- as it was ------------------------------------------------------------------------------------


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def spoiled(handover: Handover) -> list[tuple[type[StrongroomError], Handover]]:
    """Return a handover with one thing changed, and what is said of it, in every way."""
    one, two = handover.slots
    places = (0, 1, 33, -17, -1)
    of_slots: list[tuple[type[StrongroomError], tuple[HandoverSlot, ...]]] = [
        (BoundaryError, ()),
        (BoundaryError, (one,)),
        (BoundaryError, (one, two, two)),
        (BoundaryError, (one, dataclasses.replace(two, keyslot=5))),
        (BoundaryError, (one, two, dataclasses.replace(two, keyslot=5))),
        (
            SealedBlobError,
            (dataclasses.replace(one, keyslot=1), dataclasses.replace(two, keyslot=0)),
        ),
        (SealedBlobError, (dataclasses.replace(one, share=two.share), two)),
        (SealedBlobError, (one, dataclasses.replace(two, parameters=one.parameters))),
        (SealedBlobError, (dataclasses.replace(one, share=handover.header_key), two)),
        *(
            (SealedBlobError, (one, dataclasses.replace(two, share=flipped(two.share, at))))
            for at in places
        ),
        *(
            (
                SealedBlobError,
                (dataclasses.replace(one, parameters=flipped(one.parameters, at)), two),
            )
            for at in places
        ),
    ]
    return [
        *((error, dataclasses.replace(handover, slots=slots)) for error, slots in of_slots),
        (SealedBlobError, dataclasses.replace(handover, header_key=one.share)),
        (SealedBlobError, dataclasses.replace(handover, policy="measurement")),
        *(
            (
                SealedBlobError,
                dataclasses.replace(handover, header_key=flipped(handover.header_key, at)),
            )
            for at in places
        ),
        *(
            (
                BoundaryError,
                dataclasses.replace(handover, ciphertext=flipped(handover.ciphertext, at)),
            )
            for at in (0, 31, -1)
        ),
        *(
            (
                BoundaryError,
                dataclasses.replace(
                    handover, encapsulated_key=flipped(handover.encapsulated_key, at)
                ),
            )
            for at in (0, 15, 30)
        ),
        (BoundaryError, dataclasses.replace(handover, encapsulated_key=bytes(32))),
    ]


def test_a_handover_that_was_changed_is_refused(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    ways = len(spoiled(handed(old, new)))
    assert ways > 30
    for way in range(ways):
        error, handover = spoiled(handed(old, new))[way]
        refused_and_unchanged(error, new, handover, image)
    check_takes(old, new, start, image)


def test_parts_of_two_handovers_do_not_mix(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    """Of the same volume, epoch, keyslots and enclaves."""
    for part in ("header_key", "slots"):
        kept = getattr(handed(old, new), part)
        mixed = dataclasses.replace(handed(old, new), **{part: kept})
        refused_and_unchanged(SealedBlobError, new, mixed, image)
    check_takes(old, new, start, image)


def forged(successor: calls.Successor, uuid: str, epoch: int, header_key: Secret) -> Handover:
    """Return a handover of the host's own making: anybody can encrypt to the next enclave."""
    transport = Secret.random(32)

    def bound(keyslot: int | None) -> bytes:
        known: dict[str, JsonValue] = {
            "epoch": epoch,
            "keyslot": keyslot,
            "policy": "signer",
            "uuid": uuid,
        }
        return canonical_json(known | {"policy": "signer"})

    slots = tuple(
        HandoverSlot(
            number,
            _core.seal_secret(Secret.random(32), transport, aad=bound(number)),
            _core.seal_parameters(KDF, transport, aad=bound(number)),
        )
        for number in (0, 1)
    )
    sealed_key = _core.seal_secret(header_key, transport, aad=bound(None))
    key = successor.public_key
    sent = transport.seal_to(key, info=HANDOVER_INFO, aad=key)
    return Handover(*sent, "signer", sealed_key, slots)


def test_a_host_that_guesses_keys_seals_nothing(
    old: Enclave, new: Enclave, start: Start, image: Path
) -> None:
    """It knows all but the header key, which is derived from the volume key."""
    reader = start()
    uuid = reader.load(image).uuid
    for _ in range(3):
        successor = new.call(calls.BecomeSuccessor())
        handover = forged(successor, uuid, 2, Secret.random(32))
        refused_and_unchanged(HeaderTamperedError, new, handover, image)
    successor = new.call(calls.BecomeSuccessor())
    refused_and_unchanged(
        SealedBlobError, new, forged(successor, uuid, 3, Secret.random(32)), image
    )
    check_takes(old, new, start, image)


def flip(image: Path, offset: int) -> None:
    """Flip one bit of a byte."""
    with image.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_only_the_header_that_was_handed_over_is_sealed(
    old: Enclave, start: Start, image: Path
) -> None:
    """The host changes the label in between, with right checksums."""
    new = start()
    header = image.read_bytes()[:HEADER_BYTES]
    handover = handed(old, new)
    label = header.replace(b"a label", b"a lapel")
    assert label != header
    with image.open("r+b") as file:
        file.write(both_resummed(label))
    assert new.load(image).authentication == "changed"
    refused_and_unchanged(HeaderTamperedError, new, handover, image)


def test_a_handover_makes_no_damage_authentic(old: Enclave, start: Start, image: Path) -> None:
    """The host changes a byte of key material in between, and puts it back later."""
    new = start()
    handover = handed(old, new)
    flip(image, HEADER_BYTES + 100)
    assert new.load(image).authentication == "damaged"
    assert take_over(new, handover).epoch == 3
    reader = start()
    assert reader.load(image).authentication == "damaged"
    with pytest.raises(HeaderTamperedError, match="keyslot 0 is damaged"):
        reader.unlock()
    flip(image, HEADER_BYTES + 100)
    reader = start()
    assert reader.load(image).authentication == "verified"
    assert reader.unlock().keyslot == 0

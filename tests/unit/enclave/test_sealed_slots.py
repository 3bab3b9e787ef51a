# SPDX-License-Identifier: Apache-2.0
"""What a keyslot keeps sealed opens in its place, in its enclave, and nowhere else."""

import dataclasses
from typing import Final

import pytest

from strongroom._core import Secret
from strongroom.enclave.factors import SHARE_BYTES, Place, slot_passphrase
from strongroom.enclave.sealed_slots import (
    UnsealedSlot,
    seal_key_for,
    seal_slot,
    sealing_of,
    unseal_slot,
)
from strongroom.errors import EnclaveFactorError, SealedBlobError, SecurityVersionError
from strongroom.luks2 import Argon2, SealedSlot, Sealing
from strongroom.tee.identity import SealPolicy
from strongroom.tee.process.provider import ProcessTee
from tests.unit.tee.scene import enclave

PLACE: Final = Place("12345678-9abc-4def-8123-456789abcdef", 3)
KDF: Final = Argon2(variant="argon2id", iterations=4, memory_kib=64, lanes=2, salt=bytes(range(32)))
OTHERS: Final = {
    "signer": enclave(signer="other"),
    "product": enclave(product_id=2),
    "debug": enclave(debug=True),
}


def sealed_by(tee: ProcessTee, policy: SealPolicy = "signer") -> tuple[Sealing, SealedSlot]:
    """Seal one keyslot, for a passphrase, to an enclave."""
    sealing = sealing_of(tee, policy, PLACE.volume_uuid)
    slot = seal_slot(
        seal_key_for(tee, sealing, PLACE.volume_uuid),
        sealing,
        PLACE,
        factors=("enclave", "passphrase"),
        sealed=Secret.random(SHARE_BYTES),
        kdf=KDF,
    )
    return sealing, slot


def opened_by(tee: ProcessTee, sealing: Sealing, slot: SealedSlot) -> UnsealedSlot:
    """Unseal a keyslot in an enclave."""
    return unseal_slot(seal_key_for(tee, sealing, PLACE.volume_uuid), sealing, PLACE, slot)


def test_it_opens_in_the_enclave_that_sealed_it() -> None:
    sealing, slot = sealed_by(enclave())
    first, second = (opened_by(enclave(), sealing, slot) for _ in range(2))

    assert first.kdf == KDF
    assert first.sealed.length_bytes == first.share.length_bytes == 32
    assert first.share.equals(second.share)
    assert not first.share.equals(first.sealed)


def test_two_keyslots_have_nothing_in_common() -> None:
    sealing, slot = sealed_by(enclave())
    _, other = sealed_by(enclave())

    assert slot.share != other.share
    assert slot.parameters != other.parameters
    first, second = opened_by(enclave(), sealing, slot), opened_by(enclave(), sealing, other)
    assert not first.share.equals(second.share)


@pytest.mark.parametrize("name", OTHERS)
def test_another_enclave_is_refused_by_its_name(name: str) -> None:
    sealing, slot = sealed_by(enclave())

    with pytest.raises(EnclaveFactorError, match=f"the enclave factor failed: sealed to {name}"):
        opened_by(OTHERS[name], sealing, slot)


@pytest.mark.parametrize("name", OTHERS)
def test_a_changed_name_does_not_help(name: str) -> None:
    """The comparison finds the reason; what refuses is the key."""
    sealing, slot = sealed_by(enclave())
    claimed = sealing_of(OTHERS[name], "signer", PLACE.volume_uuid)

    with pytest.raises(SealedBlobError):
        opened_by(OTHERS[name], claimed, slot)
    with pytest.raises(EnclaveFactorError):
        opened_by(enclave(), claimed, slot)
    assert sealing != claimed


@pytest.mark.parametrize("policy", ["signer", "measurement"])
def test_another_machine_has_another_key(policy: SealPolicy) -> None:
    sealing, slot = sealed_by(enclave(), policy)
    other = enclave(root=bytes(32))

    with pytest.raises(EnclaveFactorError, match="of another state directory"):
        opened_by(other, sealing, slot)
    claimed = dataclasses.replace(
        sealing, key_id=sealing_of(other, policy, PLACE.volume_uuid).key_id
    )
    with pytest.raises(SealedBlobError):
        opened_by(other, claimed, slot)


@pytest.mark.parametrize(
    ("policy", "opens"), [("signer", True), ("measurement", False)], ids=["signer", "measurement"]
)
def test_another_measurement(policy: SealPolicy, opens: bool) -> None:  # noqa: FBT001
    sealing, slot = sealed_by(enclave("one"), policy)

    if opens:
        assert opened_by(enclave("two"), sealing, slot).kdf == KDF
    else:
        with pytest.raises(EnclaveFactorError, match="sealed to measurement"):
            opened_by(enclave("two"), sealing, slot)


@pytest.mark.parametrize("policy", ["signer", "measurement"])
def test_a_downgrade_is_refused(policy: SealPolicy) -> None:
    sealing, slot = sealed_by(enclave(security_version=2), policy)

    with pytest.raises(SecurityVersionError, match=r"version 2.* version 1"):
        opened_by(enclave(security_version=1), sealing, slot)


def test_an_upgrade_opens_what_its_signer_sealed_before() -> None:
    sealing, slot = sealed_by(enclave("one", security_version=1))

    assert opened_by(enclave("two", security_version=2), sealing, slot).kdf == KDF


def test_a_lowered_version_in_the_token_does_not_help_a_downgrade() -> None:
    sealing, slot = sealed_by(enclave(security_version=2))
    older = enclave(security_version=1)
    key_id = sealing_of(older, "signer", PLACE.volume_uuid).key_id
    lowered = dataclasses.replace(sealing, security_version=1, key_id=key_id)

    with pytest.raises(SealedBlobError):
        opened_by(older, lowered, slot)


@pytest.mark.parametrize(
    "place", [Place(PLACE.volume_uuid, 4), Place("02345678-9abc-4def-8123-456789abcdef", 3)]
)
def test_it_cannot_be_moved(place: Place) -> None:
    sealing, slot = sealed_by(enclave())

    with pytest.raises(SealedBlobError):
        unseal_slot(seal_key_for(enclave(), sealing, PLACE.volume_uuid), sealing, place, slot)


def test_a_factor_cannot_be_dropped() -> None:
    sealing, slot = sealed_by(enclave())

    with pytest.raises(SealedBlobError):
        opened_by(enclave(), sealing, dataclasses.replace(slot, factors=("enclave",)))


def test_every_bit_of_the_blobs_counts() -> None:
    sealing, slot = sealed_by(enclave())
    key = seal_key_for(enclave(), sealing, PLACE.volume_uuid)
    for name in ("share", "parameters"):
        blob: bytes = getattr(slot, name)
        for bit in range(8 * len(blob)):
            changed = bytearray(blob)
            changed[bit // 8] ^= 1 << bit % 8
            blobs = {"share": slot.share, "parameters": slot.parameters, name: bytes(changed)}
            forged = SealedSlot(slot.factors, blobs["share"], blobs["parameters"])
            with pytest.raises(SealedBlobError):
                unseal_slot(key, sealing, PLACE, forged)


def test_the_two_blobs_do_not_stand_for_each_other() -> None:
    sealing, slot = sealed_by(enclave())

    with pytest.raises(SealedBlobError):
        opened_by(enclave(), sealing, dataclasses.replace(slot, parameters=slot.share))


def test_without_the_enclave_s_share_the_passphrase_is_another() -> None:
    sealing, slot = sealed_by(enclave())
    passphrase = Secret.random(32)
    share = opened_by(enclave(), sealing, slot).share

    both = slot_passphrase({"enclave": share, "passphrase": passphrase}, PLACE)
    alone = slot_passphrase({"passphrase": passphrase}, PLACE)
    assert both.length_bytes == alone.length_bytes == 44
    assert not both.equals(alone)

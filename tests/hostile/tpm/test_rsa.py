# SPDX-License-Identifier: Apache-2.0
"""A TPM whose keys are RSA: forged public keys, and salts that are not those that were sent."""

from collections.abc import Callable
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom import _core
from strongroom.errors import TpmChangedError, TpmError, TpmTamperedError
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Device,
    KeyKind,
    Objects,
    PublicArea,
    Sessions,
    endorsement_template,
    storage_root_template,
)
from strongroom.tpm.algorithms import Algorithm
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.enrolment import STORAGE_ROOT_HANDLE, Enrolment, connected, enrol
from strongroom.tpm.marshal import sized, u16, u32
from tests.honest import known_secret
from tests.hostile.tpm.liar import flipped
from tests.hostile.tpm.operations import AUTH

pytestmark = pytest.mark.hostile

Transmit = Callable[[bytes], bytes]

TEMPLATE: Final = endorsement_template(KeyKind.RSA2048)
MODULUS_BYTES: Final = 256
MODULUS: Final = b"\xc1" * MODULUS_BYTES
SALT_PLACE: Final = 10 + 8 + 2 + 32 + 2
"""Behind the header, two handles, our nonce, and the sizes of nonce and salt."""


def code_of(command: bytes) -> int:
    return int.from_bytes(command[6:10], "big")


def storage_key(unique: bytes, *, bits: int = 2048, exponent: int = 0) -> PublicArea:
    """An RSA key that is a storage root key in all else."""
    like = storage_root_template().wire
    return PublicArea(
        u16(Algorithm.RSA)
        + like[2:8]
        + sized(b"")
        + u16(Algorithm.AES)
        + u16(128)
        + u16(Algorithm.CFB)
        + u16(Algorithm.NULL)
        + u16(bits)
        + u32(exponent)
        + sized(unique)
    )


FORGED: Final = {
    "1024 bits": storage_key(MODULUS[:128], bits=1024),
    "3 as exponent": storage_key(MODULUS, exponent=3),
    "too short": storage_key(MODULUS[1:]),
    "too long": storage_key(b"\0" + MODULUS),
    "top bit clear": storage_key(flipped(MODULUS, 0)),
    "empty": storage_key(b""),
    "zero": storage_key(bytes(MODULUS_BYTES)),
}
EVEN: Final = storage_key(flipped(MODULUS, 8 * MODULUS_BYTES - 1))


@pytest.mark.parametrize("public", FORGED.values(), ids=FORGED)
def test_a_key_that_is_none_is_neither_described_nor_salted_to(public: PublicArea) -> None:
    with pytest.raises(TpmTamperedError):
        public.key()
    with pytest.raises(TpmTamperedError):
        _core.TpmOpening("hmac", public.wire, 256)


def test_an_even_modulus_is_not_salted_to() -> None:
    assert _core.TpmOpening("hmac", storage_key(MODULUS).wire, 256).encrypted_salt
    with pytest.raises(TpmTamperedError, match="modulus"):
        _core.TpmOpening("hmac", EVEN.wire, 256)


def claiming(relay: Relay, forge: Callable[[bytes], bytes]) -> Transmit:
    """Say of the endorsement key that it has another modulus."""
    with claimed_primary(relay.transmit, ENDORSEMENT, TEMPLATE) as key:
        genuine = key.public.wire[-MODULUS_BYTES:]
    return lambda command: relay.transmit(command).replace(genuine, forge(genuine))


def test_nothing_is_sent_to_a_modulus_that_is_none(relay: Relay) -> None:
    carry = claiming(relay, lambda modulus: flipped(modulus, 0))
    with (
        claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key,
        Sessions(carry, key) as road,
        pytest.raises(TpmTamperedError, match="modulus"),
    ):
        Device(road).random(16)


def test_another_modulus_opens_no_session(relay: Relay) -> None:
    """Its owner learns the salt; the TPM, to which it goes on, does not."""
    theirs = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    carry = claiming(relay, lambda _: theirs.to_bytes(MODULUS_BYTES, "big"))
    with (
        claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key,
        Sessions(carry, key) as road,
        pytest.raises(TpmError),
    ):
        Device(road).random(16)


@pytest.fixture
def enrolment(relay: Relay) -> Enrolment:
    """Of a TPM whose owner has an RSA storage root key."""
    keep_as_root(relay, b"")
    enrolment = enrol(relay.transmit, known_secret(AUTH)).enrolment
    assert enrolment.storage_root.public.key().kind is KeyKind.RSA2048
    return enrolment


def keep_as_root(relay: Relay, unique: bytes) -> None:
    objects = Objects(Unprotected(relay.transmit))
    with objects.primary(OWNER, storage_key(unique)) as made:
        objects.keep(made, STORAGE_ROOT_HANDLE)


def test_another_key_under_the_handle_is_not_salted_to(relay: Relay, enrolment: Enrolment) -> None:
    Objects(Unprotected(relay.transmit)).forget(enrolment.storage_root)
    keep_as_root(relay, b"theirs")
    with pytest.raises(TpmChangedError), connected(relay.transmit, enrolment):
        pass


def salting(relay: Relay, forge: Callable[[bytes], bytes]) -> Transmit:
    """Change the encrypted salt of each session on its way."""

    def carry(command: bytes) -> bytes:
        if code_of(command) == CommandCode.START_AUTH_SESSION:
            end = SALT_PLACE + MODULUS_BYTES
            salt = forge(command[SALT_PLACE:end])
            command = command[:SALT_PLACE] + salt + command[end:]
        return relay.transmit(command)

    return carry


@pytest.mark.parametrize("bit", [0, 1, 8, 1024, 2047])
def test_a_changed_salt_opens_no_session(relay: Relay, enrolment: Enrolment, bit: int) -> None:
    carry = salting(relay, lambda salt: flipped(salt, bit))
    with pytest.raises(TpmChangedError), connected(carry, enrolment):
        pass


def test_a_salt_of_another_session_is_not_taken_for_ours(
    relay: Relay, enrolment: Enrolment
) -> None:
    salts = []

    def first(salt: bytes) -> bytes:
        salts.append(salt)
        return salts[0]

    carry = salting(relay, first)
    with connected(carry, enrolment):
        pass
    with pytest.raises(TpmChangedError), connected(carry, enrolment):
        pass
    assert len(set(salts)) == len(salts)

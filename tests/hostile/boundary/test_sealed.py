# SPDX-License-Identifier: Apache-2.0
"""What a host can do with sealed passphrases in its hands: carry each of them once."""

import dataclasses
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.boundary.calls import Purpose, Sealed
from strongroom.errors import BoundaryError, FormatError, WrongPassphraseError
from strongroom.host.sealing import seal
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, Enclave, secret

pytestmark = pytest.mark.hostile

PURPOSES: Final[tuple[Purpose, ...]] = (
    "unlock",
    "format",
    "existing passphrase",
    "new passphrase",
)
LOW_ORDER: Final = tuple(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Points whose product with any key is zero. Spec: RFC 7748, 6.1; cr.yp.to/ecdh.html."""


def unlock(enclave: Enclave, sealed: Sealed) -> calls.Unlocked:
    return enclave.call(calls.Unlock(sealed, discard=False))


@pytest.fixture
def loaded(enclave: Enclave, image: Path) -> Enclave:
    enclave.load(image)
    return enclave


def test_a_kept_passphrase_opens_nothing_again(loaded: Enclave) -> None:
    wrong = loaded.sealed("unlock", b"wrong")
    with pytest.raises(WrongPassphraseError):
        unlock(loaded, wrong)
    with pytest.raises(BoundaryError, match="not waiting"):
        unlock(loaded, wrong)
    assert unlock(loaded, loaded.sealed("unlock")).keyslot == 0


def test_a_kept_passphrase_opens_nothing_in_another_enclave(
    loaded: Enclave, start: object, image: Path
) -> None:
    assert callable(start)
    other: Enclave = start()
    other.load(image)
    with pytest.raises(BoundaryError, match="not waiting"):
        unlock(other, loaded.sealed("unlock"))


@pytest.mark.parametrize("purpose", PURPOSES[1:])
def test_a_passphrase_for_another_purpose_does_not_unlock_and_is_used_up(
    purpose: Purpose, loaded: Enclave
) -> None:
    sealed = loaded.sealed(purpose)
    for expected in (f"a passphrase for {purpose} was used for unlock", "not waiting"):
        with pytest.raises(BoundaryError, match=expected):
            unlock(loaded, sealed)
    assert loaded.is_alive()


def test_a_purpose_is_part_of_what_is_authenticated(loaded: Enclave) -> None:
    recipient = loaded.call(calls.NewRecipient("unlock"))
    sealed = seal(secret(), recipient.public_key, "existing passphrase", NO_TERMS)
    with pytest.raises(BoundaryError, match="changed"):
        unlock(loaded, sealed)


@pytest.mark.parametrize("field", ["ciphertext", "encapsulated_key", "public_key"])
@pytest.mark.parametrize("position", [0, 15, -1])
def test_a_changed_message_is_refused(field: str, position: int, loaded: Enclave) -> None:
    sealed = loaded.sealed("unlock")
    changed = bytearray(getattr(sealed, field))
    changed[position] ^= 1
    with pytest.raises(BoundaryError):
        unlock(
            loaded,
            dataclasses.replace(sealed, **{field: bytes(changed)}),  # type: ignore[arg-type]  # bytes, all of them
        )
    if field != "public_key":
        with pytest.raises(BoundaryError, match="not waiting"):
            unlock(loaded, sealed)
    assert loaded.is_alive()


def test_messages_for_two_keys_cannot_be_swapped(loaded: Enclave) -> None:
    one, other = loaded.sealed("unlock"), loaded.sealed("unlock")
    with pytest.raises(BoundaryError, match="changed"):
        unlock(loaded, dataclasses.replace(one, public_key=other.public_key))
    assert unlock(loaded, one).keyslot == 0


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_a_point_of_low_order_opens_and_seals_nothing(point: bytes, loaded: Enclave) -> None:
    sealed = loaded.sealed("unlock")
    with pytest.raises(BoundaryError, match="changed"):
        unlock(loaded, dataclasses.replace(sealed, encapsulated_key=point))
    with pytest.raises(FormatError):
        seal(secret(), point, "unlock", NO_TERMS)


def test_a_recovery_key_for_a_point_of_low_order_makes_no_keyslot(
    loaded: Enclave, image: Path
) -> None:
    before = image.read_bytes()
    with pytest.raises(FormatError):
        loaded.call(
            calls.AddKeyslot(
                existing=loaded.sealed("existing passphrase"),
                new=None,
                factors=(),
                kdf=CHEAP,
                keyslot=None,
                recovery_key_to=LOW_ORDER[0],
            )
        )
    assert image.read_bytes() == before


def test_the_ninth_key_forgets_the_first_and_no_other(loaded: Enclave) -> None:
    waiting = [loaded.sealed("unlock", b"wrong %d" % n) for n in range(9)]
    with pytest.raises(BoundaryError, match="not waiting"):
        unlock(loaded, waiting[0])
    for sealed in waiting[1:]:
        with pytest.raises(WrongPassphraseError):
            unlock(loaded, sealed)
    assert loaded.is_alive()


@pytest.mark.parametrize("size", [1, 4096, calls.MAX_SECRET_BYTES])
def test_passphrases_of_all_sizes_are_tried(size: int, loaded: Enclave) -> None:
    with pytest.raises(WrongPassphraseError):
        unlock(loaded, loaded.sealed("unlock", b"x" * size))

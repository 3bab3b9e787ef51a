# SPDX-License-Identifier: Apache-2.0
"""A passphrase is for one call on one volume: the host cannot use it for another.

Here the host is hostile and the client honest: what the client sealed, it sealed for what it asked.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, Sealed, Terms
from strongroom.boundary.sealed import BLANK, request_digest
from strongroom.errors import BoundaryError, HeaderTamperedError
from tests.hostile.boundary.evil import CHEAP, DATA_OFFSET_BYTES, Enclave, creation, opened

pytestmark = pytest.mark.hostile

Start = Callable[[], Enclave]

REMOVE: Final = calls.RemoveKeyslot(BLANK, 5)
"""What the operator asked for: to remove a keyslot that there is not."""


@pytest.fixture
def enclave(start: Start, image: Path) -> Enclave:
    started = start()
    started.load(image)
    return started


def meant_for(enclave: Enclave, request: Call[object]) -> Sealed:
    """Return the operator's passphrase for one call."""
    terms = Terms(volume=enclave.client.volume, request=request_digest(request))
    sealed = enclave.sealed("existing passphrase", terms=terms)
    enclave.client.forget(sealed)
    return sealed


def orders(enclave: Enclave, sealed: Sealed) -> list[Call[object]]:
    """Return what a host would rather do with it."""
    host_key = HpkeReceiver().public_key
    successor = enclave.call(calls.BecomeSuccessor())
    return [
        calls.AddKeyslot(sealed, None, (), CHEAP, None, host_key),
        calls.AddKeyslot(sealed, sealed, ("enclave", "passphrase"), CHEAP, None, None),
        calls.ChangeKeyslot(sealed, sealed, CHEAP, None),
        calls.Reseal(sealed, "measurement", adopt=False),
        calls.HandOver(sealed, successor, "signer"),
    ]


def test_a_passphrase_for_one_change_makes_no_other(enclave: Enclave, image: Path) -> None:
    before = image.read_bytes()
    for number in range(len(orders(enclave, BLANK))):
        request = orders(enclave, meant_for(enclave, REMOVE))[number]
        with pytest.raises(BoundaryError, match="another request"):
            enclave.caller.call(request)
    assert image.read_bytes() == before


def test_no_field_of_the_call_is_the_hosts(enclave: Enclave, image: Path) -> None:
    before = image.read_bytes()
    asked = calls.Reseal(BLANK, "signer", adopt=False)
    sent = dataclasses.replace(asked, existing=meant_for(enclave, asked))
    with pytest.raises(BoundaryError, match="another request"):
        enclave.caller.call(dataclasses.replace(sent, policy="measurement"))
    assert image.read_bytes() == before
    # A key takes one message only, whatever became of it.
    again = dataclasses.replace(asked, existing=meant_for(enclave, asked))
    assert enclave.caller.call(again).epoch == 2


def test_the_host_does_not_choose_the_cost_of_a_new_passphrase(
    enclave: Enclave, image: Path
) -> None:
    before = image.read_bytes()
    asked = calls.ChangeKeyslot(BLANK, BLANK, dataclasses.replace(CHEAP, iterations=9999), None)
    request = calls.ChangeKeyslot(meant_for(enclave, asked), BLANK, CHEAP, None)
    with pytest.raises(BoundaryError, match="another request"):
        enclave.caller.call(request)
    assert image.read_bytes() == before


@pytest.mark.parametrize("volume", ["", "01234567-89ab-4cde-8f01-23456789abcd"])
def test_a_passphrase_for_no_volume_in_particular_opens_none(enclave: Enclave, volume: str) -> None:
    key = enclave.call(calls.NewRecipient("unlock")).public_key
    sealed = enclave.client.sealed_as_told(key, "unlock", Terms(volume=volume))
    with pytest.raises(HeaderTamperedError, match="was meant for the volume"):
        enclave.caller.call(calls.Unlock(sealed, discard=False))


def test_a_keyslot_that_any_passphrase_opens_is_not_made(
    enclave: Enclave, start: Start, image: Path, tmp_path: Path
) -> None:
    before = image.read_bytes()
    existing, new = enclave.sealed("existing passphrase"), enclave.sealed("new passphrase")
    for factors in ((), ("enclave",)):
        with pytest.raises(BoundaryError, match="does not need the passphrase"):
            enclave.call(calls.AddKeyslot(existing, new, factors, CHEAP, None, None))
        existing, new = enclave.sealed("existing passphrase"), enclave.sealed("new passphrase")
    assert image.read_bytes() == before
    blank, maker = tmp_path / "blank", start()
    blank.write_bytes(bytes(DATA_OFFSET_BYTES + 4096))
    with opened(blank) as target, pytest.raises(BoundaryError, match="does not need the passph"):
        maker.call(
            creation(target, maker.sealed("format"), sector_size_bytes=512, factors=("enclave",))
        )
    assert not any(blank.read_bytes())

# SPDX-License-Identifier: Apache-2.0
"""Keys that open one message for one purpose, and are gone."""

import dataclasses
from typing import Any, Final, get_args

import pytest

from strongroom._core import Secret
from strongroom.boundary.calls import Purpose, Terms
from strongroom.boundary.sealed import report_data
from strongroom.enclave.recipients import MAX_PENDING, Recipients, seal_recovery_key
from strongroom.errors import BoundaryError, FormatError
from strongroom.host.sealing import seal
from tests.hostile.boundary.evil import NO_TERMS, secret
from tests.unit.tee.scene import enclave

pytestmark = pytest.mark.unit

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_message_opens_once(purpose: Purpose) -> None:
    recipients = Recipients(enclave())
    sealed = seal(secret(), recipients.new(purpose).public_key, purpose, NO_TERMS)

    assert recipients.open(sealed, purpose).equals(secret())
    with pytest.raises(BoundaryError, match="not waiting"):
        recipients.open(sealed, purpose)


@pytest.mark.parametrize("made_for", PURPOSES)
@pytest.mark.parametrize("used_for", PURPOSES)
def test_purposes_are_not_mixed(made_for: Purpose, used_for: Purpose) -> None:
    recipients = Recipients(enclave())
    sealed = seal(secret(), recipients.new(made_for).public_key, made_for, NO_TERMS)
    if made_for == used_for:
        assert recipients.open(sealed, used_for).length_bytes
    else:
        with pytest.raises(BoundaryError, match=f"for {made_for} was used for {used_for}"):
            recipients.open(sealed, used_for)
    assert not recipients._pending


def test_the_oldest_key_is_forgotten_first() -> None:
    recipients = Recipients(enclave())
    keys = [recipients.new("unlock").public_key for _ in range(MAX_PENDING + 3)]
    assert list(recipients._pending) == keys[3:]


def test_a_report_binds_the_key_to_its_purpose() -> None:
    tee = enclave()
    recipient = Recipients(tee).new("unlock")
    verified = tee.verify(recipient.report)
    assert verified.user_data == report_data("unlock", recipient.public_key)
    assert verified.user_data != report_data("format", recipient.public_key)
    assert verified.identity == tee.identity


@pytest.mark.parametrize(
    "changed",
    [
        {"volume": "01234567-89ab-4cde-8f01-23456789abcd"},
        {"authenticated": False},
        {"minimum_epoch": 6},
        {"accepted_changes": bytes(32)},
        {"next_enclave": bytes(32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_host_cannot_change_the_terms(changed: dict[str, Any]) -> None:
    recipients = Recipients(enclave())
    terms = Terms(authenticated=True, minimum_epoch=7)
    key = recipients.new("unlock").public_key
    sealed = seal(secret(), key, "unlock", terms)
    other = dataclasses.replace(sealed, terms=dataclasses.replace(terms, **changed))
    with pytest.raises(BoundaryError, match="changed on its way"):
        recipients.open(other, "unlock")


def test_nothing_waits_after_erasing() -> None:
    recipients = Recipients(enclave())
    sealed = seal(secret(), recipients.new("unlock").public_key, "unlock", NO_TERMS)
    recipients.erase()
    with pytest.raises(BoundaryError, match="not waiting"):
        recipients.open(sealed, "unlock")


def test_a_recovery_key_is_not_sealed_to_a_point_of_low_order() -> None:
    with pytest.raises(FormatError):
        seal_recovery_key(Secret.random_recovery_key(), bytes(32))

# SPDX-License-Identifier: Apache-2.0
"""Keys that open one message for one purpose, and are gone."""

from typing import Final, get_args

import pytest

from strongroom._core import Secret
from strongroom.boundary.calls import Purpose
from strongroom.enclave.recipients import MAX_PENDING, Recipients, seal_recovery_key
from strongroom.errors import BoundaryError, FormatError
from strongroom.host.sealing import seal
from tests.hostile.boundary.evil import secret

pytestmark = pytest.mark.unit

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_message_opens_once(purpose: Purpose) -> None:
    recipients = Recipients()
    sealed = seal(secret(), recipients.new(purpose), purpose)

    assert recipients.open(sealed, purpose).equals(secret())
    with pytest.raises(BoundaryError, match="not waiting"):
        recipients.open(sealed, purpose)


@pytest.mark.parametrize("made_for", PURPOSES)
@pytest.mark.parametrize("used_for", PURPOSES)
def test_purposes_are_not_mixed(made_for: Purpose, used_for: Purpose) -> None:
    recipients = Recipients()
    sealed = seal(secret(), recipients.new(made_for), made_for)
    if made_for == used_for:
        assert recipients.open(sealed, used_for).length_bytes
    else:
        with pytest.raises(BoundaryError, match=f"for {made_for} was used for {used_for}"):
            recipients.open(sealed, used_for)
    assert not recipients._pending


def test_the_oldest_key_is_forgotten_first() -> None:
    recipients = Recipients()
    keys = [recipients.new("unlock") for _ in range(MAX_PENDING + 3)]
    assert list(recipients._pending) == keys[3:]


def test_nothing_waits_after_erasing() -> None:
    recipients = Recipients()
    sealed = seal(secret(), recipients.new("unlock"), "unlock")
    recipients.erase()
    with pytest.raises(BoundaryError, match="not waiting"):
        recipients.open(sealed, "unlock")


def test_a_recovery_key_is_not_sealed_to_a_point_of_low_order() -> None:
    with pytest.raises(FormatError):
        seal_recovery_key(Secret.random_recovery_key(), bytes(32))

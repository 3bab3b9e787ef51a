# SPDX-License-Identifier: Apache-2.0
"""What a relay can try before and around a session."""

from collections.abc import Callable

import pytest

from strongroom.errors import TpmError, TpmTamperedError
from strongroom.host.tpm.relay import Relay
from strongroom.tpm import (
    ENDORSEMENT,
    Device,
    KeyKind,
    Nv,
    NvPublic,
    Sessions,
    endorsement_template,
)
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.codes import CommandCode
from tests.honest import known_secret

pytestmark = pytest.mark.hostile

AUTH = b"an authorization value of 32 by!"
AES_256_CFB = bytes.fromhex("0006 0100 0043")
AES_128_CFB = bytes.fromhex("0006 0080 0043")
TEMPLATE = endorsement_template(KeyKind.P256)


def code_of(command: bytes) -> int:
    return int.from_bytes(command[6:10], "big")


def define_an_index(road: Sessions) -> None:
    Nv(road).define(NvPublic.ordinary(0x01800001, 8), known_secret(AUTH))


def open_a_policy(road: Sessions) -> None:
    with road.policy_session():
        pass


@pytest.mark.parametrize("use", [define_an_index, open_a_policy])
def test_another_cipher_than_was_asked_for_is_noticed(
    relay: Relay, use: Callable[[Sessions], None]
) -> None:
    """Its key is derived from the same secret: no MAC tells that the two sides differ."""
    weakened = 0

    def weaken(command: bytes) -> bytes:
        nonlocal weakened
        if code_of(command) == CommandCode.START_AUTH_SESSION and AES_256_CFB in command:
            weakened += 1
            command = command.replace(AES_256_CFB, AES_128_CFB)
        return relay.transmit(command)

    with (
        claimed_primary(weaken, ENDORSEMENT, TEMPLATE) as key,
        Sessions(weaken, key) as road,
        pytest.raises(TpmTamperedError, match=r"cipher|malformed"),
    ):
        use(road)
    assert weakened == 1


def test_a_longer_key_that_the_tpm_does_not_have_is_given_up(relay: Relay) -> None:
    def refuse(command: bytes) -> bytes:
        if code_of(command) == CommandCode.START_AUTH_SESSION and AES_256_CFB in command:
            return bytes.fromhex("8001 0000000a 000004c4")
        return relay.transmit(command)

    with claimed_primary(refuse, ENDORSEMENT, TEMPLATE) as key, Sessions(refuse, key) as road:
        assert Device(road).random(16).length_bytes == 16


def answer_once(relay: Relay, forged: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def carry(command: bytes) -> bytes:
        if code_of(command) == CommandCode.READ_CLOCK:
            return forged(command)
        return relay.transmit(command)

    return carry


def test_a_refusal_is_not_believed_but_does_no_harm(relay: Relay) -> None:
    asked = 0

    def refuse(_: bytes) -> bytes:
        nonlocal asked
        asked += 1
        return bytes.fromhex("8001 0000000a 00000101")

    carry = answer_once(relay, refuse)
    with claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key, Sessions(carry, key) as road:
        with pytest.raises(TpmError, match="failure"):
            Device(road).clock()
        assert Device(road).random(16).length_bytes == 16
    assert asked == 1


def test_a_tpm_that_is_always_busy_is_given_up(relay: Relay) -> None:
    asked = set()

    def busy(command: bytes) -> bytes:
        asked.add(command)
        return bytes.fromhex("8001 0000000a 00000922")

    carry = answer_once(relay, busy)
    with (
        claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key,
        Sessions(carry, key) as road,
        pytest.raises(TpmError, match="busy"),
    ):
        Device(road).clock()
    assert len(asked) == 1, "it is asked in the same bytes"


def test_a_counter_that_was_counted_behind_a_busy_answer_counts_once(relay: Relay) -> None:
    """The relay carries the command out and says that the TPM was busy: the next is refused."""
    lies = 0

    def lie(command: bytes) -> bytes:
        nonlocal lies
        answer = relay.transmit(command)
        if code_of(command) == CommandCode.NV_INCREMENT and not lies:
            lies += 1
            return bytes.fromhex("8001 0000000a 00000922")
        return answer

    counter, auth = NvPublic.counter(0x01800001), known_secret(AUTH)
    with claimed_primary(lie, ENDORSEMENT, TEMPLATE) as key:
        with Sessions(lie, key) as road:
            Nv(road).define(counter, auth)
        with Sessions(lie, key) as road, pytest.raises(TpmError):
            Nv(road).increment(counter, auth)
        with Sessions(lie, key) as road:
            first = Nv(road).count(counter.written(), auth)
            Nv(road).increment(counter.written(), auth)
            assert Nv(road).count(counter.written(), auth) == first + 1
    assert lies == 1


def test_a_session_is_used_no_more_after_a_forged_answer(relay: Relay) -> None:
    def forge(command: bytes) -> bytes:
        answer = bytearray(relay.transmit(command))
        answer[20] ^= 1
        return bytes(answer)

    carry = answer_once(relay, forge)
    with claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key, Sessions(carry, key) as road:
        Device(road).random(16)
        with pytest.raises(TpmTamperedError, match="not authentic"):
            Device(road).clock()
        for _ in range(2):
            with pytest.raises(TpmTamperedError, match="given up"):
                Device(road).random(16)


def test_a_session_is_used_no_more_after_an_answer_that_never_came(relay: Relay) -> None:
    def fail(_: bytes) -> bytes:
        raise TimeoutError

    carry = answer_once(relay, fail)
    with claimed_primary(carry, ENDORSEMENT, TEMPLATE) as key, Sessions(carry, key) as road:
        with pytest.raises(TimeoutError):
            Device(road).clock()
        with pytest.raises(TpmTamperedError, match="given up"):
            Device(road).random(16)

# SPDX-License-Identifier: Apache-2.0
"""Passphrases leave the client sealed, and are erased there whatever happens."""

import os
from pathlib import Path

import pytest

from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary.calls import SealedReply, Terms
from strongroom.boundary.sealed import HANDOVER_INFO, INFO_PREFIX, RECOVERY_INFO
from strongroom.enclave import recipients
from strongroom.errors import FormatError
from strongroom.host import sealing

pytestmark = pytest.mark.unit


def test_what_is_authenticated_is_what_the_specification_says() -> None:
    assert INFO_PREFIX == b"strongroom/1 "
    assert RECOVERY_INFO == b"strongroom/1 recovery key"
    assert HANDOVER_INFO == b"strongroom/1 handover"
    specification = (Path(__file__).parents[3] / "spec" / "boundary.md").read_text()
    assert f'"{RECOVERY_INFO.decode()}"' in specification
    assert f'info = "{INFO_PREFIX.decode()}"' in specification


def test_a_sealed_passphrase_is_erased_here() -> None:
    passphrase = Secret.random(20)
    receiver = HpkeReceiver()
    sealed = sealing.seal(passphrase, receiver.public_key, "unlock", Terms())

    assert passphrase.length_bytes == 0
    assert (sealed.public_key, len(sealed.ciphertext)) == (receiver.public_key, 36)


def test_a_passphrase_that_cannot_be_sealed_is_erased_too() -> None:
    passphrase = Secret.random(20)
    with pytest.raises(FormatError):
        sealing.seal(passphrase, bytes(32), "unlock", Terms())
    assert passphrase.length_bytes == 0


def test_a_recovery_key_is_delivered_once() -> None:
    reader, writer = os.pipe()
    try:
        receiver = sealing.RecoveryKeyReceiver(writer)
        reply = recipients.seal_recovery_key(Secret.random_recovery_key(), receiver.public_key)
        receiver.deliver(reply)
        written = os.read(reader, 1000)
        assert len(written) == 72
        assert written.endswith(b"\n")
        with pytest.raises(FormatError):
            receiver.deliver(reply)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reply_that_was_changed_delivers_nothing() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        receiver = sealing.RecoveryKeyReceiver(writer)
        reply = recipients.seal_recovery_key(Secret.random_recovery_key(), receiver.public_key)
        changed = SealedReply(reply.encapsulated_key, _with_last_bit_flipped(reply.ciphertext))
        with pytest.raises(FormatError):
            receiver.deliver(changed)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def _with_last_bit_flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])

# SPDX-License-Identifier: Apache-2.0
"""The needles are what they claim to be, by published examples and by foreign code."""

import base64
import hashlib
import secrets

import pytest

from tests.hostile.memory.needles import Secrets, inverse_round_keys, round_keys, sha256_state

pytestmark = pytest.mark.unit


def test_the_key_schedule_is_that_of_fips_197() -> None:
    """Appendix A.1 and A.3 (the keys), last words from the tables there."""
    key_128 = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert round_keys(key_128)[1].hex() == "a0fafe1788542cb123a339392a6c7605"
    assert round_keys(key_128)[10].hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"
    key_256 = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    keys = round_keys(key_256)
    assert len(keys) == 15
    assert keys[0] + keys[1] == key_256
    assert keys[2].hex() == "9ba354118e6925afa51a8b5f2067fcde"
    assert keys[14].hex() == "fe4890d1e6188d0b046df344706c631e"


def test_the_inverse_schedule_is_that_of_fips_197() -> None:
    """Appendix C.3, equivalent inverse cipher: the schedule of its rounds 1 and 13."""
    keys = inverse_round_keys(bytes(range(32)))
    assert len(keys) == 13
    assert keys[12].hex() == "34f1d1ffbfceaa2ffce9e25f2558016e"
    assert keys[0].hex() == "1a1f181d1e1b1c191217101516131411"


def test_the_state_after_one_block_is_that_of_sha_256() -> None:
    """FIPS 180-4 has the digest of a short message in its last and only block."""
    for message in (b"", b"abc", secrets.token_bytes(55)):
        length = (8 * len(message)).to_bytes(8, "big")
        block = (message + b"\x80").ljust(56, b"\0") + length
        assert sha256_state(block) == hashlib.sha256(message).digest()


def test_every_text_form_is_found_at_every_alignment() -> None:
    value = secrets.token_bytes(32)
    needles = Secrets({}, {}, {"value": value}).needles()
    for before in range(5):
        blob = secrets.token_bytes(before) + value + secrets.token_bytes(7)
        for text in (
            blob,
            blob.hex().encode(),
            blob.hex().upper().encode(),
            base64.b64encode(blob),
            base64.urlsafe_b64encode(blob),
        ):
            assert any(needle in text for needle in needles)

# SPDX-License-Identifier: Apache-2.0
"""What a TPM signed is what was asked for, or nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import TpmError, TpmTamperedError
from strongroom.tpm import Algorithm, Attestation, Clock, Key, PcrSelection, Quote
from strongroom.tpm.attestation import Signature, encode_signature, read_quote
from strongroom.tpm.marshal import sized, u8, u16, u32, u64
from tests.unit.tpm.known import STORAGE
from tests.unit.tpm.roads import Told

pytestmark = pytest.mark.unit

ASKED = PcrSelection.of([0, 16])
QUESTION = b"a question"
SIGNER = b"\0\x0b" + b"s" * 32
DIGEST = b"d" * 32
CLOCK = u64(0x0102030405060708) + u32(9) + u32(10) + u8(1)
FRONT = u32(0xFF544347) + u16(0x8018)
STATEMENT = FRONT + sized(SIGNER) + sized(QUESTION) + CLOCK + u64(11) + ASKED.wire + sized(DIGEST)
SIGNATURE = Signature(1, 2**256 - 1)


def test_a_quote_is_read() -> None:
    clock = Clock(0, 0x0102030405060708, 9, 10, is_safe=True)
    expected = Quote(STATEMENT, SIGNATURE, SIGNER, QUESTION, clock, 11, DIGEST)
    assert read_quote(STATEMENT, SIGNATURE, ASKED) == expected


def test_a_quote_that_is_cut_or_followed_by_something_is_refused() -> None:
    for length in range(len(STATEMENT)):
        with pytest.raises(TpmTamperedError):
            read_quote(STATEMENT[:length], SIGNATURE, ASKED)
    with pytest.raises(TpmTamperedError, match="followed by"):
        read_quote(STATEMENT + b"\0", SIGNATURE, ASKED)


@pytest.mark.parametrize(
    ("front", "what"),
    [("00544347 8018", "magic"), ("ff544347 8014", "of NV contents"), ("ff544347 8017", "a key")],
)
def test_what_is_no_quote_is_refused(front: str, what: str) -> None:
    with pytest.raises(TpmTamperedError, match="no quote"):
        read_quote(bytes.fromhex(front) + STATEMENT[6:], SIGNATURE, ASKED)
    assert what


@pytest.mark.parametrize(
    "other",
    [
        PcrSelection.of([0]),
        PcrSelection.of([0, 16, 17]),
        PcrSelection.of([0, 16], Algorithm.SHA384),
    ],
)
def test_a_quote_of_other_pcrs_is_refused(other: PcrSelection) -> None:
    with pytest.raises(TpmTamperedError, match="other PCRs"):
        read_quote(STATEMENT, SIGNATURE, other)


def test_pcrs_beyond_those_that_are_known_are_not_overlooked() -> None:
    longer = u32(1) + u16(Algorithm.SHA256) + u8(5) + bytes.fromhex("0100010001")
    with pytest.raises(TpmTamperedError, match="other PCRs"):
        read_quote(STATEMENT.replace(ASKED.wire, longer), SIGNATURE, ASKED)


def quoted(signature: bytes, question: bytes = QUESTION) -> Quote:
    road = Told(lambda _: sized(STATEMENT) + signature)
    return Attestation(road).quote(Key(0x81000001, STORAGE), b"", ASKED, question)


def test_a_signature_comes_back() -> None:
    assert quoted(encode_signature(SIGNATURE)).signature == SIGNATURE


def test_a_quote_for_another_question_is_refused() -> None:
    with pytest.raises(TpmTamperedError, match="another question"):
        quoted(encode_signature(SIGNATURE), b"another one")


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (u16(0x0014) + u16(0x000B) + sized(bytes(256)), "another algorithm"),
        (u16(0x0018) + u16(0x000C) + 2 * sized(bytes(32)), "another algorithm"),
        (u16(0x0018) + u16(0x000B) + 2 * sized(bytes(48)), "another size"),
        (u16(0x0018) + u16(0x000B) + sized(bytes(32)), "too early"),
        (encode_signature(SIGNATURE) + b"\0", "followed by"),
    ],
)
def test_another_signature_than_was_asked_for_is_refused(signature: bytes, why: str) -> None:
    with pytest.raises(TpmTamperedError, match=why):
        quoted(signature)


@given(st.binary(max_size=200) | st.builds(lambda end: STATEMENT[:90] + end, st.binary()))
def test_nothing_else_is_raised_for_any_statement(attested: bytes) -> None:
    with contextlib.suppress(TpmError):
        assert read_quote(attested, SIGNATURE, ASKED).attested == attested


@given(st.binary(max_size=200))
def test_nothing_else_is_raised_for_any_signature(signature: bytes) -> None:
    with contextlib.suppress(TpmError):
        assert encode_signature(quoted(signature).signature)

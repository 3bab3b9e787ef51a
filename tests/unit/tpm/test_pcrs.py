# SPDX-License-Identifier: Apache-2.0
"""Which PCRs, and what an answer says is in them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import TpmError, TpmTamperedError, UsageError
from strongroom.tpm import Algorithm, PcrSelection
from strongroom.tpm.marshal import Reader, sized, u8, u16, u32
from strongroom.tpm.pcrs import read_selections, read_values

pytestmark = pytest.mark.unit

ASKED = PcrSelection.of([0, 7, 16])
VALUES = {pcr: bytes([pcr]) * 32 for pcr in ASKED.pcrs}


def answer(selection: bytes, values: list[bytes]) -> bytes:
    return u32(1) + selection + u32(len(values)) + b"".join(map(sized, values))


WHOLE = answer(ASKED.wire, list(VALUES.values()))


@pytest.mark.parametrize(
    ("pcrs", "bits"),
    [([], "000000"), ([0], "010000"), ([7, 8], "800100"), ([23], "000080"), (range(24), "ffffff")],
)
def test_the_bits_of_a_selection(pcrs: list[int], bits: str) -> None:
    """Spec: TPM 2.0 Part 2, 10.6.1: PCR 0 is the lowest bit of the first byte."""
    selection = PcrSelection.of(pcrs, Algorithm.SHA384)
    assert selection.wire.hex() == f"00000001000c03{bits}"
    assert read_selections(Reader(selection.wire)) == ((0x000C, tuple(pcrs)),)


def test_a_selection_is_in_order_and_has_each_once() -> None:
    assert PcrSelection.of([16, 0, 7, 0]) == ASKED


@pytest.mark.parametrize("pcr", [-1, 24, 1 << 40])
def test_what_is_no_pcr_is_refused(pcr: int) -> None:
    with pytest.raises(UsageError, match="is no PCR"):
        PcrSelection.of([0, pcr])


def test_a_map_is_read_to_its_end() -> None:
    """PCRs that Strongroom does not know are not overlooked: they are other ones."""
    wire = u32(1) + u16(Algorithm.SHA256) + u8(6) + bytes.fromhex("010000000080")
    assert read_selections(Reader(wire)) == ((Algorithm.SHA256, (0, 47)),)


def test_values_are_read() -> None:
    assert read_values(WHOLE, ASKED) == VALUES


def test_a_tpm_gives_fewer_than_were_asked_for() -> None:
    fewer = PcrSelection.of([7])
    assert read_values(answer(fewer.wire, [VALUES[7]]), ASKED) == {7: VALUES[7]}
    assert read_values(answer(PcrSelection.of([]).wire, []), ASKED) == {}


@pytest.mark.parametrize(
    "given",
    [
        answer(PcrSelection.of([1]).wire, [bytes(32)]),
        answer(PcrSelection.of([0, 1]).wire, [bytes(32)] * 2),
        answer(ASKED.wire, [bytes(32)] * 2),
        answer(ASKED.wire, [bytes(32)] * 4),
        answer(PcrSelection.of([0], Algorithm.SHA1).wire, [bytes(20)]),
    ],
)
def test_values_of_other_pcrs_are_refused(given: bytes) -> None:
    with pytest.raises(TpmTamperedError, match="other PCRs"):
        read_values(given, ASKED)


def test_an_answer_that_is_cut_or_followed_by_something_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(TpmTamperedError):
            read_values(WHOLE[:length], ASKED)
    with pytest.raises(TpmTamperedError, match="followed by"):
        read_values(WHOLE + b"\0", ASKED)


def test_there_is_no_digest_of_a_pcr_that_the_tpm_does_not_have() -> None:
    with pytest.raises(TpmError, match="no PCR 16 in its bank sha256"):
        ASKED.digest_of({0: bytes(32), 7: bytes(32)})


@given(st.binary(max_size=200) | st.builds(lambda end: WHOLE[:17] + end, st.binary()))
def test_nothing_else_is_raised_for_any_bytes(parameters: bytes) -> None:
    with contextlib.suppress(TpmError):
        assert set(read_values(parameters, ASKED)) <= set(ASKED.pcrs)

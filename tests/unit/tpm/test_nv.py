# SPDX-License-Identifier: Apache-2.0
"""Public areas of NV indexes: every bit, and the Names that they make."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import TpmError, TpmTamperedError, UsageError
from strongroom.tpm import NvAttribute, NvPublic, NvType
from strongroom.tpm.nv import attribute_names, checked, read_public, type_name
from tests.unit.tpm.known import COUNTER, COUNTER_NAME, INDEX, INDEX_NAME, WRITTEN_COUNTER_NAME

pytestmark = pytest.mark.unit

NAMES = {
    0: "ppwrite",
    1: "ownerwrite",
    2: "authwrite",
    3: "policywrite",
    10: "policy_delete",
    11: "writelocked",
    12: "writeall",
    13: "writedefine",
    14: "write_stclear",
    15: "globallock",
    16: "ppread",
    17: "ownerread",
    18: "authread",
    19: "policyread",
    25: "no_da",
    26: "orderly",
    27: "clear_stclear",
    28: "readlocked",
    29: "written",
    30: "platformcreate",
    31: "read_stclear",
}
"""Of bits, as Part 2, 13.4 lists them. Bits 4 to 7 are the type, all others are reserved."""


@pytest.mark.parametrize(
    ("public", "name"),
    [
        (INDEX, INDEX_NAME),
        (COUNTER, COUNTER_NAME),
        (COUNTER.written(), WRITTEN_COUNTER_NAME),
    ],
)
def test_a_name_is_the_one_that_tools_print(public: NvPublic, name: bytes) -> None:
    assert public.entity.name == name
    assert public.entity.handle == public.index


def test_what_is_made_here_is_what_tools_make() -> None:
    assert NvPublic.ordinary(INDEX.index, 32) == INDEX
    counter = NvPublic.counter(COUNTER.index)
    assert counter.type == NvType.COUNTER
    assert counter.size_bytes == COUNTER.size_bytes
    assert counter.flags == INDEX.flags


def test_every_attribute_is_told_by_its_bit() -> None:
    for bit in range(32):
        public = NvPublic(INDEX.index, 1 << bit, 8)
        assert public.type == (1 << bit >> 4 if bit < 8 else NvType.ORDINARY)
        names = (NAMES[bit],) if bit in NAMES else ()
        assert attribute_names(public.flags) == names


def test_attributes_are_told_together() -> None:
    assert attribute_names(NvAttribute(INDEX.attributes)) == ("authwrite", "authread", "no_da")
    assert attribute_names(NvAttribute(0)) == ()
    assert set(attribute_names(NvAttribute(0xFFFFFFFF))) == set(NAMES.values())


def test_types_are_told() -> None:
    names = ["ordinary", "counter", "bits", "0x3", "extend", "0x5", "0x6", "0x7"]
    assert [type_name(number) for number in range(10)] == [*names, "pin_fail", "pin_pass"]


@pytest.mark.parametrize("index", [0, 0x00FFFFFF, 0x02000000, 0x81000001, -1])
def test_what_is_no_index_is_refused(index: int) -> None:
    for make in (checked, NvPublic.counter):
        with pytest.raises(UsageError, match="no NV index"):
            make(index)


def test_the_borders_of_indexes() -> None:
    assert (checked(0x01000000), checked(0x01FFFFFF)) == (0x01000000, 0x01FFFFFF)


@given(
    st.builds(
        NvPublic,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFF),
        st.binary(max_size=64),
        st.integers(0, 0xFFFF),
    )
)
def test_an_area_comes_back(public: NvPublic) -> None:
    assert read_public(public.wire) == public


def test_an_area_that_is_cut_or_followed_by_something_is_refused() -> None:
    for length in range(len(INDEX.wire)):
        with pytest.raises(TpmTamperedError):
            read_public(INDEX.wire[:length])
    with pytest.raises(TpmTamperedError, match="followed by"):
        read_public(INDEX.wire + b"\0")


@pytest.mark.parametrize("algorithm", [0x0010, 0x0012, 0x0000])
def test_a_name_of_an_unknown_hash_is_refused(algorithm: int) -> None:
    public = NvPublic(INDEX.index, 0, 8, name_algorithm=algorithm)
    with pytest.raises(TpmError, match="is not supported"):
        _ = public.entity


@given(st.binary(max_size=100))
def test_nothing_else_is_raised_for_any_bytes(wire: bytes) -> None:
    with contextlib.suppress(TpmError):
        public = read_public(wire)
        assert public.wire == wire
        assert attribute_names(public.flags) is not None
        assert public.entity.handle == public.index

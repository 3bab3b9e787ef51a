# SPDX-License-Identifier: Apache-2.0
"""The strongroom token: what is written comes back, and nothing else is taken for one."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.luks2 import (
    SealedSlot,
    Sealing,
    StrongroomToken,
    recovery_token,
    strongroom_token,
    with_token,
    without_keyslot,
)
from strongroom.luks2._json import encode_base64
from strongroom.luks2.token import SINGLE_PARTS, parse_token

from .forge import fresh

pytestmark = pytest.mark.unit

PARTS = {name: bytes(8 if name == "seqid" else 32) for name in SINGLE_PARTS}
PARTS |= {"keyslots/0": b"k" * 32, "digests/0": b"d" * 32, "segments/0": b"s" * 32}
TOKEN = StrongroomToken(
    number=3,
    keyslots=(0, 2),
    epoch=7,
    sealing=Sealing("process", True, "signer", b"m" * 32, b"s" * 32, 1, 2, False, b"i" * 16),  # noqa: FBT003
    slots={
        0: SealedSlot(("enclave", "passphrase"), b"a" * 81, b"p" * 164),
        2: SealedSlot(("enclave",), b"b" * 81, b"q" * 512),
    },
    header=PARTS,
    enclave_code=b"e" * 32,
    volume_code=b"v" * 32,
)


def tree() -> dict[str, Any]:
    return copy.deepcopy(TOKEN.json())


def objects(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401
    if isinstance(value, dict):
        yield path
        for key, member in value.items():
            yield from objects(member, (*path, key))


def at(value: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401
    for key in path:
        value = value[key]
    return value


PLACES = [(path, key) for path in objects(tree()) for key in at(tree(), path)]


def test_round_trip() -> None:
    assert parse_token(3, tree()) == TOKEN
    header = with_token(fresh(keyslots=3), tree(), number=3)
    assert strongroom_token(header) == TOKEN


def test_no_token_and_two() -> None:
    header = fresh(keyslots=3)
    assert strongroom_token(with_token(header, recovery_token(0))) is None
    twice = with_token(with_token(header, tree(), number=3), tree(), number=4)
    with pytest.raises(FormatError, match="2 strongroom tokens"):
        strongroom_token(twice)


@pytest.mark.parametrize(("path", "key"), PLACES)
def test_every_member_is_needed(path: tuple[str, ...], key: str) -> None:
    value = tree()
    del at(value, path)[key]
    if "/" in key:  # a part that the header did not have
        assert key not in parse_token(3, value).header
    else:
        with pytest.raises(FormatError):
            parse_token(3, value)


@pytest.mark.parametrize("path", list(objects(tree())))
@pytest.mark.parametrize("key", ["x", "1", "keyslots/32", "keyslots/00", "others/0"])
def test_no_other_member_is_taken(path: tuple[str, ...], key: str) -> None:
    value = tree()
    at(value, path)[key] = encode_base64(bytes(32))
    with pytest.raises(FormatError):
        parse_token(3, value)


@pytest.mark.parametrize(("path", "key"), PLACES)
def test_every_member_has_one_type(path: tuple[str, ...], key: str) -> None:
    for wrong in (None, 0, 2**53, -1, "", "AA==", "?" * 300, [], ["x"], {}, {"x": 1}):
        value = tree()
        previous = at(value, path)[key]
        at(value, path)[key] = wrong
        if key in {"product_id", "security_version"} and wrong == 0:
            continue
        if (key, wrong) == ("keyslots", []) or previous == wrong:
            continue
        with pytest.raises(FormatError):
            parse_token(3, value)


@pytest.mark.parametrize(
    ("path", "key", "wrong"),
    [
        (("slots", "0"), "share", encode_base64(bytes(80))),
        (("slots", "0"), "share", encode_base64(bytes(82))),
        (("slots", "0"), "parameters", encode_base64(bytes(49))),
        (("slots", "0"), "parameters", encode_base64(bytes(513))),
        (("slots", "0"), "factors", ["passphrase", "enclave"]),
        (("slots", "0"), "factors", ["enclave", "enclave"]),
        (("slots", "0"), "factors", ["fingerprint"]),
        (("header",), "seqid", encode_base64(bytes(32))),
        (("header",), "binary", encode_base64(bytes(31))),
        (("mac",), "volume", encode_base64(bytes(33))),
        (("enclave",), "measurement", "AB" * 32),
        (("enclave",), "measurement", "ab" * 31),
        (("enclave",), "policy", "nobody"),
        (("enclave",), "key_id", "ab" * 32),
        (("enclave",), "debug", 0),
        (("enclave",), "product_id", 65536),
        (("enclave",), "security_version", True),
        (("enclave",), "tee", "Process"),
        ((), "version", 2),
        ((), "version", True),
        ((), "epoch", 0),
        ((), "epoch", "1"),
        ((), "keyslots", ["2", "0"]),
        ((), "keyslots", ["0", "1"]),
        ((), "keyslots", ["0", "0"]),
        ((), "type", "systemd-tpm2"),
    ],
)
def test_wrong_values(path: tuple[str, ...], key: str, wrong: object) -> None:
    value = tree()
    at(value, path)[key] = wrong
    with pytest.raises(FormatError):
        parse_token(3, value)


@pytest.mark.parametrize("keyslots", [(), (0,), (2,), (0, 2)])
def test_keyslots_may_be_fewer_than_slots(keyslots: tuple[int, ...]) -> None:
    """As cryptsetup luksKillSlot leaves it; the authenticated bytes stay the same."""
    value = tree() | {"keyslots": [str(number) for number in keyslots]}
    token = parse_token(3, value)
    assert (token.keyslots, token.slots) == (keyslots, TOKEN.slots)
    assert token.body() == TOKEN.body()


def test_removing_a_keyslot_removes_what_was_sealed_for_it() -> None:
    header = with_token(fresh(keyslots=3), tree(), number=3)
    for number, left in ((1, (0, 2)), (0, (2,)), (2, ())):
        header = without_keyslot(header, number)
        token = strongroom_token(header)
        assert token is not None
        assert (token.keyslots, tuple(token.slots)) == (left, left)


SLOTS = st.builds(
    SealedSlot,
    st.sampled_from([("enclave",), ("passphrase", "tpm"), ("enclave", "passphrase", "tpm")]),
    st.binary(min_size=81, max_size=81),
    st.binary(min_size=50, max_size=512),
)
CODES = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 65535)
SEALINGS = st.builds(
    Sealing,
    st.sampled_from(["process", "gramine"]),
    st.booleans(),
    st.sampled_from(["signer", "measurement"]),
    CODES,
    CODES,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    st.binary(min_size=16, max_size=16),
)


@given(
    sealing=SEALINGS,
    slots=st.dictionaries(st.integers(0, 31), SLOTS, max_size=4),
    epoch=st.integers(1, 2**53 - 1),
    codes=st.tuples(CODES, CODES),
)
def test_any_token_comes_back(
    sealing: Sealing, slots: dict[int, SealedSlot], epoch: int, codes: tuple[bytes, bytes]
) -> None:
    token = StrongroomToken(
        5, tuple(sorted(slots)), epoch, sealing, slots, PARTS, codes[0], codes[1]
    )
    assert parse_token(5, token.json()) == token

# SPDX-License-Identifier: Apache-2.0
"""Structure-aware mutations: whatever the tree turns into, only our own errors come out."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError, StrongroomError
from strongroom.luks2 import (
    WriteAt,
    commit_steps,
    describe,
    free_keyslot,
    load_header,
    unreferenced_areas,
    with_token,
    without_keyslot,
)
from strongroom.units import ByteCount

from .forge import HDR, IMAGE_BYTES, Tree, forge, keyslot, text_of, tree

pytestmark = pytest.mark.hostile

Container = dict[str, Any] | list[Any]

EDGES = [0, 1, 511, 512, 4096, 32768, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 512, 2**64 - 1]
WORDS = ["", "0", "dynamic", "crypt", "luks2", "raw", "pbkdf2", "argon2id", "cipher_null-ecb"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(EDGES),
    st.sampled_from(EDGES).map(str),
    st.sampled_from(WORDS),
    st.floats(allow_nan=False),
    st.text(max_size=40),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def rich_tree() -> Tree:
    value = tree()
    value["keyslots"]["1"] = keyslot(offset=290816) | {"priority": 2}
    value["keyslots"]["2"] = {"type": "new", "area": {"offset": "548864", "size": "4096"}}
    value["digests"]["0"]["keyslots"] = ["0", "1"]
    value["tokens"] = {
        "0": {"type": "clevis", "keyslots": ["1"]},
        "3": {"type": "x", "keyslots": []},
    }
    value["config"] |= {"flags": ["allow-discards"], "requirements": {"mandatory": []}}
    return value


def places(value: Container) -> Iterator[tuple[Any, Any]]:
    members = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, member in members:
        yield value, key
        if isinstance(member, dict | list):
            yield from places(member)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_metadata(data: st.DataObject) -> None:
    value = rich_tree()
    for _ in range(data.draw(st.integers(1, 4))):
        container, key = data.draw(st.sampled_from(list(places(value))))
        if data.draw(st.booleans()):
            container[key] = data.draw(VALUES)
        else:
            del container[key]
        if not value:
            break
    use_all(forge(text=text_of(value)[: HDR - 4097]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_text(data: st.DataObject) -> None:
    text = bytearray(text_of(rich_tree()))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 20, len(text))))
        text[start:end] = data.draw(st.binary(max_size=20))
    use_all(forge(text=bytes(text)))


def use_all(private_copy: bytes) -> None:
    """Load, and if that works use everything that the result offers."""
    start = time.process_time()
    try:
        loaded = load_header(private_copy, image_size_bytes=ByteCount(IMAGE_BYTES), detached=False)
        header = loaded.header
        text_of(describe(header, loaded=loaded))
        unreferenced_areas(header)
        header.unlock_order()
        first = commit_steps(header)[0]
        assert isinstance(first, WriteAt)
        assert first.data[4096:].rstrip(b"\0") == header.metadata.json_text
        free_keyslot(header)
        with_token(header, {"type": "x", "keyslots": []})
        without_keyslot(header, 0)
    except StrongroomError as err:
        assert isinstance(err, FormatError) or err.exit_code == 5  # noqa: PT017
        assert err.message.isprintable()  # noqa: PT017
    assert time.process_time() - start < 0.5

# SPDX-License-Identifier: Apache-2.0
"""UUIDs of ours are those of the standard library."""

import uuid

import pytest

from strongroom.uuids import is_uuid, new_uuid, uuid_bytes

KNOWN = "F81D4FAE-7dec-11d0-a765-00a0c91e6bf6"


def test_bytes_are_those_of_the_standard_library() -> None:
    assert uuid_bytes(KNOWN) == uuid.UUID(KNOWN).bytes


def test_new_ones_are_random_and_of_version_4() -> None:
    made = [new_uuid() for _ in range(200)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


@pytest.mark.parametrize(
    "text", ["", KNOWN[:-1], KNOWN + "0", KNOWN.replace("-", ""), f"{{{KNOWN}}}", KNOWN + "\n"]
)
def test_another_form_is_refused(text: str) -> None:
    assert not is_uuid(text)
    with pytest.raises(ValueError, match="not a UUID"):
        uuid_bytes(text)

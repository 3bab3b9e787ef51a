# SPDX-License-Identifier: Apache-2.0
"""Handles, and the Names of what has no public area. Spec: TPM 2.0 Part 1, 16."""

import pytest

from strongroom.tpm import ENDORSEMENT, NULL, OWNER, Entity
from strongroom.tpm.entities import LOCKOUT, PLATFORM, permanent

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("entity", "handle"),
    [
        (OWNER, 0x40000001),
        (NULL, 0x40000007),
        (LOCKOUT, 0x4000000A),
        (ENDORSEMENT, 0x4000000B),
        (PLATFORM, 0x4000000C),
    ],
)
def test_a_hierarchy_is_named_by_its_handle(entity: Entity, handle: int) -> None:
    assert entity == Entity(handle, handle.to_bytes(4, "big"))


def test_a_pcr_and_a_session_are_too() -> None:
    assert permanent(16).name == bytes.fromhex("00000010")
    assert permanent(0x03000001).name == bytes.fromhex("03000001")

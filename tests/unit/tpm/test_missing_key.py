# SPDX-License-Identifier: Apache-2.0
"""Which refusals say that the enrolled key is not there, and which say something else."""

import pytest

from strongroom.tpm.codes import proves_missing_key

pytestmark = pytest.mark.unit

MISSING = (0x18B, 0x910, 0x19C, 0x182, 0x2C4, 0x2D5, 0x9A2, 0x98E)
OTHERWISE = (
    *(0x100, 0x101, 0x120, 0x121, 0x143, 0x085, 0x28B, 0xA8B),
    *range(0x901, 0x910),
    *range(0x911, 0x917),
    *range(0x920, 0x924),
)


@pytest.mark.parametrize("code", MISSING)
def test_what_a_tpm_without_the_key_answers(code: int) -> None:
    assert proves_missing_key(code)


@pytest.mark.parametrize("code", OTHERWISE)
def test_what_says_nothing_about_the_key(code: int) -> None:
    assert not proves_missing_key(code)

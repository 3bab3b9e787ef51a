# SPDX-License-Identifier: Apache-2.0
"""What a refusal of the TPM becomes."""

import pytest

from strongroom.errors import TpmChangedError, TpmError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Command
from strongroom.tpm.entities import ENDORSEMENT, OWNER, Entity
from strongroom.tpm.refusals import refusal

pytestmark = pytest.mark.unit

INDEX = Entity(0x01800001, b"its name")
KEY = Entity(0x81000001, b"its name")
READ: Command[bytes] = Command(CommandCode.NV_READ, (INDEX, INDEX), 1)
DEFINE: Command[bytes] = Command(CommandCode.NV_DEFINE_SPACE, (OWNER,), 1)
MAKE: Command[bytes] = Command(CommandCode.CREATE_PRIMARY, (ENDORSEMENT,), 1)
EVICT: Command[bytes] = Command(CommandCode.EVICT_CONTROL, (OWNER, KEY), 1)
QUOTE: Command[bytes] = Command(CommandCode.QUOTE, (KEY,), 1)
UNSEAL: Command[bytes] = Command(CommandCode.UNSEAL, (Entity(0x80000001, b"its name"),), 1)
CLOCK: Command[bytes] = Command(CommandCode.READ_CLOCK)


@pytest.mark.parametrize(
    ("command", "code", "hint"),
    [
        (DEFINE, 0x9A2, "`tpm2_changeauth -c owner -p PASSWORD`"),
        (MAKE, 0x98E, "`tpm2_changeauth -c endorsement -p PASSWORD`"),
        (READ, 0x9A2, "--auth-file"),
        (READ, 0x98E, "--auth-file"),
        (UNSEAL, 0x98E, "--auth-file"),
        (DEFINE, 0x921, "tpm2_dictionarylockout"),
        (MAKE, 0x902, "tpm2_flushcontext -t"),
        (MAKE, 0x903, "tpm2_flushcontext -l"),
        (MAKE, 0x905, "device:/dev/tpmrm0"),
        (CLOCK, 0x100, "tpm2_startup -c"),
        (READ, 0x99D, "PCRs have changed"),
        (EVICT, 0x1DF, "of another TPM"),
        (DEFINE, 0x14B, "strongroom tpm nv list"),
        (READ, 0x28B, "strongroom tpm nv list"),
    ],
)
def test_a_refusal_says_what_to_do(command: Command[bytes], code: int, hint: str) -> None:
    error = refusal(command, code)
    assert type(error) is TpmError
    assert error.code == code
    assert hint in error.hint


@pytest.mark.parametrize(
    ("command", "code"),
    [
        # Another session than the one that authorizes: nobody gave a value.
        (CLOCK, 0x9A2),
        (READ, 0xAA2),
        (READ, 0x8A2),
        (QUOTE, 0x9A2),
        # Not an index.
        (EVICT, 0x28B),
        (CLOCK, 0x18B),
        # Bits of a parameter's number are none of a session.
        (DEFINE, 0x9E2),
        (CLOCK, 0xFFFFFFFF),
    ],
)
def test_where_nothing_is_known_nothing_is_advised(command: Command[bytes], code: int) -> None:
    assert refusal(command, code).hint == ""


@pytest.mark.parametrize("code", [0x910, 0x918])
def test_what_was_lost_is_a_change(code: int) -> None:
    error = refusal(READ, code)
    assert isinstance(error, TpmChangedError)
    assert "begin again" in error.hint


def test_a_message_names_the_command() -> None:
    assert refusal(DEFINE, 0x14C).message.startswith("the TPM refused nv define space: nv defined")

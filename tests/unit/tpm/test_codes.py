# SPDX-License-Identifier: Apache-2.0
"""What a response code says. Spec: TPM 2.0 Part 2, 6.6.2 "TPM_RC Values"."""

import pytest

from strongroom.tpm.codes import BUSY_CODES, describe

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("code", "said"),
    [
        # Format zero: about the command.
        (0x100, "initialize: the TPM was not started"),
        (0x101, "failure: the TPM has failed its self-test: it needs a reset"),
        (0x14C, "nv defined: the NV index exists already"),
        # Warnings.
        (0x901, "context gap: too many sessions were saved"),
        (0x902, "object memory: the TPM has no room for another object"),
        (0x921, "lockout: too many wrong authorizations: the TPM is locked out for a while"),
        (0x922, "retry: the TPM was busy"),
        # Format one: about a handle, a parameter or a session.
        (0x18B, "handle: there is nothing under this handle, handle 1"),
        (0x28B, "handle: there is nothing under this handle, handle 2"),
        (0x98E, "auth fail: the authorization value is wrong, and a try is counted, session 1"),
        (0x9A2, "bad auth: the authorization value is wrong, session 1"),
        (0xFA2, "bad auth: the authorization value is wrong, session 7"),
        (0x1C4, "value: a value is out of range, or there is no such thing, parameter 1"),
        (0x4C4, "value: a value is out of range, or there is no such thing, parameter 4"),
        (0xFD5, "size: a structure has the wrong size, parameter 15"),
        (0x99D, "policy fail: a policy is not satisfied, session 1"),
        (
            0x1DF,
            "integrity: the blob belongs to another TPM or parent, or was changed, parameter 1",
        ),
        # Known to nobody.
        (0x1AA, "unknown reason, handle 1"),
        (0x900, "unknown reason"),
        (0x001, "unknown reason"),
        # A resource manager's own: the number tells whose.
        (0x000B0902, "unknown reason"),
        (0xFFFFFFFF, "unknown reason, parameter 15"),
    ],
)
def test_a_code_is_described(code: int, said: str) -> None:
    assert describe(code) == f"{said} (TPM_RC {code:#05x})"


def test_every_code_is_described() -> None:
    for code in range(0x1000):
        assert describe(code).endswith(f"(TPM_RC {code:#05x})")


def test_a_busy_tpm_says_so_in_a_warning() -> None:
    assert {describe(code).partition(":")[0] for code in BUSY_CODES} == {
        "yielded",
        "testing",
        "nv rate",
        "retry",
    }

# SPDX-License-Identifier: Apache-2.0
"""Digests of policies against known answers; beside a TPM they are in ``interop``."""

import hashlib

import pytest

from strongroom.tpm import ENDORSEMENT, OWNER, KeyKind, PcrSelection, endorsement_template, policy
from tests.unit.tpm.known import WRITTEN_COUNTER_NAME

pytestmark = pytest.mark.unit

ZEROED = PcrSelection.of([0, 16]).digest_of({0: bytes(32), 16: bytes(32)})
PCRS = "eaba795a1470d109ab9532d03d4eeec2ebcd8dff15bb650343d1edd10cfb8d5c"
BOTH = "e7e069f5575efce12f2fa19e5e6cfcd07fcdcf6fb35ec1c63c39ebc608a1f04e"
AUTH_VALUE = "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e"
OWNER_SHOWN = "ef2b16047fa3786819dcc3146a411f5cc85a312f1af1f784f11fef4a50ab85ba"
AT_MOST_FIVE = "b4dd9710cf8f408d56877c916ebc8944a623b90e2c846a8bcc632745dd5e902e"
"""Written by tpm2-tools 5.4, ``-L``, in sessions of swtpm 0.7.1."""


def test_the_policy_of_endorsement_keys() -> None:
    """Spec: TCG EK Credential Profile 2.5, B.6.2 "PolicyA"."""
    digest = policy.secret(policy.EMPTY, ENDORSEMENT.name)
    assert digest.hex() == "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    assert digest == endorsement_template(KeyKind.P256).policy


def test_pcrs_then_the_value() -> None:
    digest = policy.pcr(policy.EMPTY, PcrSelection.of([0, 16]), ZEROED)
    assert digest.hex() == PCRS
    assert policy.auth_value(digest).hex() == BOTH
    assert policy.auth_value(policy.EMPTY).hex() == AUTH_VALUE


def test_the_order_of_steps_counts() -> None:
    after = policy.auth_value(policy.EMPTY)
    assert policy.pcr(after, PcrSelection.of([0, 16]), ZEROED).hex() != BOTH


def test_a_secret_with_a_reference() -> None:
    assert policy.secret(policy.EMPTY, OWNER.name, b"\xaa\xbb").hex() == OWNER_SHOWN
    assert policy.secret(policy.EMPTY, OWNER.name).hex() != OWNER_SHOWN


def test_what_an_index_holds() -> None:
    operand = (5).to_bytes(8, "big")
    digest = policy.nv(policy.EMPTY, WRITTEN_COUNTER_NAME, operand, policy.UNSIGNED_LE)
    assert digest.hex() == AT_MOST_FIVE
    for other in (
        policy.nv(policy.EMPTY, WRITTEN_COUNTER_NAME, operand, 0),
        policy.nv(policy.EMPTY, WRITTEN_COUNTER_NAME, bytes(8), policy.UNSIGNED_LE),
        policy.nv(policy.EMPTY, WRITTEN_COUNTER_NAME[:-1] + b"\0", operand, policy.UNSIGNED_LE),
    ):
        assert other != digest


def test_the_digest_of_pcrs_is_of_their_values() -> None:
    assert hashlib.sha256(bytes(64)).digest() == ZEROED

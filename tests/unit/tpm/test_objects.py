# SPDX-License-Identifier: Apache-2.0
"""Public areas: what they say, what their Name is, and whether they are what was asked for."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import TpmError, TpmTamperedError
from strongroom.tpm import (
    Algorithm,
    KeyKind,
    PublicArea,
    attestation_template,
    endorsement_template,
    sealed_template,
    storage_root_template,
)
from strongroom.tpm.marshal import sized, u16
from strongroom.tpm.objects import ObjectAttribute, without_unique
from tests.unit.tpm.known import KEYS, STORAGE

pytestmark = pytest.mark.unit

CURVES = {KeyKind.P256: ec.SECP256R1(), KeyKind.P384: ec.SECP384R1()}
TEMPLATES = (
    storage_root_template(),
    endorsement_template(KeyKind.P256),
    endorsement_template(KeyKind.P384),
    endorsement_template(KeyKind.RSA2048),
    attestation_template(),
    sealed_template(b"", with_auth=True),
    sealed_template(bytes(32), with_auth=False),
)


@pytest.mark.parametrize(("public", "name", "kind"), KEYS)
def test_a_key_is_what_tools_say(public: PublicArea, name: bytes, kind: KeyKind) -> None:
    assert public.name == name
    assert public.kind == Algorithm.ECC
    assert not public.policy
    key = public.key()
    assert key.kind is kind
    x, y = key.numbers
    # Raises unless the point is on the curve, which misread numbers are not.
    ec.EllipticCurvePublicNumbers(x, y, CURVES[kind]).public_key()
    wanted = ObjectAttribute.RESTRICTED | ObjectAttribute.DECRYPT | ObjectAttribute.USER_WITH_AUTH
    assert wanted in public.attributes
    assert ObjectAttribute.SIGN not in public.attributes


def test_a_name_is_made_of_every_byte() -> None:
    for place in range(len(STORAGE.wire)):
        changed = bytearray(STORAGE.wire)
        changed[place] ^= 1
        with contextlib.suppress(TpmError):
            assert PublicArea(bytes(changed)).name != STORAGE.name


@pytest.mark.parametrize("algorithm", [Algorithm.NULL, Algorithm.SM3_256, 0xFFFF])
def test_a_name_of_an_unknown_hash_is_refused(algorithm: int) -> None:
    public = PublicArea(STORAGE.wire[:2] + u16(algorithm) + STORAGE.wire[4:])
    with pytest.raises(TpmError, match=r"the hash \w+ is not supported"):
        _ = public.name


def test_a_key_that_is_cut_or_followed_by_something_has_none() -> None:
    for length in range(len(STORAGE.wire)):
        with pytest.raises(TpmTamperedError):
            PublicArea(STORAGE.wire[:length]).key()
    with pytest.raises(TpmTamperedError, match="followed by"):
        PublicArea(STORAGE.wire + b"\0").key()


def test_a_key_of_another_kind_or_curve_has_none() -> None:
    with pytest.raises(TpmTamperedError, match="another kind"):
        sealed_template(b"", with_auth=True).key()
    p256 = u16(KeyKind.P256.curve_or_bits) + u16(Algorithm.NULL)
    assert STORAGE.wire.count(p256) == 1
    p521 = STORAGE.wire.replace(p256, u16(0x0005) + u16(Algorithm.NULL))
    with pytest.raises(TpmTamperedError, match="another curve"):
        PublicArea(p521).key()


@pytest.mark.parametrize("template", TEMPLATES)
def test_only_the_key_itself_may_differ_from_a_template(template: PublicArea) -> None:
    fixed = without_unique(template)
    made = PublicArea(fixed + sized(b"x" * 32) + sized(b"y" * 32))
    assert made.is_made_from(template)
    for bit in range(8 * len(fixed)):
        changed = bytearray(made.wire)
        changed[bit // 8] ^= 0x80 >> bit % 8
        with contextlib.suppress(TpmTamperedError):
            assert not PublicArea(bytes(changed)).is_made_from(template), bit


def test_no_template_is_made_from_another() -> None:
    for template in TEMPLATES:
        assert [template.is_made_from(other) for other in TEMPLATES].count(True) == 1


@given(st.binary(max_size=200) | st.builds(lambda end: STORAGE.wire[:20] + end, st.binary()))
def test_nothing_else_is_raised_for_any_bytes(wire: bytes) -> None:
    public, template = PublicArea(wire), storage_root_template()
    for read in (
        lambda: public.kind,
        lambda: public.name_algorithm,
        lambda: public.attributes,
        lambda: public.policy,
        lambda: public.name,
        public.key,
        lambda: public.is_made_from(template),
    ):
        with contextlib.suppress(TpmError):
            read()

# SPDX-License-Identifier: Apache-2.0
"""Public areas of keys and sealed data: what is asked for, and what was made.

Spec: TPM 2.0 Part 2, 12.2.4 "TPMT_PUBLIC"; TCG EK Credential Profile 2.5, B.3 and B.4;
TCG TPM v2.0 Provisioning Guidance 7.5 for the storage root key.
"""

import enum
from typing import Final

from strongroom.errors import InternalError, TpmTamperedError
from strongroom.tpm.algorithms import Algorithm, KeyKind, digest
from strongroom.tpm.marshal import Reader, sized, u16, u32
from strongroom.values import dataclass


class ObjectAttribute(enum.IntFlag):
    """A bit of ``TPMA_OBJECT``. Spec: TPM 2.0 Part 2, 8.3."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


_MADE_HERE: Final = (
    ObjectAttribute.FIXED_TPM | ObjectAttribute.FIXED_PARENT | ObjectAttribute.SENSITIVE_DATA_ORIGIN
)
_STORAGE: Final = ObjectAttribute.RESTRICTED | ObjectAttribute.DECRYPT
_AES_CFB: Final = {bits: u16(Algorithm.AES) + u16(bits) + u16(Algorithm.CFB) for bits in (128, 256)}
_NO_ALGORITHM: Final = u16(Algorithm.NULL)
_DEFAULT_EXPONENT: Final = 0
_EXPONENTS: Final = (_DEFAULT_EXPONENT, 65537)
"""Two ways of writing the same."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key of a public area."""

    kind: KeyKind
    numbers: tuple[int, ...]
    """x and y of the point; or the modulus, to which the exponent is 65537."""


@dataclass(frozen=True, slots=True)
class PublicArea:
    """A ``TPMT_PUBLIC``, as it is on the wire."""

    wire: bytes

    @property
    def kind(self) -> int:
        """The algorithm of the object."""
        return Reader(self.wire).u16()

    @property
    def name_algorithm(self) -> int:
        """The hash of its Name."""
        return Reader(self.wire[2:]).u16()

    @property
    def attributes(self) -> ObjectAttribute:
        """What may be done with it."""
        return ObjectAttribute(Reader(self.wire[4:]).u32())

    @property
    def policy(self) -> bytes:
        """The digest of its policy; empty without one."""
        return Reader(self.wire[8:]).sized()

    @property
    def name(self) -> bytes:
        """The Name, made from every byte. Spec: TPM 2.0 Part 1, 16.

        Raises:
            TpmError: Its hash is none that this machine computes.
        """
        return u16(self.name_algorithm) + digest(self.name_algorithm, self.wire)

    def key(self) -> PublicKey:
        """Return the key. Whether its point is on the curve is for who uses it to check.

        Raises:
            TpmTamperedError: It is no asymmetric key, or of a kind that is not ours.
        """
        reader = Reader(self.wire)
        kind = _skip_asymmetric(reader, _skip_to_parameters(reader))
        unique = [reader.sized()]
        if kind.algorithm is Algorithm.ECC:
            unique.append(reader.sized())
        reader.end()
        numbers = tuple(int.from_bytes(number, "big") for number in unique)
        if kind.algorithm is Algorithm.RSA and not (
            8 * len(unique[0]) == numbers[0].bit_length() == kind.curve_or_bits
        ):
            raise TpmTamperedError("the modulus of the key is shorter or longer than it says")
        return PublicKey(kind, numbers)

    def is_made_from(self, template: "PublicArea") -> bool:
        """Tell whether this is what a template asked for: all but the key itself."""
        return without_unique(self) == without_unique(template)


def without_unique(public: PublicArea) -> bytes:
    """Return a public area up to the part that is of one key alone.

    Raises:
        TpmTamperedError: It is of a kind that Strongroom does not make.
    """
    reader = Reader(public.wire)
    algorithm = _skip_to_parameters(reader)
    if algorithm == Algorithm.KEYEDHASH:
        if reader.u16() != Algorithm.NULL:
            raise TpmTamperedError("sealed data has a scheme")
    else:
        _skip_asymmetric(reader, algorithm)
    return public.wire[: len(public.wire) - len(reader.rest())]


def _skip_to_parameters(reader: Reader) -> int:
    """Take what all public areas begin with, and return the algorithm."""
    algorithm = reader.u16()
    reader.take(6)
    reader.sized()
    return algorithm


def _skip_asymmetric(reader: Reader, algorithm: int) -> KeyKind:
    """Take the parameters of an asymmetric key, and return its kind.

    Raises:
        TpmTamperedError: It is of another kind, or its exponent is not 65537.
    """
    if algorithm not in (Algorithm.ECC, Algorithm.RSA):
        raise TpmTamperedError("the object is of another kind than was asked for")
    if reader.u16() != Algorithm.NULL:
        reader.take(4)
    if reader.u16() != Algorithm.NULL:
        reader.take(2)
    curve_or_bits = reader.u16()
    if algorithm == Algorithm.ECC:
        if reader.u16() != Algorithm.NULL:
            reader.take(2)
    elif reader.u32() not in _EXPONENTS:
        raise TpmTamperedError("the key has another exponent than 65537")
    try:
        return KeyKind((algorithm, curve_or_bits))
    except ValueError:
        raise TpmTamperedError("the key is on another curve, or of another length") from None


def _ecc(
    name_algorithm: Algorithm,
    attributes: ObjectAttribute,
    policy: bytes,
    *,
    cipher: bytes,
    scheme: bytes,
    kind: KeyKind,
    unique_bytes: int,
) -> PublicArea:
    unique = sized(bytes(unique_bytes))
    return PublicArea(
        u16(Algorithm.ECC)
        + u16(name_algorithm)
        + u32(attributes)
        + sized(policy)
        + cipher
        + scheme
        + u16(kind.curve_or_bits)
        + _NO_ALGORITHM
        + unique
        + unique
    )


def storage_root_template() -> PublicArea:
    """Return the template of the storage root key: ECC P-256, as systemd and Linux make it."""
    return _ecc(
        Algorithm.SHA256,
        _MADE_HERE | _STORAGE | ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.NO_DA,
        b"",
        cipher=_AES_CFB[128],
        scheme=_NO_ALGORITHM,
        kind=KeyKind.P256,
        unique_bytes=0,
    )


_POLICY_A_SHA256: Final = bytes.fromhex(
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
)
_POLICY_B_SHA384: Final = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca"
    "cb47ba09699646150f9fc000f3f80e12"
)
_ENDORSEMENT: Final = {
    KeyKind.P256: _ecc(
        Algorithm.SHA256,
        _MADE_HERE | _STORAGE | ObjectAttribute.ADMIN_WITH_POLICY,
        _POLICY_A_SHA256,
        cipher=_AES_CFB[128],
        scheme=_NO_ALGORITHM,
        kind=KeyKind.P256,
        unique_bytes=32,
    ),
    KeyKind.P384: _ecc(
        Algorithm.SHA384,
        _MADE_HERE | _STORAGE | ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.ADMIN_WITH_POLICY,
        _POLICY_B_SHA384,
        cipher=_AES_CFB[256],
        scheme=_NO_ALGORITHM,
        kind=KeyKind.P384,
        unique_bytes=0,
    ),
    KeyKind.RSA2048: PublicArea(
        u16(Algorithm.RSA)
        + u16(Algorithm.SHA256)
        + u32(_MADE_HERE | _STORAGE | ObjectAttribute.ADMIN_WITH_POLICY)
        + sized(_POLICY_A_SHA256)
        + _AES_CFB[128]
        + _NO_ALGORITHM
        + u16(KeyKind.RSA2048.curve_or_bits)
        + u32(_DEFAULT_EXPONENT)
        + sized(bytes(256))
    ),
}


def endorsement_template(kind: KeyKind) -> PublicArea:
    """Return the template of an endorsement key: L-2 on P-256, H-3 on P-384, L-1 for RSA 2048.

    Raises:
        InternalError: It is of another kind.

    Spec: TCG EK Credential Profile 2.5, B.3.3 "Template L-1", B.3.4 "Template L-2" and B.4.5
    "Template H-3".
    """
    try:
        return _ENDORSEMENT[kind]
    except KeyError:
        raise InternalError(f"there is no template of an endorsement key {kind.name}") from None


def attestation_template() -> PublicArea:
    """Return the template of an attestation key: restricted, ECDSA on P-256 with SHA-256."""
    return _ecc(
        Algorithm.SHA256,
        _MADE_HERE
        | ObjectAttribute.RESTRICTED
        | ObjectAttribute.SIGN
        | ObjectAttribute.USER_WITH_AUTH
        | ObjectAttribute.NO_DA,
        b"",
        cipher=_NO_ALGORITHM,
        scheme=u16(Algorithm.ECDSA) + u16(Algorithm.SHA256),
        kind=KeyKind.P256,
        unique_bytes=0,
    )


def sealed_template(policy: bytes, *, with_auth: bool, counts_guesses: bool = False) -> PublicArea:
    """Return the template of sealed data.

    Args:
        policy: Digest of the policy that opens it, or nothing.
        with_auth: Its authorization value alone opens it too. Without a policy it has to.
        counts_guesses: The TPM counts wrong authorization values, and locks itself after some. For
            values that a person chose: 256 random bits need no counting, and a TPM that another
            program has locked still opens what they protect.

    Spec: TPM 2.0 Part 1, 19.8 "Dictionary Attack Protection"; Part 2, 8.3, ``noDA``.
    """
    attributes = (
        ObjectAttribute.FIXED_TPM | ObjectAttribute.FIXED_PARENT | ObjectAttribute.ADMIN_WITH_POLICY
    )
    if not counts_guesses:
        attributes |= ObjectAttribute.NO_DA
    if with_auth:
        attributes |= ObjectAttribute.USER_WITH_AUTH
    return PublicArea(
        u16(Algorithm.KEYEDHASH)
        + u16(Algorithm.SHA256)
        + u32(attributes)
        + sized(policy)
        + _NO_ALGORITHM
        + sized(b"")
    )

# SPDX-License-Identifier: Apache-2.0
"""Whether a TPM is one of a maker that the operator trusts: the certificate of its endorsement key.

The certificate was read in a session that is salted to the endorsement key; here it is shown to
be about that very key, and to lead to a root certificate in a directory of the operator's.
Revocation lists are not looked at: makers publish them by name on the network.

Spec: TCG EK Credential Profile 2.5, 3.2 for the extensions; RFC 5280, 6 for the path.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from strongroom.errors import NoPermissionError, TpmUntrustedError, UsageError
from strongroom.tpm import KeyKind, PublicArea
from strongroom.values import dataclass

_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_FILES: Final = 1000
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_EK_CERTIFICATE: Final = x509.ObjectIdentifier("2.23.133.8.1")
_ASN1_SEQUENCE: Final = 0x30
_ASN1_TWO_BYTES_OF_LENGTH: Final = 0x82
_HEADER_BYTES: Final = 4
_CURVES: Final[dict[KeyKind, ec.EllipticCurve]] = {
    KeyKind.P256: ec.SECP256R1(),
    KeyKind.P384: ec.SECP384R1(),
}
_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True)
class Authorities:
    """Certificates of makers: those that are trusted, and those that may lead to them."""

    roots: tuple[x509.Certificate, ...]
    between: tuple[x509.Certificate, ...]
    unreadable: tuple[str, ...]
    """Files that hold no certificate."""


def read_authorities(directory: Path) -> Authorities:
    """Read the certificates in a directory: PEM or DER, one or several in a file.

    Who signed himself is a root; all others only lead to one.

    Raises:
        UsageError: There is no root in it, or it is no directory.
        NoPermissionError: It may not be read.
    """
    roots: list[x509.Certificate] = []
    between: list[x509.Certificate] = []
    unreadable: list[str] = []
    for path, content in _files(directory):
        try:
            for certificate in _certificates(content):
                is_root = certificate.issuer == certificate.subject
                (roots if is_root else between).append(certificate)
        except ValueError:
            unreadable.append(path.name)
    if not roots:
        raise UsageError(
            f"there is no root certificate in {directory}",
            hint=f"makers publish them; files are read that end in {', '.join(sorted(_SUFFIXES))}",
        )
    return Authorities(tuple(roots), tuple(between), tuple(unreadable))


def verify(certificate: bytes, endorsement: PublicArea, authorities: Authorities) -> str:
    """Return the name of the root that vouches for an endorsement key.

    Args:
        certificate: X.509 in DER, as the TPM holds it.
        endorsement: The key that the TPM has shown to have.
        authorities: Whom the operator trusts.

    Raises:
        TpmUntrustedError: Nobody does. The reason is said.
    """
    try:
        parsed = x509.load_der_x509_certificate(_without_padding(certificate))
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        issuer = parsed.issuer.rfc4514_string()
    except (ValueError, UnsupportedAlgorithm) as err:
        raise TpmUntrustedError(f"the TPM's certificate cannot be read: {err}") from err
    if key != _public_key(endorsement):
        raise TpmUntrustedError(
            "the TPM's certificate is of another endorsement key than the one that it has"
        )
    builder = PolicyBuilder().store(Store(list(authorities.roots)))
    builder = builder.time(dt.datetime.now(dt.UTC))
    builder = builder.extension_policies(ca_policy=_OF_AUTHORITIES, ee_policy=_OF_KEYS)
    try:
        chain = builder.build_client_verifier().verify(parsed, list(authorities.between)).chain
    except VerificationError as err:
        raise TpmUntrustedError(
            f"nobody who is trusted vouches for this TPM: {err}",
            hint=f"its certificate was issued by {issuer}",
        ) from err
    return chain[-1].subject.rfc4514_string()


def _files(directory: Path) -> Iterator[tuple[Path, bytes]]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES)
        if len(paths) > _MAX_FILES:
            raise UsageError(f"{directory} holds more than {_MAX_FILES} files")
        for path in paths:
            if path.is_file():
                with path.open("rb") as file:
                    yield path, file.read(_MAX_FILE_BYTES)
    except PermissionError as err:
        raise NoPermissionError(f"cannot read {err.filename}: {err.strerror}") from err
    except OSError as err:
        raise UsageError(f"cannot read {directory}: {(err.strerror or 'failed').lower()}") from err


def _certificates(content: bytes) -> list[x509.Certificate]:
    if _PEM in content:
        return x509.load_pem_x509_certificates(content)
    return [x509.load_der_x509_certificate(content)]


def _without_padding(certificate: bytes) -> bytes:
    """Return the certificate alone: NV indexes of some makers are larger than what is in them."""
    if certificate[:2] != bytes([_ASN1_SEQUENCE, _ASN1_TWO_BYTES_OF_LENGTH]):
        return certificate
    return certificate[: _HEADER_BYTES + int.from_bytes(certificate[2:_HEADER_BYTES], "big")]


def _public_key(endorsement: PublicArea) -> bytes:
    key = endorsement.key()
    numbers: ec.EllipticCurvePublicNumbers | rsa.RSAPublicNumbers
    if key.kind in _CURVES:
        x, y = key.numbers
        numbers = ec.EllipticCurvePublicNumbers(x, y, _CURVES[key.kind])
    else:
        (modulus,) = key.numbers
        numbers = rsa.RSAPublicNumbers(_EXPONENT, modulus)
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_authority(
    _policy: Policy, _certificate: x509.Certificate, found: x509.BasicConstraints
) -> None:
    if not found.ca:
        raise ValueError("its issuer is no authority")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("its issuer may not sign certificates")


def _is_of_a_tpm(
    _policy: Policy, _certificate: x509.Certificate, found: x509.ExtendedKeyUsage | None
) -> None:
    if found is not None and _EK_CERTIFICATE not in found:
        raise ValueError("it is no certificate of an endorsement key")


# Certificates of TPMs follow another profile than those of web servers, on which the ready-made
# policies insist. What is left to these is the path: signatures, names, dates and lengths.
_OF_AUTHORITIES: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_OF_KEYS: Final = ExtensionPolicy.permit_all().may_be_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _is_of_a_tpm
)

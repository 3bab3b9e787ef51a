# SPDX-License-Identifier: Apache-2.0
"""Certificates of endorsement keys: each way in which one does not lead to a trusted maker."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from strongroom.errors import TpmUntrustedError, UsageError
from strongroom.host.tpm.certificates import read_authorities, verify
from strongroom.tpm import KeyKind, PublicArea, endorsement_template
from strongroom.tpm.marshal import sized
from strongroom.tpm.objects import without_unique

pytestmark = pytest.mark.unit

DAY: Final = dt.timedelta(days=1)
NOW: Final = dt.datetime.now(dt.UTC)
EK_CERTIFICATE: Final = x509.ObjectIdentifier("2.23.133.8.1")
WEB_SERVER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
UNKNOWN: Final = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")


OTHER_USES: Final = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


ROOT, MAKER, MODEL, EK = (new_key() for _ in range(4))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclasses.dataclass(frozen=True)
class Made:
    """How a certificate is made; each test changes one thing."""

    subject: str
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    issuer: str
    signer: ec.EllipticCurvePrivateKey
    authority: bool = True
    path_length: int | None = None
    may_sign: bool = True
    purpose: x509.ObjectIdentifier | None = None
    until: dt.datetime = NOW + DAY
    critical: bool = False

    def certificate(self) -> x509.Certificate:
        usage = dict.fromkeys(OTHER_USES, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(self.subject) if self.subject else x509.Name([]))
            .issuer_name(name(self.issuer))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(self.until)
            .add_extension(x509.BasicConstraints(self.authority, self.path_length), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not self.may_sign,
                    key_agreement=not self.authority,
                    key_cert_sign=self.authority and self.may_sign,
                    **usage,
                ),
                critical=True,
            )
        )
        if self.purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([self.purpose]), critical=False)
        if not self.authority:
            directory = x509.DirectoryName(name("id:00001014"))
            builder = builder.add_extension(x509.SubjectAlternativeName([directory]), critical=True)
        if self.critical:
            builder = builder.add_extension(UNKNOWN, critical=True)
        return builder.sign(self.signer, hashes.SHA256())


OF_ROOT: Final = Made("root", ROOT, "root", ROOT)
OF_MAKER: Final = Made("maker", MAKER, "root", ROOT, purpose=EK_CERTIFICATE)
OF_MODEL: Final = Made("model", MODEL, "maker", MAKER)
OF_EK: Final = Made("", EK, "model", MODEL, authority=False, may_sign=False, purpose=EK_CERTIFICATE)
HONEST: Final = (OF_ROOT, OF_MAKER, OF_MODEL, OF_EK)


def endorsement(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> PublicArea:
    """Return an endorsement key's public area, as a TPM makes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = sized(key.public_key().public_numbers().n.to_bytes(256, "big"))
        return PublicArea(without_unique(endorsement_template(KeyKind.RSA2048)) + modulus)
    point = key.public_key().public_numbers()
    unique = sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big"))
    return PublicArea(without_unique(endorsement_template(KeyKind.P256)) + unique)


def judged(place: Path, chain: tuple[Made, ...], *, padding: bytes = b"") -> str:
    """Verify the last certificate with all others in a directory."""
    *others, last = (made.certificate() for made in chain)
    for number, other in enumerate(others):
        der = number % 2
        encoding = serialization.Encoding.DER if der else serialization.Encoding.PEM
        path = place / f"{number}.{'der' if der else 'pem'}"
        path.write_bytes(other.public_bytes(encoding))
    content = last.public_bytes(serialization.Encoding.DER)
    return verify(content + padding, endorsement(chain[-1].key), read_authorities(place))


@pytest.mark.parametrize("padding", [b"", bytes(100), b"\xff" * 100])
def test_a_chain_leads_to_its_root(tmp_path: Path, padding: bytes) -> None:
    assert judged(tmp_path, HONEST, padding=padding) == "CN=root"


def changed(position: int, **what: object) -> Callable[[], tuple[Made, ...]]:
    def chain() -> tuple[Made, ...]:
        made = list(HONEST)
        made[position] = dataclasses.replace(made[position], **what)  # type: ignore[arg-type]
        return tuple(made)

    return chain


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(changed(3, signer=new_key()), id="a forged signature"),
        pytest.param(changed(2, signer=new_key()), id="a forged authority"),
        pytest.param(changed(1, signer=new_key()), id="a forged maker"),
        pytest.param(changed(3, issuer="maker"), id="another issuer"),
        pytest.param(changed(3, until=NOW - DAY), id="out of date"),
        pytest.param(changed(1, until=NOW - DAY), id="an authority out of date"),
        pytest.param(changed(3, purpose=WEB_SERVER), id="a web server's"),
        pytest.param(changed(3, critical=True), id="a condition that nobody understands"),
        pytest.param(changed(1, critical=True), id="such a condition of an authority"),
        pytest.param(changed(2, authority=False), id="signed by somebody who is no authority"),
        pytest.param(changed(2, may_sign=False), id="signed by somebody who may not"),
        pytest.param(changed(1, path_length=0), id="a longer path than the maker allows"),
        pytest.param(lambda: (OF_ROOT, OF_MODEL, OF_EK), id="a missing link"),
    ],
)
def test_what_leads_nowhere_is_refused(
    tmp_path: Path, chain: Callable[[], tuple[Made, ...]]
) -> None:
    with pytest.raises(TpmUntrustedError):
        judged(tmp_path, chain())


def test_a_key_of_each_kind_is_the_one_that_is_certified(tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    of_other = dataclasses.replace(OF_EK, key=other)
    assert judged(tmp_path, (*HONEST[:3], of_other)) == "CN=root"
    for made, key in ((of_other, EK), (OF_EK, other), (OF_EK, MODEL)):
        content = made.certificate().public_bytes(serialization.Encoding.DER)
        with pytest.raises(TpmUntrustedError, match="another endorsement key"):
            verify(content, endorsement(key), read_authorities(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\x30", b"\x30\x82\xff\xff", bytes(600), b"\xff" * 600])
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    root = OF_ROOT.certificate().public_bytes(serialization.Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    with pytest.raises(TpmUntrustedError, match="cannot be read"):
        verify(content, endorsement(EK), read_authorities(tmp_path))


def test_a_key_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """Some makers mark the keys of their certificates as good for OAEP only."""
    (tmp_path / "root.pem").write_bytes(
        OF_ROOT.certificate().public_bytes(serialization.Encoding.PEM)
    )
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = dataclasses.replace(OF_EK, key=key).certificate()
    der = made.public_bytes(serialization.Encoding.DER)
    rsa_encryption = bytes.fromhex("06092a864886f70d010101")
    assert der.count(rsa_encryption) == 1
    changed = der.replace(rsa_encryption, bytes.fromhex("06092a864886f70d010107"))
    with pytest.raises(TpmUntrustedError, match="cannot be read"):
        verify(changed, endorsement(key), read_authorities(tmp_path))


def test_a_directory_without_a_root_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not looked at")
    maker = OF_MAKER.certificate().public_bytes(serialization.Encoding.PEM)
    (tmp_path / "maker.pem").write_bytes(maker)
    with pytest.raises(UsageError, match="no root certificate"):
        read_authorities(tmp_path)
    root = OF_ROOT.certificate().public_bytes(serialization.Encoding.PEM)
    (tmp_path / "both.crt").write_bytes(maker + root)
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nxx\n")
    found = read_authorities(tmp_path)
    assert (len(found.roots), len(found.between), found.unreadable) == (1, 2, ("broken.pem",))

# SPDX-License-Identifier: Apache-2.0
"""Who signed for a measurement, as which product, at which security version.

A signed identity is a JSON object, in any order and spacing, with exactly these members::

    {"measurement": 64 hex digits, "product_id": 0..65535, "security_version": 0..65535,
     "signer": Ed25519 public key, 64 hex digits, "signature": 128 hex digits}

The signature is over ``strongroom process identity 1``, a zero byte, and the canonical JSON of the
other four members. Hex digits are lower case.

A signed identity in ``signatures/MEASUREMENT.json`` is used where there is one; else this machine's
own signer signs for whatever runs. Its key is made at the machine's first start, and only then:
one that was removed later is not made again, as that would lock every volume without a word.
"""

import json
import re
from typing import Final

from strongroom import values
from strongroom._core import Secret, ed25519_public_key, ed25519_sign, ed25519_verifies
from strongroom.errors import TeeError
from strongroom.tee.process.canonical import canonical
from strongroom.tee.process.store import SIGNER, Store
from strongroom.values import dataclass

PRODUCT_ID: Final = 1
"""Strongroom's number among the products of its signer."""

SECURITY_VERSION: Final = 1
"""Raised when a weakness is mended that the volumes of older versions must not stay open to."""

_CONTEXT: Final = b"strongroom process identity 1\0"
_MAX_DOCUMENT_BYTES: Final = 4096
_MAX_NUMBER: Final = 0xFFFF
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class SignedIdentity:
    """A measurement with what its signer says of it; sizes in bytes: 32, 32 and 64."""

    measurement: bytes
    product_id: int
    security_version: int
    public_key: bytes
    signature: bytes = b""

    def message(self) -> bytes:
        """Return what is signed."""
        return _CONTEXT + canonical(self._claims())

    def document(self) -> bytes:
        """Return the signed identity as the bytes of a file."""
        return canonical({**self._claims(), "signature": self.signature.hex()}) + b"\n"

    def _claims(self) -> dict[str, object]:
        return {
            "measurement": self.measurement.hex(),
            "product_id": self.product_id,
            "security_version": self.security_version,
            "signer": self.public_key.hex(),
        }


def signed_identity(store: Store, measurement: bytes, *, create: bool) -> SignedIdentity:
    """Return the verified identity of a measurement.

    Args:
        store: Where signatures and this machine's signer are.
        measurement: 32 bytes.
        create: This is the machine's first start, so its signer may be made.

    Raises:
        TeeError: Nobody signed for it, or a signature or its file is bad.
        PlatformError: This machine's signer could not be written.
    """
    name = f"signatures/{measurement.hex()}.json"
    document = store.document(name, _MAX_DOCUMENT_BYTES)
    if document is None:
        return _sign_here(store, measurement, create=create)
    return parse(document, measurement, subject=str(store.path / name))


def sign(
    seed: Secret, measurement: bytes, product_id: int, security_version: int
) -> SignedIdentity:
    """Sign for a measurement with an Ed25519 seed of 32 bytes."""
    unsigned = SignedIdentity(measurement, product_id, security_version, ed25519_public_key(seed))
    return values.replace(unsigned, signature=ed25519_sign(seed, unsigned.message()))


def parse(document: bytes, measurement: bytes, *, subject: str) -> SignedIdentity:
    """Return a signed identity that is of ``measurement`` and has a right signature.

    Who the signer may be is not checked: the signer is a part of the identity.

    Args:
        document: The bytes of a file.
        measurement: What it must be for.
        subject: How messages call it.

    Raises:
        TeeError: It is malformed, of another measurement, or the signature is wrong.
    """
    members = _members(document, subject)
    signed = SignedIdentity(
        measurement=_hex(members, "measurement", 32, subject),
        product_id=_number(members, "product_id", subject),
        security_version=_number(members, "security_version", subject),
        public_key=_hex(members, "signer", 32, subject),
        signature=_hex(members, "signature", 64, subject),
    )
    if signed.measurement != measurement:
        raise TeeError(f"{subject} is about another measurement")
    if not ed25519_verifies(signed.public_key, signed.message(), signed.signature):
        raise TeeError(
            f"the signature in {subject} is wrong",
            hint="take the file from its signer once more, or remove it",
        )
    return signed


def _sign_here(store: Store, measurement: bytes, *, create: bool) -> SignedIdentity:
    if create:
        store.make_secret(SIGNER)
    seed = store.secret(SIGNER)
    if seed is None:
        raise TeeError(
            f"nobody signed for what runs here, measurement {measurement.hex()}",
            hint=f"put its signed identity into {store.path / 'signatures'}, or "
            + store.lost_hint(SIGNER),
        )
    try:
        return sign(seed, measurement, PRODUCT_ID, SECURITY_VERSION)
    finally:
        seed.erase()


def _members(document: bytes, subject: str) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    try:
        value = json.loads(document.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as err:
        raise TeeError(f"{subject} is not a signed identity: not JSON") from err
    expected = {"measurement", "product_id", "security_version", "signature", "signer"}
    if not isinstance(value, dict) or value.keys() != expected:
        raise TeeError(f"{subject} is not a signed identity: its members are others")
    return value


def _hex(members: dict[str, object], name: str, length_bytes: int, subject: str) -> bytes:
    text = members[name]
    if isinstance(text, str) and len(text) == 2 * length_bytes and _HEX.fullmatch(text):
        return bytes.fromhex(text)
    raise TeeError(f"{subject} is not a signed identity: bad {name}")


def _number(members: dict[str, object], name: str, subject: str) -> int:
    number = members[name]
    if type(number) is int and 0 <= number <= _MAX_NUMBER:
        return number
    raise TeeError(f"{subject} is not a signed identity: bad {name}")

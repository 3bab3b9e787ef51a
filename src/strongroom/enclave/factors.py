# SPDX-License-Identifier: Apache-2.0
"""From the factors of a keyslot to the passphrase that LUKS2 sees: the key schedule.

All factors of a keyslot are needed. Each gives a share; the shares become one slot secret, and its
base64 form is what opens the keyslot, so that stock tools find an ordinary, if unguessable,
passphrase there. Every label ends in a zero byte and is followed by fields of fixed length, so no
two inputs of the schedule are alike.

Spec: ``spec/unlock.md``, "Key schedule".
"""

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from strongroom import _core
from strongroom._core import Secret
from strongroom.errors import BoundaryError, FormatError
from strongroom.luks2 import canonical_json
from strongroom.uuids import uuid_bytes
from strongroom.values import dataclass

Factor = Literal["enclave", "passphrase", "tpm"]

FACTORS: Final[tuple[Factor, ...]] = ("enclave", "passphrase", "tpm")
"""All factors, in the order in which their shares are combined."""

SHARE_BYTES: Final = 32

_VERSION: Final = 1
_ENCLAVE_SHARE: Final = b"strongroom/1 enclave share\0"
_SLOT_SECRET: Final = b"strongroom/1 slot secret\0"


@dataclass(frozen=True, slots=True)
class Place:
    """The keyslot that something is derived for: what is derived for one is useless for another."""

    volume_uuid: str
    keyslot: int

    def encoded(self) -> bytes:
        """Return 20 bytes: the UUID in binary, and the keyslot's number, big-endian."""
        return uuid_bytes(self.volume_uuid) + self.keyslot.to_bytes(4, "big")


def in_order(names: tuple[str, ...]) -> tuple[Factor, ...]:
    """Return the factors that are named, in their order; what is unknown is left out."""
    return tuple(name for name in FACTORS if name in names)


def with_passphrase(names: tuple[str, ...]) -> tuple[Factor, ...]:
    """Return the factors of a keyslot that is made for a passphrase, in their order.

    Raises:
        BoundaryError: The passphrase is not among them: any would open the keyslot.
    """
    if "passphrase" not in names:
        raise BoundaryError("a keyslot for a passphrase does not need the passphrase")
    return in_order(names)


def policy_digest(factors: tuple[Factor, ...]) -> bytes:
    """Return the 32 bytes that bind a slot secret to the factors that it is made of.

    Raises:
        FormatError: They are not a selection of :data:`FACTORS` in its order.
    """
    if not factors or factors != in_order(factors):
        raise FormatError("the factors of a keyslot are not a list in its order")
    policy = canonical_json({"factors": [*factors], "version": _VERSION})
    return hashlib.sha256(policy).digest()


def enclave_share(sealed: Secret, place: Place) -> Secret:
    """Return the enclave's share, from the secret that is sealed to the enclave for a keyslot."""
    return _core.hkdf_sha256(
        [sealed], salt=b"", info=_ENCLAVE_SHARE + place.encoded(), length_bytes=SHARE_BYTES
    )


def slot_passphrase(shares: Mapping[Factor, Secret], place: Place) -> Secret:
    """Combine the shares of all factors into the passphrase of a keyslot: 44 ASCII characters.

    The shares stay the caller's.

    Raises:
        FormatError: There is no share.
    """
    factors = tuple(name for name in FACTORS if name in shares)
    slot_secret = _core.hkdf_sha256(
        [shares[name] for name in factors],
        salt=b"",
        info=_SLOT_SECRET + place.encoded() + policy_digest(factors),
        length_bytes=SHARE_BYTES,
    )
    try:
        return slot_secret.base64()
    finally:
        slot_secret.erase()

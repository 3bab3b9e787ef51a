# SPDX-License-Identifier: Apache-2.0
"""What a keyslot keeps sealed to the enclave: a secret, and the salt and cost of its KDF.

Both are made once, when the keyslot is. A blob that does not open is an error with its reason, and
never a cause to make new ones: that would lock the volume for good.

Spec: ``spec/unlock.md``, "Sealed blobs".
"""

from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.enclave.factors import (
    SHARE_BYTES,
    Factor,
    Place,
    enclave_share,
    slot_passphrase,
)
from strongroom.enclave.header_keys import enclave_header_key, enclave_key_id
from strongroom.enclave.kdf import derive
from strongroom.errors import EnclaveFactorError, SecurityVersionError
from strongroom.luks2 import (
    Argon2,
    JsonValue,
    Pbkdf2,
    SealedSlot,
    Sealing,
    canonical_json,
    kdf_json,
    parse_kdf_text,
)
from strongroom.tee.identity import Identity, SealPolicy
from strongroom.tee.provider import Tee
from strongroom.units import ByteCount
from strongroom.values import dataclass

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class UnsealedSlot:
    """What a sealed keyslot gives: the enclave's share, and how its passphrase is derived.

    Attributes:
        sealed: The secret that the share comes from; resealing moves it.
    """

    sealed: Secret
    share: Secret
    kdf: Pbkdf2 | Argon2

    def erase(self) -> None:
        """Erase both secrets."""
        self.sealed.erase()
        self.share.erase()


def sealing_of(tee: Tee, policy: SealPolicy, volume_uuid: str) -> Sealing:
    """Return what a volume's token says of the enclave that seals it."""
    identity = tee.identity
    seal_key = tee.seal_key(policy, identity.security_version)
    key_id = _key_id(seal_key, volume_uuid)
    seal_key.erase()
    return Sealing(
        tee=identity.tee,
        simulated=identity.simulated,
        policy=policy,
        measurement=identity.measurement,
        signer=identity.signer,
        product_id=identity.product_id,
        security_version=identity.security_version,
        debug=identity.debug,
        key_id=key_id,
    )


def seal_key_for(tee: Tee, sealing: Sealing, volume_uuid: str) -> Secret:
    """Return the key that a volume is sealed with, if this is an enclave that may have it.

    The comparisons only find the reason: what keeps others out is that their TEE gives another key.

    Raises:
        EnclaveFactorError: Sealed to another provider, signer, product or measurement, or by
            another machine; or this enclave only looks, and has no keys.
        SecurityVersionError: Sealed to a security version that this enclave cannot use.
    """
    if tee.lack is not None:
        raise EnclaveFactorError(
            f"the enclave factor failed: {tee.lack.message}", hint=tee.lack.hint
        )
    present = tee.identity
    for what, sealed, own in _bound(sealing, present):
        if sealed != own:
            raise EnclaveFactorError(
                f"the enclave factor failed: sealed to {what} {_shown(sealed)}, "
                f"and this enclave has {_shown(own)}",
                hint="open it from the account that sealed it, or with the recovery key",
            )
    if sealing.security_version > present.security_version:
        raise SecurityVersionError(
            f"the enclave factor failed: sealed by security version {sealing.security_version}, "
            f"and this enclave is version {present.security_version}",
            hint="a downgrade is refused; install the newer version again",
        )
    seal_key = tee.seal_key(sealing.policy, sealing.security_version)
    if _key_id(seal_key, volume_uuid) != sealing.key_id:
        seal_key.erase()
        raise EnclaveFactorError(
            "the enclave factor failed: sealed with the keys of another state directory"
            ", to an enclave like this one",
            hint="open it from the account that sealed it, or with the recovery key",
        )
    return seal_key


@dataclass(frozen=True, slots=True)
class SlotSealer:
    """Seals keyslots of one volume to the enclave that ``sealing`` describes.

    The seal key stays the caller's.
    """

    seal_key: Secret
    sealing: Sealing
    volume_uuid: str

    def seal_new(
        self,
        keyslot: int,
        factors: tuple[Factor, ...],
        passphrase: Secret,
        kdf: Pbkdf2 | Argon2,
    ) -> tuple[Secret, SealedSlot]:
        """Make the secret of a keyslot.

        Returns:
            The passphrase that LUKS2 sees, and what is to be kept sealed.

        Raises:
            LimitError: A cost of the KDF is outside its limits.
        """
        place = Place(self.volume_uuid, keyslot)
        sealed = Secret.random(SHARE_BYTES)
        shares: dict[Factor, Secret] = {}
        try:
            slot = self.seal(keyslot, factors, sealed, kdf)
            shares["enclave"] = enclave_share(sealed, place)
            if "passphrase" in factors:
                shares["passphrase"] = derive(kdf, passphrase, ByteCount(SHARE_BYTES))
            return slot_passphrase(shares, place), slot
        finally:
            for secret in (sealed, *shares.values()):
                secret.erase()

    def seal(
        self, keyslot: int, factors: tuple[Factor, ...], sealed: Secret, kdf: Pbkdf2 | Argon2
    ) -> SealedSlot:
        """Seal a secret and a KDF that a keyslot has already, or is about to get."""
        place = Place(self.volume_uuid, keyslot)
        return seal_slot(
            self.seal_key, self.sealing, place, factors=factors, sealed=sealed, kdf=kdf
        )


def seal_slot(
    seal_key: Secret,
    sealing: Sealing,
    place: Place,
    *,
    factors: tuple[Factor, ...],
    sealed: Secret,
    kdf: Pbkdf2 | Argon2,
) -> SealedSlot:
    """Seal a keyslot's secret and KDF, bound to its place, its factors and the enclave."""
    aad = _associated(sealing, place, factors)
    return SealedSlot(
        factors=factors,
        share=_core.seal_secret(sealed, seal_key, aad=aad),
        parameters=_core.seal_parameters(canonical_json(kdf_json(kdf)), seal_key, aad=aad),
    )


def unseal_kdf(
    seal_key: Secret, sealing: Sealing, place: Place, slot: SealedSlot
) -> Pbkdf2 | Argon2:
    """Open how a keyslot's passphrase is derived. Says nothing of the passphrase.

    Raises:
        SealedBlobError: As :func:`unseal_slot`.
        FormatError: The same.
    """
    aad = _associated(sealing, place, slot.factors)
    return parse_kdf_text(_core.unseal_parameters(slot.parameters, seal_key, aad=aad))


def unseal_slot(seal_key: Secret, sealing: Sealing, place: Place, slot: SealedSlot) -> UnsealedSlot:
    """Open what a keyslot keeps sealed.

    Raises:
        SealedBlobError: A blob was changed, belongs elsewhere, or the key is another one.
        FormatError: The parameters are no KDF, or beyond a limit.
    """
    kdf = unseal_kdf(seal_key, sealing, place, slot)
    aad = _associated(sealing, place, slot.factors)
    sealed = _core.unseal_secret(slot.share, seal_key, aad=aad)
    return UnsealedSlot(sealed, enclave_share(sealed, place), kdf)


def _key_id(seal_key: Secret, volume_uuid: str) -> bytes:
    header_key = enclave_header_key(seal_key, volume_uuid)
    try:
        return enclave_key_id(header_key)
    finally:
        header_key.erase()


def _associated(sealing: Sealing, place: Place, factors: tuple[str, ...]) -> bytes:
    bound: dict[str, JsonValue] = {
        "enclave": sealing.json(),
        "factors": [*factors],
        "keyslot": place.keyslot,
        "uuid": place.volume_uuid,
        "version": _VERSION,
    }
    return canonical_json(bound)


def _bound(sealing: Sealing, present: Identity) -> tuple[tuple[str, object, object], ...]:
    always: tuple[tuple[str, object, object], ...] = (
        ("TEE", sealing.tee, present.tee),
        ("debug", sealing.debug, present.debug),
    )
    if sealing.policy == "measurement":
        return (*always, ("measurement", sealing.measurement, present.measurement))
    return (
        *always,
        ("signer", sealing.signer, present.signer),
        ("product", sealing.product_id, present.product_id),
    )


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

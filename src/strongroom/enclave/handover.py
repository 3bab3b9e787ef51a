# SPDX-License-Identifier: Apache-2.0
"""From the enclave that a volume is sealed to, to the next one: only what the next one needs.

The old enclave gives the key of the volume's authentication code, and each keyslot's sealed secret
and KDF; never the volume key, and no passphrase. It encrypts them to a key that the next enclave's
report binds, after it has decided that this is an enclave to which the volume may go.

Spec: ``spec/unlock.md``, "Resealing".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom import _core
from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary.calls import (
    HandOver,
    Handover,
    HandoverSlot,
    SealPolicy,
    Successor,
    Terms,
)
from strongroom.boundary.sealed import HANDOVER_INFO, report_data
from strongroom.enclave.factors import in_order
from strongroom.enclave.inspection import Inspected, judge, tampered
from strongroom.enclave.keyslots import Edit, unchanged
from strongroom.enclave.sealed_slots import (
    SlotSealer,
    seal_key_for,
    sealing_of,
    unseal_slot,
)
from strongroom.errors import (
    BoundaryError,
    FormatError,
    IdentityError,
    KeyslotStateError,
    ReportError,
    SecurityVersionError,
)
from strongroom.luks2 import (
    Argon2,
    JsonValue,
    Pbkdf2,
    SealedSlot,
    Sealing,
    StrongroomToken,
    canonical_json,
    kdf_json,
    parse_kdf_text,
    volume_authenticated_bytes,
)
from strongroom.tee.identity import Identity
from strongroom.tee.provider import Tee
from strongroom.values import replace

_TRANSPORT_KEY_BYTES: Final = 32
_PURPOSE: Final = "handover"


def enrolled_token(inspected: Inspected) -> StrongroomToken:
    """Return the token of a volume that is sealed to an enclave.

    Raises:
        KeyslotStateError: It is sealed to none.
    """
    if inspected.token is None:
        raise KeyslotStateError(
            "the volume is not sealed to an enclave", hint="format one with --factors enclave,..."
        )
    return inspected.token


def check_successor(tee: Tee, sealing: Sealing, successor: Successor, terms: Terms) -> Identity:
    """Decide whether a volume may go to the next enclave, and return who that is.

    Raises:
        ReportError: Its report is not genuine, or not about its key.
        SecurityVersionError: It would be a downgrade.
        IdentityError: It is of another provider, or not one that the policy or the operator allows.
    """
    verified = tee.verify(successor.report)
    if not verified.genuine or verified.user_data != report_data(_PURPOSE, successor.public_key):
        raise ReportError("the next enclave's report is not about its key")
    following = verified.identity
    if following.tee != sealing.tee or (following.debug and not sealing.debug):
        raise IdentityError("the next enclave is of another provider, or open to a debugger")
    if following.security_version < sealing.security_version:
        raise SecurityVersionError(
            f"a downgrade is refused: sealed by security version {sealing.security_version}, "
            f"and the next enclave is version {following.security_version}",
            hint="reseal to the same version or a newer one",
        )
    _check_named(sealing, following, terms)
    return following


def _check_named(sealing: Sealing, following: Identity, terms: Terms) -> None:
    expected = terms.next_enclave
    if expected is not None and expected != following.measurement:
        raise IdentityError(
            f"the next enclave has measurement {following.measurement.hex()}, "
            f"and {expected.hex()} was agreed to"
        )
    if sealing.policy == "measurement" and expected is None:
        raise IdentityError("a volume sealed to one measurement goes to a named one only")
    same = (following.signer, following.product_id) == (sealing.signer, sealing.product_id)
    if sealing.policy == "signer" and not same:
        raise IdentityError(
            f"the next enclave is of signer {following.signer.hex()}, product "
            f"{following.product_id}, and the volume is sealed to {sealing.signer.hex()}, "
            f"product {sealing.product_id}",
            hint="a volume stays with its signer",
        )


def hand_over(inspected: Inspected, tee: Tee, header_key: Secret, request: HandOver) -> Handover:
    """Encrypt to the next enclave, which was checked, what it needs to seal the volume to itself.

    Raises:
        FormatError: The next enclave's key is no X25519 point.
    """
    token, successor, policy = enrolled_token(inspected), request.successor, request.policy
    transport = Secret.random(_TRANSPORT_KEY_BYTES)
    try:
        encapsulated_key, ciphertext = transport.seal_to(
            successor.public_key, info=HANDOVER_INFO, aad=successor.public_key
        )
        sealed_key = _core.seal_secret(
            header_key, transport, aad=_associated(inspected, token, policy)
        )
        slots = [
            HandoverSlot(
                keyslot=number,
                share=_core.seal_secret(
                    secret, transport, aad=_associated(inspected, token, policy, number)
                ),
                parameters=_core.seal_parameters(
                    canonical_json(kdf_json(kdf)),
                    transport,
                    aad=_associated(inspected, token, policy, number),
                ),
            )
            for number, secret, kdf in _unsealed(inspected, token, tee)
        ]
    finally:
        transport.erase()
    return Handover(encapsulated_key, ciphertext, policy, sealed_key, tuple(slots))


def open_handover(receiver: HpkeReceiver, handover: Handover) -> Secret:
    """Return the transport key of a handover; the receiver is used up.

    Raises:
        BoundaryError: It was changed, or meant for another enclave.
    """
    try:
        return receiver.open(
            handover.encapsulated_key,
            handover.ciphertext,
            info=HANDOVER_INFO,
            aad=receiver.public_key,
        )
    except FormatError as err:
        raise BoundaryError("a handover was changed on its way") from err
    finally:
        receiver.erase()


@contextmanager
def handed_header_key(
    inspected: Inspected, transport: Secret, handover: Handover
) -> Iterator[Secret]:
    """Lend the volume's header key, once the header on this disk is proven authentic with it.

    Raises:
        SealedBlobError: The handover is of another volume or epoch.
        HeaderTamperedError: The header is not the one that was handed over.
    """
    token = enrolled_token(inspected)
    aad = _associated(inspected, token, handover.policy)
    key = _core.unseal_secret(handover.header_key, transport, aad=aad)
    try:
        message = volume_authenticated_bytes(inspected.uuid, token)
        if not _core.hmac_sha256_matches(key, message, token.volume_code):
            raise tampered(("the volume's authentication code is wrong",))
        verdict = judge(inspected.loaded, inspected.material, token)
        if verdict.state not in {"verified", "damaged"}:
            raise tampered(verdict.findings)
        yield key
    finally:
        key.erase()


def taken_over(
    inspected: Inspected, tee: Tee, transport: Secret, handover: Handover
) -> tuple[Edit, Sealing]:
    """Return the header with what was handed over sealed to this enclave.

    Raises:
        SealedBlobError: A part of the handover was changed.
        BoundaryError: It is not of exactly the keyslots that are sealed.
    """
    token = enrolled_token(inspected)
    handed = {slot.keyslot: slot for slot in handover.slots}
    if handed.keys() != inspected.sealed.keys() or len(handed) != len(handover.slots):
        raise BoundaryError("a handover is not of the keyslots that are sealed")
    sealing = sealing_of(tee, handover.policy, inspected.sealed_uuid)

    def secrets() -> Iterator[tuple[int, Secret, Pbkdf2 | Argon2]]:
        for number, slot in sorted(handed.items()):
            aad = _associated(inspected, token, handover.policy, number)
            kdf = parse_kdf_text(_core.unseal_parameters(slot.parameters, transport, aad=aad))
            secret = _core.unseal_secret(slot.share, transport, aad=aad)
            try:
                yield number, secret, kdf
            finally:
                secret.erase()

    return _sealed_anew(inspected, token, tee, sealing=sealing, secrets=secrets()), sealing


def resealed(inspected: Inspected, tee: Tee, policy: SealPolicy) -> tuple[Edit, Sealing]:
    """Return the header with what this enclave can unseal sealed to it as it is now."""
    token = enrolled_token(inspected)
    sealing = sealing_of(tee, policy, inspected.sealed_uuid)
    secrets = _unsealed(inspected, token, tee)
    return _sealed_anew(inspected, token, tee, sealing=sealing, secrets=secrets), sealing


def _sealed_anew(
    inspected: Inspected,
    token: StrongroomToken,
    tee: Tee,
    *,
    sealing: Sealing,
    secrets: Iterator[tuple[int, Secret, Pbkdf2 | Argon2]],
) -> Edit:
    seal_key = seal_key_for(tee, sealing, inspected.sealed_uuid)
    try:
        sealer = SlotSealer(seal_key, sealing, inspected.sealed_uuid)
        slots: dict[int, SealedSlot] = {
            number: sealer.seal(number, in_order(token.slots[number].factors), secret, kdf)
            for number, secret, kdf in secrets
        }
    finally:
        seal_key.erase()
    return replace(unchanged(inspected), slots=slots)


def _unsealed(
    inspected: Inspected, token: StrongroomToken, tee: Tee
) -> Iterator[tuple[int, Secret, Pbkdf2 | Argon2]]:
    seal_key = seal_key_for(tee, token.sealing, inspected.sealed_uuid)
    try:
        for number, slot in inspected.sealed.items():
            place = inspected.place(number)
            unsealed = unseal_slot(seal_key, token.sealing, place, slot)
            try:
                yield number, unsealed.sealed, unsealed.kdf
            finally:
                unsealed.erase()
    finally:
        seal_key.erase()


def _associated(
    inspected: Inspected, token: StrongroomToken, policy: SealPolicy, keyslot: int | None = None
) -> bytes:
    bound: dict[str, JsonValue] = {
        "epoch": token.epoch,
        "keyslot": keyslot,
        "policy": policy,
        "uuid": inspected.sealed_uuid,
    }
    return canonical_json(bound)

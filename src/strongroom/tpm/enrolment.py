# SPDX-License-Identifier: Apache-2.0
"""Meeting a TPM for the first time, and knowing it again.

At enrolment everything is asked in a session that is salted to the endorsement key, which its maker
vouches for by a certificate. What is pinned there is all that later sessions rely on: the storage
root key, to which they are salted, and an attestation key that the enclave alone can use.

Spec: TCG EK Credential Profile 2.5, 2.2.1.4 for the indexes of certificates; TCG TPM v2.0
Provisioning Guidance, 7.8 for the handle of the storage root key.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from strongroom._core import Secret, hkdf_sha256
from strongroom.errors import TpmChangedError, TpmError, TpmTamperedError
from strongroom.tpm.algorithms import Algorithm, KeyKind
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.codes import proves_missing_key
from strongroom.tpm.commands import Auth
from strongroom.tpm.device import Clock, Device
from strongroom.tpm.entities import ENDORSEMENT, OWNER, PERSISTENT_FIRST
from strongroom.tpm.nv import MOST_BYTES_AT_ONCE, Nv
from strongroom.tpm.objects import (
    ObjectAttribute,
    PublicArea,
    attestation_template,
    endorsement_template,
    sealed_template,
    storage_root_template,
)
from strongroom.tpm.sealing import Key, Objects, PolicySteps
from strongroom.tpm.sessions import SaltKey, Sessions
from strongroom.tpm.wire import Transmit
from strongroom.values import dataclass

_ATTESTATION_INFO: Final = b"strongroom/1 tpm attestation key\0"
_AUTH_BYTES: Final = 32
STORAGE_ROOT_HANDLE: Final = 0x81000001
_OWN_FIRST: Final = 0x8100_5300
"""Where a key of ours goes if its usual handle is taken; the owner gives out 0x81000000 on."""
_OWN_HANDLES: Final = 256
_NV_FIRST: Final = 0x01000000
_CERTIFICATES: Final = {
    0x01C0000A: KeyKind.P256,
    0x01C00016: KeyKind.P384,
    0x01C00002: KeyKind.RSA2048,
}
"""In the order in which they are preferred."""
_MOST_CERTIFICATE_BYTES: Final = 4096
_STORAGE: Final = (
    ObjectAttribute.FIXED_TPM
    | ObjectAttribute.FIXED_PARENT
    | ObjectAttribute.SENSITIVE_DATA_ORIGIN
    | ObjectAttribute.USER_WITH_AUTH
    | ObjectAttribute.RESTRICTED
    | ObjectAttribute.DECRYPT
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is known of a TPM from its enrolment on: public, but not to be replaced by others."""

    endorsement: PublicArea
    storage_root: Key
    attestation: Key


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A TPM as it was met."""

    enrolment: Enrolment
    certificate: bytes
    """Of the endorsement key, X.509 in DER as the TPM gave it; empty if it has none."""
    clock: Clock


def enrol(transmit: Transmit, secret: Secret) -> Enrolled:
    """Meet a TPM: find or make its storage root key, and make an attestation key.

    Whether the endorsement key is one of its maker's is for the caller to find out, by the
    certificate: nothing here does.

    Args:
        transmit: The way to it.
        secret: Of whoever is to use the attestation key: see :func:`attestation_auth`.

    Raises:
        TpmError: The TPM refused, for example because its owner has a password.
        TpmTamperedError: An answer was not the TPM's.
        TpmTransportError: It cannot be reached.
    """
    kind = _certified_kind(transmit)
    template = endorsement_template(kind or KeyKind.P256)
    with (
        claimed_primary(transmit, ENDORSEMENT, template) as claimed,
        Sessions(transmit, claimed) as road,
    ):
        certificate = b"" if kind is None else _read_certificate(road, kind)
        endorsement = Key(claimed.handle, claimed.public)
        root, clock = _storage_root(road), Device(road).clock()
        # What stays in the TPM comes last: after it, nothing can go wrong.
        auth = attestation_auth(secret, endorsement.public)
        attestation = _attestation_key(road, endorsement, auth)
        return Enrolled(Enrolment(endorsement.public, root, attestation), certificate, clock)


def attestation_auth(secret: Secret, endorsement: PublicArea) -> Secret:
    """Return what authorizes the attestation key of a TPM, and is of no use with another.

    A TPM is told it before anybody has vouched for that TPM.
    """
    info = _ATTESTATION_INFO + endorsement.name
    return hkdf_sha256([secret], salt=b"", info=info, length_bytes=_AUTH_BYTES)


@contextlib.contextmanager
def connected(transmit: Transmit, enrolment: Enrolment) -> Iterator[Sessions]:
    """Open a road to an enrolled TPM, for the length of a block.

    Raises:
        TpmChangedError: It is not that TPM, it was cleared, or somebody makes it look so.
        TpmTransportError: It cannot be reached.
    """
    root = enrolment.storage_root
    with Sessions(transmit, SaltKey(root.handle, root.public)) as road:
        _recognise(road)
        yield road


def forget(road: Sessions, enrolment: Enrolment) -> None:
    """Remove the attestation key, if anything is where it was.

    Raises:
        TpmError: Something else is there, or somebody says so; or as :meth:`Sessions.run`.
    """
    key = enrolment.attestation
    if key.handle in Device(road).handles(PERSISTENT_FIRST):
        Objects(road).forget(key)


def _recognise(road: Sessions) -> None:
    hint = (
        "if it was cleared or replaced on purpose: `strongroom tpm enrol --replace`; "
        "if not, distrust the way to it"
    )
    try:
        Device(road).clock()
    except TpmTamperedError as err:
        raise TpmChangedError(
            "what answers is not the TPM that was enrolled: it has another storage root key",
            hint=hint,
        ) from err
    except TpmError as err:
        # Every other refusal says something about the TPM's state, and nothing about its keys.
        if not proves_missing_key(err.code):
            raise
        raise TpmChangedError(
            f"the enrolled TPM's storage root key is gone ({err.message})", hint=hint
        ) from err


def _certified_kind(transmit: Transmit) -> KeyKind | None:
    """Return the kind of the endorsement key that has a certificate.

    Only where to look depends on the answer.
    """
    template = endorsement_template(KeyKind.P256)
    with (
        claimed_primary(transmit, ENDORSEMENT, template) as key,
        Sessions(transmit, key) as road,
    ):
        present = Device(road).handles(_NV_FIRST)
    return next((kind for index, kind in _CERTIFICATES.items() if index in present), None)


def _read_certificate(road: Sessions, kind: KeyKind) -> bytes:
    nv = Nv(road)
    index = next(index for index, of in _CERTIFICATES.items() if of is kind)
    public = nv.describe(index)
    if public.size_bytes > _MOST_CERTIFICATE_BYTES:
        raise TpmTamperedError("the certificate of the endorsement key is too large to be one")
    pieces = [
        nv.read_open(public, min(MOST_BYTES_AT_ONCE, public.size_bytes - offset), offset)
        for offset in range(0, public.size_bytes, MOST_BYTES_AT_ONCE)
    ]
    return b"".join(pieces)


def _storage_root(road: Sessions) -> Key:
    objects, device = Objects(road), Device(road)
    present = device.handles(PERSISTENT_FIRST)
    if STORAGE_ROOT_HANDLE in present:
        found = Key(STORAGE_ROOT_HANDLE, objects.describe(STORAGE_ROOT_HANDLE))
        if _can_be_root(found.public) and _wraps(objects, found):
            return found
    with objects.primary(OWNER, storage_root_template()) as made:
        if STORAGE_ROOT_HANDLE not in present:
            return objects.keep(made, STORAGE_ROOT_HANDLE)
        # The owner's template makes the same key each time: perhaps it was kept before.
        for handle in filter(_is_own, present):
            if objects.describe(handle).name == made.public.name:
                return Key(handle, made.public)
        return objects.keep(made, _free_handle(present))


def _can_be_root(public: PublicArea) -> bool:
    """Tell whether a key can wrap and be salted to, whoever made it."""
    try:
        public.key()
    except TpmTamperedError:
        return False
    return (
        public.name_algorithm == Algorithm.SHA256
        and public.attributes & _STORAGE == _STORAGE
        and not public.attributes & ObjectAttribute.SIGN
        and not public.policy
    )


def _wraps(objects: Objects[Secret], key: Key) -> bool:
    """Have a key wrap something, which the TPM can only do with the private part.

    No answer says under which handle a key is, and a host can load a public part alone, with
    attributes as it likes, and show that instead. With a private part they are those of the TPM.

    Spec: TPM 2.0 Part 3, 12.3.1 "TPM2_LoadExternal".
    """
    try:
        objects.create(key, sealed_template(b"", with_auth=True), auth=None, data=Secret.random(1))
    except TpmError as err:
        if not err.code:
            raise
        return False
    return True


def _attestation_key(road: Sessions, endorsement: Key, auth: Secret) -> Key:
    """Make a key in the endorsement hierarchy: there its quotes say true counters of resets."""
    objects, template = Objects(road), attestation_template()
    with _authorized(road, endorsement) as parent_auth:
        blob = objects.create(endorsement, template, auth=auth, data=None, parent_auth=parent_auth)
    with contextlib.ExitStack() as stack:
        # A policy is good for one command.
        with _authorized(road, endorsement) as parent_auth:
            loaded = stack.enter_context(objects.load(endorsement, blob, parent_auth=parent_auth))
        free = _free_handle(Device(road).handles(PERSISTENT_FIRST))
        return objects.keep(loaded, free)


@contextlib.contextmanager
def _authorized(road: Sessions, endorsement: Key) -> Iterator[Auth[Secret]]:
    """Return what authorizes an endorsement key: its policy, unless an empty value does too."""
    if endorsement.public.attributes & ObjectAttribute.USER_WITH_AUTH:
        yield None
        return
    with road.policy_session() as session:
        steps = PolicySteps(road, session)
        steps.secret(ENDORSEMENT)
        yield steps.fulfilled()


def _is_own(handle: int) -> bool:
    return _OWN_FIRST <= handle < _OWN_FIRST + _OWN_HANDLES


def _free_handle(taken: tuple[int, ...]) -> int:
    for handle in range(_OWN_FIRST, _OWN_FIRST + _OWN_HANDLES):
        if handle not in taken:
            return handle
    raise TpmError("the TPM has no room for another key", hint="remove keys with tpm2_evictcontrol")

# SPDX-License-Identifier: Apache-2.0
"""What a header is worth before any passphrase is asked for.

The enclave that a volume is sealed to checks its own code over the header here, before a KDF runs
and before a cipher is chosen. Any other enclave can only say that it cannot, and leaves the check
to the volume key.

Spec: ``spec/unlock.md``, "Header authentication".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import Authentication
from strongroom.enclave.factors import Place
from strongroom.enclave.header_keys import enclave_header_key
from strongroom.enclave.sealed_slots import seal_key_for, unseal_kdf
from strongroom.errors import (
    EnclaveFactorError,
    HeaderTamperedError,
    SecurityVersionError,
    StrongroomError,
)
from strongroom.luks2 import (
    Argon2,
    Header,
    LoadedHeader,
    Pbkdf2,
    SealedSlot,
    StrongroomToken,
    authenticated_bytes,
    differences,
    strongroom_token,
)
from strongroom.tee.provider import Tee
from strongroom.values import dataclass

TAMPERED_HINT: Final = "restore a backup of the header; the disk is not to be trusted"
_STRAY: Final = "bytes of the header that have no meaning were changed"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A header with its key material, and what this enclave found out about it.

    Attributes:
        loaded: The header.
        material: What lies in the area of every keyslot, read once.
        token: The ``strongroom`` token, if it has one.
        state: As :data:`strongroom.boundary.calls.Authentication` says.
        findings: What was changed, or why nothing can be said, in words.
        acceptable: What another program seems to have changed. Where this enclave can say nothing,
            it is what the token says, which the volume key has yet to prove.
        obstacle: Why this enclave cannot use the keyslots that are sealed.
        kdfs: What the passphrase of each keyslot goes through first, as far as this enclave knows.
        damaged: The keyslots that are never tried, as they are not what was authenticated.
    """

    loaded: LoadedHeader
    material: Mapping[int, bytes]
    token: StrongroomToken | None
    state: Authentication
    findings: tuple[str, ...]
    obstacle: StrongroomError | None
    kdfs: Mapping[int, Pbkdf2 | Argon2]
    acceptable: tuple[str, ...] = ()
    damaged: Mapping[int, str] = MappingProxyType({})

    @property
    def header(self) -> Header:
        """The header itself."""
        return self.loaded.header

    @property
    def uuid(self) -> str:
        """The volume's UUID."""
        return self.header.binary.uuid

    def place(self, keyslot: int) -> Place:
        """Return what derivations for a keyslot are bound to."""
        return Place(self.uuid, keyslot)

    def kdf_of(self, keyslot: int) -> Pbkdf2 | Argon2:
        """Return the KDF that a passphrase goes through first, or else the one in the header."""
        return self.kdfs.get(keyslot, self.header.keyslots[keyslot].kdf)

    def sealed_slot(self, keyslot: int) -> SealedSlot | None:
        """Return what is sealed for a keyslot, or ``None`` when a passphrase alone opens it."""
        if self.token is None or keyslot not in self.token.keyslots:
            return None
        return self.token.slots[keyslot]


def inspect(loaded: LoadedHeader, material: Mapping[int, bytes], tee: Tee) -> Inspected:
    """Check a header as far as this enclave can without a passphrase.

    A header that must not be used is not an error here, so that it can be looked at: its state is
    ``tampered``.

    Raises:
        FormatError: The ``strongroom`` token is malformed, or there are several.
    """
    header = loaded.header
    token = strongroom_token(header)
    plain = {number: slot.kdf for number, slot in header.keyslots.items()}
    if token is None:
        return Inspected(loaded, material, None, "absent", (), None, plain)
    try:
        seal_key = seal_key_for(tee, token.sealing, header.binary.uuid)
    except (EnclaveFactorError, SecurityVersionError) as err:
        known = {number: kdf for number, kdf in plain.items() if number not in token.slots}
        verdict = judge(loaded, material, token)
        return Inspected(
            loaded,
            material,
            token,
            "unverified",
            (err.message,),
            err,
            known,
            acceptable=verdict.acceptable,
            damaged=verdict.damaged,
        )
    try:
        return _inspect_own(loaded, material, token, seal_key=seal_key, plain=plain)
    finally:
        seal_key.erase()


def look(loaded: LoadedHeader, material: Mapping[int, bytes], tee: Tee) -> Inspected:
    """Check a header that is only looked at: what is wrong with its token is a finding."""
    try:
        return inspect(loaded, material, tee)
    except StrongroomError as err:
        plain = {number: slot.kdf for number, slot in loaded.header.keyslots.items()}
        return Inspected(loaded, material, None, "tampered", (err.message,), err, plain)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a header is beside its token.

    Attributes:
        state: ``verified``, ``changed``, ``damaged`` or ``tampered``.
        findings: What was changed, in words.
        damaged: As in :class:`Inspected`.
    """

    state: Authentication
    findings: tuple[str, ...]
    damaged: Mapping[int, str] = MappingProxyType({})

    @property
    def acceptable(self) -> tuple[str, ...]:
        """The findings, where an operator may accept them."""
        return self.findings if self.state in {"changed", "damaged"} else ()


def judge(loaded: LoadedHeader, material: Mapping[int, bytes], token: StrongroomToken) -> Verdict:
    """Compare a header with its token, one of whose codes has been checked."""
    found = differences(loaded.header, token, material)
    foreign = found.foreign_changes + loaded.rewritten
    damage = tuple(found.damaged.values())
    if found.tampered or not loaded.canonical:
        stray = () if loaded.canonical else (_STRAY,)
        findings = found.tampered + stray + foreign + damage
        return Verdict("tampered", findings, found.damaged)
    if foreign:
        return Verdict("changed", foreign + damage, found.damaged)
    return Verdict("damaged" if damage else "verified", damage, found.damaged)


def tampered(findings: tuple[str, ...]) -> HeaderTamperedError:
    """Return the error that says what was tampered with."""
    return HeaderTamperedError(
        f"the header was tampered with: {'; '.join(findings)}", hint=TAMPERED_HINT
    )


def _inspect_own(
    loaded: LoadedHeader,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    *,
    seal_key: Secret,
    plain: Mapping[int, Pbkdf2 | Argon2],
) -> Inspected:
    uuid = loaded.header.binary.uuid
    key = enclave_header_key(seal_key, uuid)
    message = authenticated_bytes(uuid, token)
    authentic = _core.hmac_sha256_matches(key, message, token.enclave_code)
    key.erase()
    if not authentic:
        finding = "the enclave's authentication code is wrong"
        return _tampered(loaded, material, token, (finding,))
    verdict = judge(loaded, material, token)
    if verdict.state == "tampered":
        return _tampered(loaded, material, token, verdict.findings)
    sealed = {
        number: unseal_kdf(seal_key, token.sealing, Place(uuid, number), slot)
        for number, slot in token.slots.items()
    }
    kdfs = {**plain, **sealed}
    return Inspected(
        loaded,
        material,
        token,
        verdict.state,
        verdict.findings,
        None,
        kdfs,
        acceptable=verdict.acceptable,
        damaged=verdict.damaged,
    )


def _tampered(
    loaded: LoadedHeader,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    findings: tuple[str, ...],
) -> Inspected:
    return Inspected(loaded, material, token, "tampered", findings, tampered(findings), {})

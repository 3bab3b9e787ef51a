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
    ForeignChange,
    Header,
    LoadedHeader,
    Pbkdf2,
    SealedSlot,
    StrongroomToken,
    authenticated_bytes,
    differences,
    sealed_slots,
    strongroom_token,
)
from strongroom.tee.provider import Tee
from strongroom.values import dataclass

TAMPERED_HINT: Final = "restore a backup of the header; the disk is not to be trusted"
EXCHANGED_HINT: Final = (
    "if it was reencrypted, `cryptsetup open IMAGE NAME` opens it, and its data can be copied; a "
    "backup of the header from before does not fit the data"
)
OLD_UUID_HINT: Final = (
    "if the UUID was changed, put the old one back with `cryptsetup luksUUID --uuid UUID IMAGE`; "
    "known-enclaves in the state directory has those that were seen here"
)
_NO_CONTENT: Final = bytes(32)
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
        sealed: What is sealed for each keyslot that has something sealed.
        obstacle: Why this enclave cannot use the keyslots that are sealed.
        kdfs: What the passphrase of each keyslot goes through first, as far as this enclave knows.
        damaged: The keyslots that are never tried, as they are not what was authenticated.
        exchanged: The header is said to be that of another volume key, as after a reencryption. A
            recovery key proves it, or nothing does.
    """

    loaded: LoadedHeader
    material: Mapping[int, bytes]
    token: StrongroomToken | None
    state: Authentication
    findings: tuple[str, ...]
    obstacle: StrongroomError | None
    kdfs: Mapping[int, Pbkdf2 | Argon2]
    acceptable: tuple[ForeignChange, ...] = ()
    damaged: Mapping[int, str] = MappingProxyType({})
    sealed: Mapping[int, SealedSlot] = MappingProxyType({})
    exchanged: bool = False

    @property
    def header(self) -> Header:
        """The header itself."""
        return self.loaded.header

    @property
    def uuid(self) -> str:
        """The UUID of the header."""
        return self.header.binary.uuid

    @property
    def sealed_uuid(self) -> str:
        """The UUID that all keys are derived with, whatever became of the header's."""
        return self.uuid if self.token is None else self.token.sealed_under(self.uuid)

    @property
    def former_uuid(self) -> str:
        """The UUID under which the volume was authenticated, if the header has another one now."""
        known = "" if self.token is None else self.token.header_uuid
        return "" if known == self.uuid else known

    @property
    def former_uuids(self) -> tuple[str, ...]:
        """All UUIDs that the header says the volume had before: the last, and the first one."""
        names = (name.lower() for name in (self.former_uuid, self.sealed_uuid))
        return tuple(dict.fromkeys(it for it in names if it not in {"", self.uuid.lower()}))

    def place(self, keyslot: int) -> Place:
        """Return what derivations for a keyslot are bound to."""
        return Place(self.sealed_uuid, keyslot)

    def kdf_of(self, keyslot: int) -> Pbkdf2 | Argon2:
        """Return the KDF that a passphrase goes through first, or else the one in the header."""
        return self.kdfs.get(keyslot, self.header.keyslots[keyslot].kdf)

    def sealed_slot(self, keyslot: int) -> SealedSlot | None:
        """Return what is sealed for a keyslot, or ``None`` when a passphrase alone opens it."""
        return self.sealed.get(keyslot)


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
        seal_key = seal_key_for(tee, token.sealing, token.sealed_under(header.binary.uuid))
    except (EnclaveFactorError, SecurityVersionError) as err:
        return _inspect_foreign(loaded, material, token, err, plain=plain)
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
        tampered: What must not be, in words.
        changes: What an operator may accept, where that is all.
        damaged: As in :class:`Inspected`.
        exchanged: The same.
    """

    state: Authentication
    tampered: tuple[str, ...]
    changes: tuple[ForeignChange, ...]
    damaged: Mapping[int, str] = MappingProxyType({})
    exchanged: bool = False

    @property
    def findings(self) -> tuple[str, ...]:
        """All that was changed, in words."""
        return (*self.tampered, *(change.words for change in self.changes))

    @property
    def acceptable(self) -> tuple[ForeignChange, ...]:
        """The changes, where an operator may accept them."""
        return self.changes if self.state in {"changed", "damaged"} else ()


def judge(loaded: LoadedHeader, material: Mapping[int, bytes], token: StrongroomToken) -> Verdict:
    """Compare a header with its token, one of whose codes has been checked."""
    found = differences(loaded.header, token, material)
    foreign = found.changes + _without_content(loaded.rewritten)
    # A damaged keyslot is never used, whatever is in it.
    changes = foreign + _without_content(tuple(found.damaged.values()))
    if found.tampered or not loaded.canonical:
        stray = () if loaded.canonical else (_STRAY,)
        return Verdict(
            "tampered", found.tampered + stray, changes, found.damaged, exchanged=found.exchanged
        )
    if foreign:
        return Verdict("changed", (), changes, found.damaged, exchanged=found.exchanged)
    return Verdict("damaged" if changes else "verified", (), changes, found.damaged)


def _without_content(texts: tuple[str, ...]) -> tuple[ForeignChange, ...]:
    return tuple(ForeignChange(words, _NO_CONTENT) for words in texts)


def tampered(findings: tuple[str, ...], *, exchanged: bool = False) -> HeaderTamperedError:
    """Return the error that says what was tampered with.

    Args:
        findings: In words.
        exchanged: As in :class:`Inspected`: then a backup would take the data's key away.
    """
    return HeaderTamperedError(
        f"the header was tampered with: {'; '.join(findings)}",
        hint=EXCHANGED_HINT if exchanged else TAMPERED_HINT,
    )


def unproven(inspected: Inspected) -> HeaderTamperedError:
    """Return the error for a header of another volume key that no recovery key has proven."""
    return HeaderTamperedError(
        f"the header was tampered with, or the volume reencrypted: {'; '.join(inspected.findings)}",
        hint="if it was reencrypted, give the recovery key that opens it now: if none does, add it "
        "with `cryptsetup luksAddKey IMAGE RECOVERY-KEY-FILE`",
    )


def _inspect_own(
    loaded: LoadedHeader,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    *,
    seal_key: Secret,
    plain: Mapping[int, Pbkdf2 | Argon2],
) -> Inspected:
    header = loaded.header
    uuid = token.sealed_under(header.binary.uuid)
    key = enclave_header_key(seal_key, uuid)
    message = authenticated_bytes(uuid, token)
    authentic = _core.hmac_sha256_matches(key, message, token.enclave_code)
    key.erase()
    if not authentic:
        finding = "the enclave's authentication code is wrong"
        return _tampered(loaded, material, token, (finding,))
    verdict = judge(loaded, material, token)
    if verdict.state == "tampered":
        return _tampered(loaded, material, token, verdict.findings, exchanged=verdict.exchanged)
    sealed = sealed_slots(header, token, material)
    kdfs = {
        number: unseal_kdf(seal_key, token.sealing, Place(uuid, number), slot)
        for number, slot in sealed.items()
    }
    return Inspected(
        loaded,
        material,
        token,
        verdict.state,
        verdict.findings,
        None,
        {**plain, **kdfs},
        acceptable=verdict.acceptable,
        damaged=verdict.damaged,
        sealed=sealed,
        exchanged=verdict.exchanged,
    )


def _inspect_foreign(
    loaded: LoadedHeader,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    obstacle: StrongroomError,
    *,
    plain: Mapping[int, Pbkdf2 | Argon2],
) -> Inspected:
    """Say of a header that is sealed to another enclave what its token says, unproven."""
    verdict = judge(loaded, material, token)
    sealed = sealed_slots(loaded.header, token, material)
    reason = _with_uuid(obstacle, loaded, token)
    return Inspected(
        loaded,
        material,
        token,
        "unverified",
        (reason.message,),
        reason,
        {number: kdf for number, kdf in plain.items() if number not in sealed},
        acceptable=verdict.acceptable,
        damaged=verdict.damaged,
        sealed=sealed,
        exchanged=verdict.exchanged,
    )


def may_be_renamed(loaded: LoadedHeader, token: StrongroomToken) -> bool:
    """Tell whether the UUID may be another one than the volume was sealed under, unnoticed.

    So it is with a token that does not say which one it was, when the salts are of another one.
    """
    return not token.sealed_uuid and any(words.startswith("the salt") for words in loaded.rewritten)


def _with_uuid(
    obstacle: StrongroomError, loaded: LoadedHeader, token: StrongroomToken
) -> StrongroomError:
    if not isinstance(obstacle, EnclaveFactorError) or not may_be_renamed(loaded, token):
        return obstacle
    return EnclaveFactorError(
        f"{obstacle.message}; or the UUID {loaded.header.binary.uuid} is not the one that the "
        "volume was sealed under",
        hint=OLD_UUID_HINT,
    )


def _tampered(
    loaded: LoadedHeader,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    findings: tuple[str, ...],
    *,
    exchanged: bool = False,
) -> Inspected:
    return Inspected(
        loaded,
        material,
        token,
        "tampered",
        findings,
        tampered(findings, exchanged=exchanged),
        {},
        sealed=token.slots,
        exchanged=exchanged,
    )

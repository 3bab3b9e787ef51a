# SPDX-License-Identifier: Apache-2.0
"""Opening a keyslot: from a passphrase, and what is sealed for the keyslot, to the volume key."""

from collections.abc import Callable

from strongroom import _core
from strongroom._core import Secret
from strongroom.enclave import kdf
from strongroom.enclave.factors import SHARE_BYTES, Factor, slot_passphrase
from strongroom.enclave.inspection import Inspected, unproven
from strongroom.enclave.keyslots import is_for_recovery
from strongroom.enclave.sealed_slots import seal_key_for, unseal_slot
from strongroom.errors import (
    HeaderTamperedError,
    InternalError,
    KeyslotStateError,
    PlatformError,
    StrongroomError,
    UnavailableError,
    WrongPassphraseError,
)
from strongroom.luks2 import Header, SealedSlot
from strongroom.tee.provider import Tee
from strongroom.units import ByteCount
from strongroom.values import dataclass

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A keyslot that opened, and the volume key, verified against its digest."""

    number: int
    volume_key: Secret

    def erase(self) -> None:
        """Erase the volume key."""
        self.volume_key.erase()


@dataclass(frozen=True, slots=True)
class Opener:
    """Tries keyslots of one header with one passphrase, which stays the caller's.

    Attributes:
        inspected: The header, which :func:`strongroom.enclave.authentication.check_terms` passed.
        tee: Gives the seal key.
        progress: Told before each derivation, which may take seconds.
    """

    inspected: Inspected
    tee: Tee
    passphrase: Secret
    progress: Progress

    def open(self, *, only: int | None = None, apart_from: int | None = None) -> Opened:
        """Try keyslots in their order of preference until one opens.

        The passphrase is tried as it is. If it is a recovery key in another form, such as in
        capitals, the key that was meant is tried after that, where no factor is sealed.

        Args:
            only: Try this keyslot alone, also when its priority is ``ignore``.
            apart_from: Do not try this one.

        Raises:
            WrongPassphraseError: No keyslot opens.
            HeaderTamperedError: The same, and there are keyslots that are damaged; or the volume
                key was exchanged, and this is no recovery key that proves it.
            EnclaveFactorError: The same, and this enclave cannot use those that are sealed.
            SecurityVersionError: The same, for its security version.
            KeyslotStateError: ``only`` does not exist, holds another key, or is not supported; or
                nothing is left to try.
            PlatformError: No keyslot opens, and one needs more memory than there is.
            UnavailableError: A keyslot needs a factor that is not built yet.
        """
        if self.inspected.exchanged and not self.passphrase.is_recovery_key():
            # A passphrase may be known to others, and a header made that opens with it.
            raise unproven(self.inspected)
        candidates = self._candidates(only, apart_from)
        obstacles: list[StrongroomError] = []
        opened = self._tried(candidates, obstacles)
        if opened is not None:
            return opened
        if apart_from is not None and self._opens(apart_from):
            raise WrongPassphraseError(
                f"this passphrase opens keyslot {apart_from}, which is the one to go",
                hint="give the passphrase, or the recovery key, of a keyslot that stays",
            )
        if obstacles:
            raise obstacles[0]
        raise self._nothing_opens()

    def _candidates(self, only: int | None, apart_from: int | None) -> list[int]:
        """Return the keyslots to try, in order; there is one at least."""
        header, damaged = self.inspected.header, self.inspected.damaged
        if only is not None:
            ensure_usable(self.inspected, only)
            return [only]
        order = [number for number in header.unlock_order() if number not in damaged]
        candidates = [number for number in order if number != apart_from]
        ensure_way_in(header)
        if candidates:
            return candidates
        if damaged:
            raise damaged_error(self.inspected)
        ignored = _ignored(self.inspected)
        if ignored:
            raise KeyslotStateError(
                f"{_listed(ignored)} the priority ignore, and no other is left to try",
                hint=f"name the one that the passphrase is for: --keyslot {ignored[0]}",
            )
        raise KeyslotStateError(f"keyslot {apart_from} is the only one that can be used")

    def _tried(self, candidates: list[int], obstacles: list[StrongroomError]) -> Opened | None:
        opened = self._first_that_opens(candidates, self.passphrase, obstacles)
        if opened is None:
            opened = self._first_that_the_meant_key_opens(candidates, obstacles)
        return opened

    def _first_that_opens(
        self, candidates: list[int], passphrase: Secret, obstacles: list[StrongroomError]
    ) -> Opened | None:
        for number in candidates:
            sealed = self.inspected.sealed_slot(number)
            obstacle = self._obstacle_of(number, sealed)
            if obstacle is not None:
                obstacles.append(obstacle)
                continue
            stage = f"keyslot {number} {kdf.name_of(self.inspected.kdf_of(number))}"
            self.progress(stage, 0, 0)
            volume_key = self._try(number, sealed, passphrase)
            self.progress(stage, 1, 1)
            if volume_key is not None:
                return Opened(number, volume_key)
        return None

    def _obstacle_of(self, number: int, sealed: SealedSlot | None) -> StrongroomError | None:
        """Return what keeps a keyslot from being tried, which does not keep others from it."""
        if sealed is not None and self.inspected.obstacle is not None:
            return self.inspected.obstacle
        needs = kdf.memory_obstacle(self.inspected.kdf_of(number))
        if not needs:
            return None
        return PlatformError(
            f"keyslot {number} needs {needs}",
            hint="raise the limit, or open with a passphrase of another keyslot",
        )

    def _first_that_the_meant_key_opens(
        self, candidates: list[int], obstacles: list[StrongroomError]
    ) -> Opened | None:
        """Try what a recovery key in another form stands for, the cheap keyslots first."""
        meant = self.passphrase.recovery_key_form()
        if meant is None:
            return None
        header = self.inspected.header
        unsealed = [number for number in candidates if self.inspected.sealed_slot(number) is None]
        unsealed.sort(key=lambda number: not is_for_recovery(header, number))
        try:
            return self._first_that_opens(unsealed, meant, obstacles)
        finally:
            meant.erase()

    def _nothing_opens(self) -> StrongroomError:
        if self.inspected.exchanged:
            return unproven(self.inspected)
        if self.inspected.damaged:
            return damaged_error(self.inspected)
        ignored = _ignored(self.inspected)
        hint = (
            f"{_listed(ignored)} the priority ignore, which is tried only when named: "
            f"--keyslot {ignored[0]}"
            if ignored
            else ""
        )
        return WrongPassphraseError("no keyslot opens with this passphrase", hint=hint)

    def _opens(self, number: int) -> bool:
        """Tell whether a keyslot opens, which was not to be tried."""
        header = self.inspected.header
        if number in self.inspected.damaged or number not in header.keyslots:
            return False
        if header.is_unbound(number):
            return False
        opened = self._tried([number], [])
        if opened is None:
            return False
        opened.erase()
        return True

    def _try(self, number: int, sealed: SealedSlot | None, passphrase: Secret) -> Secret | None:
        if sealed is None:
            return self._open_area(number, passphrase)
        combined = self._combined(number, sealed, passphrase)
        try:
            return self._open_area(number, combined)
        finally:
            combined.erase()

    def _combined(self, number: int, sealed: SealedSlot, passphrase: Secret) -> Secret:
        if "tpm" in sealed.factors:
            raise UnavailableError(
                f"keyslot {number} needs the TPM", hint="use a later version of Strongroom"
            )
        token, place = self.inspected.token, self.inspected.place(number)
        if token is None:
            raise InternalError("a keyslot is sealed without a token")
        seal_key = seal_key_for(self.tee, token.sealing, place.volume_uuid)
        try:
            unsealed = unseal_slot(seal_key, token.sealing, place, sealed)
        finally:
            seal_key.erase()
        shares: dict[Factor, Secret] = {"enclave": unsealed.share}
        try:
            if "passphrase" in sealed.factors:
                length = ByteCount(SHARE_BYTES)
                shares["passphrase"] = kdf.derive(unsealed.kdf, passphrase, length)
            return slot_passphrase(shares, place)
        finally:
            unsealed.erase()
            for share in shares.values():
                share.erase()

    def _open_area(self, number: int, passphrase: Secret) -> Secret | None:
        header = self.inspected.header
        keyslot = header.keyslots[number]
        slot_key = kdf.derive(keyslot.kdf, passphrase, ByteCount(keyslot.area.key_bytes))
        try:
            volume_key = _core.keyslot_open(
                self.inspected.material[number],
                slot_key,
                cipher=keyslot.area.cipher,
                volume_key_bytes=keyslot.key_bytes,
                stripes=keyslot.af.stripes,
                hash_name=keyslot.af.hash_name,
            )
        finally:
            slot_key.erase()
        digest = header.digest_of(number)
        # HMAC pads short keys with zeros, so the digest alone does not fix the key's length.
        if volume_key.length_bytes == keyslot.key_bytes and _core.volume_key_matches(
            volume_key,
            digest.digest,
            digest.salt,
            hash_name=digest.hash_name,
            iterations=digest.iterations,
        ):
            return volume_key
        volume_key.erase()
        return None


def ensure_usable(inspected: Inspected, keyslot: int) -> None:
    """Check that a keyslot, which somebody named, can be tried.

    Raises:
        KeyslotStateError: It does not exist, or holds another key.
        HeaderTamperedError: It is damaged.
        FormatError: It is not supported, for the reason that its error says.
    """
    header = inspected.header
    if keyslot in inspected.damaged:
        raise damaged_error(inspected)
    if keyslot in header.foreign_keyslots:
        raise header.foreign_keyslots[keyslot].refusal.error()
    if keyslot not in header.keyslots:
        raise KeyslotStateError(
            f"there is no keyslot {keyslot}", hint="see `strongroom slot list IMAGE`"
        )
    if header.is_unbound(keyslot):
        raise KeyslotStateError(f"keyslot {keyslot} does not hold the key of this volume")


def ensure_way_in(header: Header) -> None:
    """Check, before any passphrase is asked for, that there is a keyslot that one could open.

    Raises:
        KeyslotStateError: There is none.
    """
    if not any(number in header.keyslots for number in header.linked()):
        left = "no keyslot is left" if not header.linked() else "no keyslot can be used"
        raise KeyslotStateError(
            f"{left}, so nothing opens this volume",
            hint="a backup of the header brings keyslots back: "
            "`strongroom header restore IMAGE FILE --force`",
        )


def damaged_error(inspected: Inspected) -> HeaderTamperedError:
    """Return the error for when only a damaged keyslot could have been meant."""
    return HeaderTamperedError(
        f"{'; '.join(inspected.damaged.values())}, and no other keyslot opens with this passphrase",
        hint="use the recovery key, or the passphrase of another keyslot; a backup of the header "
        "brings the keyslot back: `strongroom header restore IMAGE FILE`",
    )


def damaged_notice(inspected: Inspected, number: int) -> str:
    """Return the note that a volume is open for reading only, and how to mend a keyslot of it."""
    ways = "`strongroom header restore IMAGE FILE`"
    header = inspected.header
    if number in header.keyslots:
        ways = f"{ways}, or {_without_backup(header, number)}"
    return (
        "the volume is open for reading only, as a keyslot is damaged; --accept-header-change "
        f"opens it for writing. To mend it: {ways}"
    )


def _without_backup(header: Header, number: int) -> str:
    remove = f"`strongroom slot remove IMAGE --keyslot {number}`"
    if is_for_recovery(header, number):
        return f"{remove} and then `strongroom slot add IMAGE --recovery`"
    return f"`strongroom slot change IMAGE --keyslot {number}`, or {remove}"


def _ignored(inspected: Inspected) -> list[int]:
    header = inspected.header
    return [number for number in header.linked() if header.is_ignored(number)]


def _listed(keyslots: list[int]) -> str:
    if len(keyslots) == 1:
        return f"keyslot {keyslots[0]} has"
    return f"keyslots {', '.join(map(str, keyslots))} have"

# SPDX-License-Identifier: Apache-2.0
"""Opening a keyslot: from a passphrase, and what is sealed for the keyslot, to the volume key."""

from collections.abc import Callable

from strongroom import _core
from strongroom._core import Secret
from strongroom.enclave import kdf
from strongroom.enclave.factors import SHARE_BYTES, Factor, slot_passphrase
from strongroom.enclave.inspection import Inspected
from strongroom.enclave.sealed_slots import seal_key_for, unseal_slot
from strongroom.errors import (
    InternalError,
    KeyslotStateError,
    StrongroomError,
    UnavailableError,
    WrongPassphraseError,
)
from strongroom.luks2 import SealedSlot
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

        Args:
            only: Try this keyslot alone, also when its priority is ``ignore``.
            apart_from: Do not try this one.

        Raises:
            WrongPassphraseError: No keyslot opens.
            EnclaveFactorError: The same, and this enclave cannot use those that are sealed.
            SecurityVersionError: The same, for its security version.
            KeyslotStateError: ``only`` does not exist, or holds another key.
            UnavailableError: A keyslot needs a factor that is not built yet.
        """
        candidates = [number for number in self._in_order(only) if number != apart_from]
        obstacle: StrongroomError | None = None
        for position, number in enumerate(candidates):
            sealed = self.inspected.sealed_slot(number)
            if sealed is not None and self.inspected.obstacle is not None:
                obstacle = self.inspected.obstacle
                continue
            stage = f"keyslot {number} {kdf.name_of(self.inspected.kdf_of(number))}"
            self.progress(stage, position, len(candidates))
            volume_key = self._try(number, sealed)
            if volume_key is not None:
                self.progress(stage, len(candidates), len(candidates))
                return Opened(number, volume_key)
        raise obstacle or WrongPassphraseError(
            "no keyslot opens with this passphrase",
            hint="check the keyboard layout; a recovery key opens the volume too",
        )

    def _in_order(self, only: int | None) -> list[int]:
        header = self.inspected.header
        if only is None:
            return list(header.unlock_order())
        if only not in header.keyslots:
            raise KeyslotStateError(
                f"there is no keyslot {only}", hint="see `strongroom slot list`"
            )
        if header.is_unbound(only):
            raise KeyslotStateError(f"keyslot {only} does not hold the key of this volume")
        return [only]

    def _try(self, number: int, sealed: SealedSlot | None) -> Secret | None:
        if sealed is None:
            return self._open_area(number, self.passphrase)
        combined = self._combined(number, sealed)
        try:
            return self._open_area(number, combined)
        finally:
            combined.erase()

    def _combined(self, number: int, sealed: SealedSlot) -> Secret:
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
                shares["passphrase"] = kdf.derive(unsealed.kdf, self.passphrase, length)
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

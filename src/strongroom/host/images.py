# SPDX-License-Identifier: Apache-2.0
"""Operations on an image that need no open volume: each runs in an enclave of its own.

The header's lock is held around every read and every change of a header, the same lock that
cryptsetup takes, so that the two never write at once; it works on open volumes too. It is not held
while a prompt waits: the enclave makes no change once the header is another than the one it read.
"""

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from strongroom.boundary import calls
from strongroom.boundary.sealed import BLANK
from strongroom.errors import (
    EmptyPassphraseError,
    KeyslotStateError,
    SecretError,
    StrongroomError,
    WrongPassphraseError,
)
from strongroom.host import runtime
from strongroom.host.contracts import (
    ImageReference,
    KdfChoice,
    KeyslotResult,
    PassphraseSource,
    Reporter,
    TeeName,
    Unlocking,
)
from strongroom.host.files import VolumeFiles, opened_files
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.lost_identity import warn_of_lost_identity
from strongroom.host.remembering import after_change, ensure_rememberable
from strongroom.host.results import note_least_kdf
from strongroom.host.sealed_elsewhere import explained
from strongroom.host.sealing import RecoveryKeyReceiver
from strongroom.host.silence import Silent
from strongroom.host.trust import VolumeTrust, own_enrolment
from strongroom.values import dataclass, replace

WrittenT = TypeVar("WrittenT", calls.KeyslotWritten, calls.HeaderWritten, calls.Resealed)
KeyslotOrder = TypeVar("KeyslotOrder", calls.AddKeyslot, calls.ChangeKeyslot)


def add_keyslot(  # noqa: PLR0913 - one argument for each thing that is asked for
    image: ImageReference,
    existing: PassphraseSource,
    new: PassphraseSource | None,
    report: Reporter,
    *,
    how: Unlocking,
    kdf: KdfChoice,
    factors: tuple[str, ...] | None,
    keyslot: int | None,
    recovery_fd: int | None,
) -> KeyslotResult:
    """Add a keyslot for a new passphrase, or for a recovery key written to ``recovery_fd``.

    Without ``factors`` the keyslot needs what the volume's own need: the enclave too, where the
    volume is sealed to one.

    Raises:
        WrongPassphraseError: ``existing`` opens nothing.
        KeyslotStateError: The number is taken, or all are; or the factor ``enclave`` was asked for,
            and the volume is sealed to none.
    """
    runtime.sweep(report)
    recovery = None if recovery_fd is None else RecoveryKeyReceiver(recovery_fd)
    with loaded_image(image, how, report, read_only=False) as loaded:
        loaded.ensure_free(keyslot)
        own = ("passphrase",) if loaded.facts.enrolment is None else ("enclave", "passphrase")
        added = new if recovery is None else None
        blank = calls.AddKeyslot(
            existing=BLANK,
            new=None if added is None else BLANK,
            factors=factors_of(own if factors is None else factors),
            kdf=kdf_parameters(kdf),
            keyslot=keyslot,
            recovery_key_to=None if recovery is None else recovery.public_key,
        )
        order = loaded.with_passphrases(blank, existing, added)
        with loaded.header_locked():
            written = loaded.changed(order)
            loaded.remember(written.epoch)
        if recovery is not None and written.recovery_key is not None:
            _deliver(recovery, written.recovery_key, written.keyslot.number)
    if recovery is None:
        note_least_kdf(kdf, written.keyslot, report)
    return keyslot_result(written.keyslot)


def change_keyslot(
    image: ImageReference,
    existing: PassphraseSource,
    new: PassphraseSource,
    report: Reporter,
    *,
    how: Unlocking,
    kdf: KdfChoice,
    keyslot: int | None,
) -> KeyslotResult:
    """Replace the passphrase of the keyslot that ``existing`` opens.

    Raises:
        WrongPassphraseError: ``existing`` does not open it.
        KeyslotStateError: There is no such keyslot.
    """
    runtime.sweep(report)
    with loaded_image(image, how, report, read_only=False) as loaded:
        loaded.ensure_present(keyslot)
        blank = calls.ChangeKeyslot(BLANK, BLANK, kdf_parameters(kdf), keyslot)
        order = loaded.with_passphrases(blank, existing, new, changed=keyslot)
        with loaded.header_locked():
            written = loaded.changed(order)
            loaded.remember(written.epoch)
    note_least_kdf(kdf, written.keyslot, report)
    return keyslot_result(written.keyslot)


def remove_keyslot(
    image: ImageReference,
    existing: PassphraseSource,
    report: Reporter,
    *,
    how: Unlocking,
    keyslot: int,
) -> None:
    """Remove a keyslot; ``existing`` must open another one.

    Raises:
        WrongPassphraseError: ``existing`` opens no other keyslot.
        LastWayInError: There is no other keyslot.
        KeyslotStateError: There is no such keyslot.
    """
    runtime.sweep(report)
    with loaded_image(image, how, report, read_only=False) as loaded:
        loaded.ensure_present(keyslot)
        order = calls.RemoveKeyslot(BLANK, keyslot)
        sealed = loaded.sealed(existing, "Passphrase of a keyslot that stays: ", order)
        with loaded.header_locked():
            written = loaded.changed(replace(order, existing=sealed))
            loaded.remember(written.epoch)


def selftest(*, tee: TeeName) -> tuple[tuple[str, bool], ...]:
    """Run the known-answer tests inside an enclave."""
    with launch(Silent(), tee=tee, look_only=True) as enclave:
        results = enclave.call(calls.RunSelftest()).results
    return tuple((item.name, item.passed) for item in results)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An enclave that has read and checked the header of an image."""

    files: VolumeFiles
    enclave: EnclaveProcess
    facts: calls.DiskFacts
    trust: VolumeTrust
    report: Reporter

    def ensure_present(self, keyslot: int | None) -> None:
        """Check, before a passphrase is asked for, that a keyslot which was named is there.

        Raises:
            KeyslotStateError: It is not.
        """
        numbers = [slot.number for slot in self.facts.keyslots]
        if keyslot is not None and keyslot not in numbers:
            raise KeyslotStateError(
                f"there is no keyslot {keyslot}",
                hint=f"there is {', '.join(map(str, numbers))}: see `strongroom slot list IMAGE`",
            )

    def ensure_free(self, keyslot: int | None) -> None:
        """Check, before a passphrase is asked for, that the number of a new keyslot is free.

        Raises:
            KeyslotStateError: It is not.
        """
        if keyslot is not None and any(slot.number == keyslot for slot in self.facts.keyslots):
            raise KeyslotStateError(
                f"keyslot {keyslot} is in use", hint="remove it first, or leave the number out"
            )

    def sealed(
        self,
        source: PassphraseSource,
        prompt: str,
        order: calls.Call[object],
        *,
        purpose: calls.Purpose = "existing passphrase",
        next_enclave: bytes | None = None,
    ) -> calls.Sealed:
        """Check the enclave, ask for a passphrase, and seal it to the enclave, for one call only.

        In ``order`` all passphrases are :data:`strongroom.boundary.sealed.BLANK`.
        """
        recipient = self.enclave.call(calls.NewRecipient(purpose))
        return self.trust.sealed(
            recipient, purpose, source, prompt, request=order, next_enclave=next_enclave
        )

    def with_passphrases(
        self,
        order: KeyslotOrder,
        existing: PassphraseSource,
        new: PassphraseSource | None,
        *,
        changed: int | None = None,
    ) -> KeyslotOrder:
        """Return a call with its passphrases, the new one asked for once the existing one opens.

        ``changed`` is the keyslot that the existing one has to open, if one is named.
        """
        if new is None:
            opening = self.sealed(existing, "Existing passphrase: ", order)
            return replace(order, existing=opening)
        opening = self._proven(order, existing, changed)
        following = self.sealed(new, "New passphrase: ", order, purpose="new passphrase")
        return replace(order, existing=opening, new=following)

    def _proven(
        self, order: calls.Call[object], source: PassphraseSource, changed: int | None
    ) -> calls.Sealed:
        """Return the passphrase of a keyslot that opens; a person may try again."""
        for attempt in range(1, source.attempts + 1):
            try:
                opening = self.sealed(source, "Existing passphrase: ", order)
                self.enclave.call(calls.ProveWayIn(opening, changed))
            except (WrongPassphraseError, EmptyPassphraseError) as err:
                if attempt == source.attempts:
                    raise
                self.report.notice(f"{err.message}; try again")
            else:
                return opening
        raise SecretError("no passphrase was tried")

    @contextlib.contextmanager
    def header_locked(self) -> Iterator[None]:
        """Hold the header's lock for the block, in which a change is made and remembered.

        No prompt may wait in the block, nor anything else that has no end.

        Raises:
            AlreadyOpenError: Another program keeps the lock, or the header is in use by another way
                by now.
        """
        with self.files.header_lock():
            self.files.ensure_header_may_change()
            yield

    def changed(self, order: calls.Call[WrittenT]) -> WrittenT:
        """Have the enclave make a change, and say what of it could not be finished.

        The caller holds the header's lock, from :meth:`header_locked`.

        Raises:
            KeyslotStateError: Another program has changed the header since it was read.
            StrongroomError: The enclave refuses.
        """
        written = self.enclave.call(order)
        for notice in written.notices:
            self.report.notice(notice)
        return written

    def remember(self, epoch: int) -> None:
        """Write down that the volume's header is of this epoch from now on.

        The change is made by then, so what fails is said and is no error.
        """
        with after_change(self.report):
            self.trust.remember(
                self.facts.uuid,
                own_enrolment(self.facts),
                authenticated=self.facts.enrolment is not None,
                epoch=epoch,
            )


@contextlib.contextmanager
def loaded_image(
    image: ImageReference, how: Unlocking, report: Reporter, *, read_only: bool
) -> Iterator[LoadedImage]:
    """Start an enclave that has the header of an image, and end it with the block.

    With ``read_only``, nothing is made in the state directory, and the enclave may be one without
    keys, which takes no passphrase. Else what a change makes of it can be remembered.

    Raises:
        AlreadyOpenError: The header is to be changed, and is in use by another way.
        StrongroomError: The image cannot be opened, its header is not valid, or the state directory
            cannot be written.
    """
    with opened_files(image, read_only=read_only) as files:
        if not read_only:
            files.ensure_header_may_change()
        with loaded_files(files, how, report) as loaded:
            yield loaded


@contextlib.contextmanager
def loaded_files(files: VolumeFiles, how: Unlocking, report: Reporter) -> Iterator[LoadedImage]:
    """Start an enclave for open files, as :func:`loaded_image` does."""
    start = files.start_disk()
    if not files.read_only:
        warn_of_lost_identity(report, how.tee)
    with launch(report, tee=how.tee, disk=start, look_only=files.read_only) as enclave:
        given = enclave.files(*files.descriptors)
        with files.header_lock(), files.named():
            facts = enclave.call(calls.LoadDisk(*given, read_only=files.read_only))
        for notice in facts.notices:
            report.notice(notice)
        if not files.read_only:
            ensure_rememberable(facts)
        image = files.image.path
        trust = VolumeTrust(
            facts.uuid,
            how,
            report,
            image=image,
            changes=facts.acceptable,
            enrolled=facts.enrolment is not None,
            former=facts.former_uuids,
        )
        with explained(trust, facts.enrolment):
            yield LoadedImage(files, enclave, facts, trust, report)


def _deliver(receiver: RecoveryKeyReceiver, key: calls.SealedReply, keyslot: int) -> None:
    """Write the recovery key of a keyslot that is on the disk by now."""
    try:
        receiver.deliver(key)
    except StrongroomError as err:
        raise type(err)(
            f"keyslot {keyslot} was added, and its recovery key is lost: {err.message}",
            hint=f"nobody has it: `strongroom slot remove IMAGE --keyslot {keyslot}`",
        ) from err


def factors_of(names: tuple[str, ...]) -> calls.Factors:
    """Return factors as a call has them."""
    return names  # type: ignore[return-value]  # refused by the boundary's schema


def kdf_parameters(choice: KdfChoice) -> calls.KdfParameters:
    """Return the operator's choice as a call has it."""
    return calls.KdfParameters(
        algorithm=choice.algorithm,
        hash_name=choice.hash_name,  # type: ignore[arg-type]  # refused by the boundary's schema
        memory_kib=choice.memory_kib,
        iterations=choice.iterations,
        lanes=choice.lanes,
    )


def keyslot_result(slot: calls.Keyslot) -> KeyslotResult:
    """Return one keyslot as ``slot list`` prints it."""
    return KeyslotResult(
        keyslot=slot.number,
        kind=slot.kind,
        factors=slot.factors,
        priority=slot.priority,
        kdf=kdf_facts(slot),
        cipher=slot.cipher,
        key_bits=slot.key_bits,
        area_offset_bytes=slot.area_offset_bytes,
        area_size_bytes=slot.area_size_bytes,
        problem=slot.problem,
    )


def kdf_facts(slot: calls.Keyslot) -> dict[str, int | str]:
    """Return the key derivation of a keyslot for JSON."""
    if slot.problem and not slot.kdf_iterations:
        known = {"type": slot.kdf or "unknown", "hash": slot.kdf_hash}
        return {name: value for name, value in known.items() if value}
    if slot.kdf == "pbkdf2":
        return {"type": slot.kdf, "hash": slot.kdf_hash, "iterations": slot.kdf_iterations}
    return {
        "type": slot.kdf,
        "iterations": slot.kdf_iterations,
        "memory_kib": slot.kdf_memory_kib,
        "lanes": slot.kdf_lanes,
    }

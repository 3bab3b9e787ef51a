# SPDX-License-Identifier: Apache-2.0
"""Operations on an image that need no open volume: each runs in an enclave of its own.

The header's lock is held around every read and change of a header, the same lock that cryptsetup
takes, so that the two never write at once; it works on open volumes too.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from strongroom.boundary import calls
from strongroom.boundary.sealed import BLANK
from strongroom.errors import StrongroomError, UsageError
from strongroom.host import known_enclaves, runtime, target
from strongroom.host.contracts import (
    FormatRequest,
    FormatResult,
    ImageReference,
    KdfChoice,
    KeyslotResult,
    PassphraseSource,
    Reporter,
    TeeName,
    Unlocking,
)
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.remembering import after_change, ensure_rememberable
from strongroom.host.results import enrolment_facts_if_any
from strongroom.host.sealed_elsewhere import explained
from strongroom.host.sealing import RecoveryKeyReceiver
from strongroom.host.silence import Silent
from strongroom.host.starting import StartDisk
from strongroom.host.state import ROOT, state_directory
from strongroom.host.trust import VolumeTrust, own_enrolment
from strongroom.units import MIB, ByteCount
from strongroom.values import dataclass, replace

JsonValue: TypeAlias = "str | int | bool | list[JsonValue] | dict[str, JsonValue] | None"

KeyslotOrder = TypeVar("KeyslotOrder", calls.AddKeyslot, calls.ChangeKeyslot)

DETACHED_HEADER_BYTES: Final = ByteCount(16 * MIB)


def format_volume(
    request: FormatRequest, passphrase: PassphraseSource, report: Reporter
) -> FormatResult:
    """Make a volume.

    A file that is created appears under its name only when the volume is complete.

    Raises:
        TargetInUseError: The target holds data and ``force`` was not given.
        MountedError: The target is in use.
        NoSpaceError: There is no room for it.
        SecretError: The passphrase could not be read or is empty.
        NoPermissionError: The state directory cannot be written.
        UsageError: Gramine cannot open a file that is yet to be made.
    """
    runtime.sweep()
    _check_names(request)
    how = Unlocking(request.tee)
    disk = StartDisk(request.image, read_only=False)
    with (
        _format_target(request) as files,
        launch(report, tee=how.tee, disk=disk) as enclave,
    ):
        known_enclaves.ensure_writable()
        image, header = enclave.files(*files)
        trust = VolumeTrust("", how, report, image=request.image.path)
        recipient = enclave.call(calls.NewRecipient("format"))
        recovery = None
        if request.recovery_fd is not None:
            recovery = RecoveryKeyReceiver(request.recovery_fd)
        order = calls.CreateVolume(
            image=image,
            header=header,
            label=request.label,
            sector_size_bytes=request.sector_size_bytes,
            key_bits=request.key_bits,
            factors=_factors(request.factors),
            seal_policy=request.seal_policy,
            kdf=_kdf(request.kdf),
            passphrase=BLANK,
            recovery_key_to=None if recovery is None else recovery.public_key,
        )
        sealed = trust.sealed(recipient, "format", passphrase, "New passphrase: ", request=order)
        created = enclave.call(replace(order, passphrase=sealed))
        # A volume whose recovery key was lost on the way must not appear.
        if recovery is not None and created.recovery_key is not None:
            recovery.deliver(created.recovery_key)
        if created.enrolment is not None and os.geteuid() != ROOT:
            report.notice(
                f"sealed to the enclave of this account, in {state_directory()}: another account"
                " of this machine, root with sudo too, opens it with a recovery key only"
            )
        with after_change(report):
            trust.remember(
                created.uuid,
                created.enrolment,
                authenticated=created.enrolment is not None,
                epoch=created.epoch,
            )
    return _format_result(request, created)


def dump(image: ImageReference, *, tee: TeeName) -> dict[str, JsonValue]:
    """Return the header in full, without secrets, and what an enclave of ``tee`` finds about it.

    Raises:
        FormatError: It is not a valid LUKS2 header.
    """
    runtime.sweep()
    with loaded_image(image, Unlocking(tee), Silent(), read_only=True) as loaded:
        text = loaded.enclave.call(calls.DumpHeader()).json
        facts: dict[str, JsonValue] = json.loads(text)
        authentication = loaded.authentication()
    return {"image": str(image.path), "authentication": authentication, **facts}


def list_keyslots(
    image: ImageReference, report: Reporter, *, tee: TeeName
) -> tuple[KeyslotResult, ...]:
    """Return the keyslots of a volume; a notice says if its header was changed."""
    runtime.sweep()
    with loaded_image(image, Unlocking(tee), report, read_only=True) as loaded:
        loaded.warn()
        return tuple(_keyslot_result(item) for item in loaded.facts.keyslots)


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
    runtime.sweep()
    recovery = None if recovery_fd is None else RecoveryKeyReceiver(recovery_fd)
    with loaded_image(image, how, report, read_only=False) as loaded:
        own = ("passphrase",) if loaded.facts.enrolment is None else ("enclave", "passphrase")
        added = new if recovery is None else None
        order = calls.AddKeyslot(
            existing=BLANK,
            new=None if added is None else BLANK,
            factors=_factors(own if factors is None else factors),
            kdf=_kdf(kdf),
            keyslot=keyslot,
            recovery_key_to=None if recovery is None else recovery.public_key,
        )
        written = loaded.enclave.call(loaded.with_passphrases(order, existing, added))
        try:
            if recovery is not None and written.recovery_key is not None:
                _deliver(recovery, written.recovery_key, written.keyslot.number)
        finally:
            loaded.remember(written.epoch)
    return _keyslot_result(written.keyslot)


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
    """
    runtime.sweep()
    with loaded_image(image, how, report, read_only=False) as loaded:
        order = calls.ChangeKeyslot(BLANK, BLANK, _kdf(kdf), keyslot)
        written = loaded.enclave.call(loaded.with_passphrases(order, existing, new))
        loaded.remember(written.epoch)
    return _keyslot_result(written.keyslot)


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
    """
    runtime.sweep()
    with loaded_image(image, how, report, read_only=False) as loaded:
        order = calls.RemoveKeyslot(BLANK, keyslot)
        sealed = loaded.sealed(existing, "Passphrase of a keyslot that stays: ", order)
        written = loaded.enclave.call(replace(order, existing=sealed))
        loaded.remember(written.epoch)


def selftest(*, tee: TeeName) -> tuple[tuple[str, bool], ...]:
    """Run the known-answer tests inside an enclave."""
    with launch(Silent(), tee=tee, look_only=True) as enclave:
        results = enclave.call(calls.RunSelftest()).results
    return tuple((item.name, item.passed) for item in results)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An enclave that has read and checked the header of an image."""

    enclave: EnclaveProcess
    facts: calls.DiskFacts
    trust: VolumeTrust
    report: Reporter

    def authentication(self) -> dict[str, JsonValue]:
        """Return for JSON what the enclave finds about the header before any passphrase."""
        facts = self.facts
        return {
            "state": facts.authentication,
            "epoch": facts.epoch,
            "findings": [*facts.changes],
        }

    def warn(self) -> None:
        """Say so if the header is not as its enclave wrote it: for commands that use it anyway."""
        findings = "; ".join(self.facts.changes)
        if self.facts.authentication == "tampered":
            self.report.notice(f"the header was tampered with, do not trust it: {findings}")
        elif self.facts.authentication == "changed":
            self.report.notice(f"another program changed the header: {findings}")

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
        self, order: KeyslotOrder, existing: PassphraseSource, new: PassphraseSource | None
    ) -> KeyslotOrder:
        """Return a call with its passphrases, asked for one after the other."""
        opening = self.sealed(existing, "Existing passphrase: ", order)
        if new is None:
            return replace(order, existing=opening)
        following = self.sealed(new, "New passphrase: ", order, purpose="new passphrase")
        return replace(order, existing=opening, new=following)

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
        StrongroomError: The image cannot be opened, its header is not valid, or the state directory
            cannot be written.
    """
    with contextlib.ExitStack() as stack:
        image_fd, header_fd = open_files(image, stack, read_only=read_only)
        disk = StartDisk(image, read_only=read_only)
        enclave = stack.enter_context(launch(report, tee=how.tee, disk=disk, look_only=read_only))
        stack.enter_context(header_lock(image, image_fd, header_fd))
        files = enclave.files(image_fd, header_fd)
        facts = enclave.call(calls.LoadDisk(*files, read_only=read_only))
        for notice in facts.notices:
            report.notice(notice)
        if not read_only:
            ensure_rememberable(facts)
        trust = VolumeTrust(facts.uuid, how, report, image=image.path, changes=facts.acceptable)
        with explained(trust, facts.enrolment):
            yield LoadedImage(enclave, facts, trust, report)


def open_files(
    image: ImageReference, stack: contextlib.ExitStack, *, read_only: bool
) -> tuple[int, int | None]:
    """Open an image, and its detached header if it has one, until the stack is unwound."""
    image_fd = target.open_image(image.path, read_only=read_only)
    stack.callback(os.close, image_fd)
    if image.header is None:
        return image_fd, None
    header_fd = target.open_image(image.header, read_only=read_only)
    stack.callback(os.close, header_fd)
    return image_fd, header_fd


def header_lock(
    image: ImageReference, image_fd: int, header_fd: int | None
) -> contextlib.AbstractContextManager[object]:
    """Return the lock that everybody holds who reads or writes a header."""
    return target.HeaderLock(
        image_fd if header_fd is None else header_fd, path=image.header or image.path
    )


def _check_names(request: FormatRequest) -> None:
    """Refuse to make files for an enclave that opens them by their names when it starts."""
    header = request.image.header
    makes_header = header is not None and not header.exists()
    if request.tee == "gramine" and (request.size_bytes is not None or makes_header):
        raise UsageError(
            "Gramine opens files that are there already, by the names in its manifest",
            hint="make the file first: truncate --size SIZE FILE",
        )


@contextlib.contextmanager
def _format_target(request: FormatRequest) -> Iterator[tuple[int, int | None]]:
    with contextlib.ExitStack() as stack:
        image = request.image
        header_fd = None
        if request.size_bytes is not None:
            image_fd = stack.enter_context(
                target.create_image(image.path, request.size_bytes, sparse=request.sparse)
            )
        else:
            target.ensure_formattable(image.path, force=request.force)
            image_fd = target.open_image(image.path, read_only=False)
            stack.callback(os.close, image_fd)
            stack.enter_context(target.OpenLock(image_fd, path=image.path, read_only=False))
            stack.enter_context(target.HeaderLock(image_fd, path=image.path))
        if image.header is not None:
            header_fd = _format_header(image.header, stack, force=request.force)
        yield image_fd, header_fd


def _format_header(path: Path, stack: contextlib.ExitStack, *, force: bool) -> int:
    if not path.exists():
        return stack.enter_context(target.create_image(path, DETACHED_HEADER_BYTES, sparse=False))
    target.ensure_formattable(path, force=force)
    header_fd = target.open_image(path, read_only=False)
    stack.callback(os.close, header_fd)
    return header_fd


def _deliver(receiver: RecoveryKeyReceiver, key: calls.SealedReply, keyslot: int) -> None:
    """Write the recovery key of a keyslot that is on the disk by now."""
    try:
        receiver.deliver(key)
    except StrongroomError as err:
        raise type(err)(
            f"keyslot {keyslot} was added, and its recovery key is lost: {err.message}",
            hint=f"nobody has it: strongroom slot remove --keyslot {keyslot}",
        ) from err


def _factors(names: tuple[str, ...]) -> calls.Factors:
    return names  # type: ignore[return-value]  # refused by the boundary's schema


def _kdf(choice: KdfChoice) -> calls.KdfParameters:
    return calls.KdfParameters(
        algorithm=choice.algorithm,
        hash_name=choice.hash_name,  # type: ignore[arg-type]  # refused by the boundary's schema
        memory_kib=choice.memory_kib,
        iterations=choice.iterations,
        lanes=choice.lanes,
    )


def _format_result(request: FormatRequest, created: calls.Created) -> FormatResult:
    return FormatResult(
        image=str(request.image.path),
        uuid=created.uuid,
        cipher=created.cipher,
        key_bits=created.key_bits,
        sector_size_bytes=created.sector_size_bytes,
        data_offset_bytes=created.data_offset_bytes,
        data_size_bytes=created.data_size_bytes,
        keyslots=tuple(slot.number for slot in created.keyslots),
        recovery_keyslot=created.recovery_keyslot,
        kdf=_kdf_facts(created.keyslots[0]),
        factors=created.keyslots[0].factors,
        enrolment=enrolment_facts_if_any(created.enrolment),
        epoch=created.epoch,
    )


def _keyslot_result(slot: calls.Keyslot) -> KeyslotResult:
    return KeyslotResult(
        keyslot=slot.number,
        kind=slot.kind,
        factors=slot.factors,
        priority=slot.priority,
        kdf=_kdf_facts(slot),
        cipher=slot.cipher,
        key_bits=slot.key_bits,
        area_offset_bytes=slot.area_offset_bytes,
        area_size_bytes=slot.area_size_bytes,
    )


def _kdf_facts(slot: calls.Keyslot) -> dict[str, int | str]:
    if slot.kdf == "pbkdf2":
        return {"type": slot.kdf, "hash": slot.kdf_hash, "iterations": slot.kdf_iterations}
    return {
        "type": slot.kdf,
        "iterations": slot.kdf_iterations,
        "memory_kib": slot.kdf_memory_kib,
        "lanes": slot.kdf_lanes,
    }

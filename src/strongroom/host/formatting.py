# SPDX-License-Identifier: Apache-2.0
"""Making a volume, in a new file or in what is there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.boundary import calls
from strongroom.boundary.sealed import BLANK
from strongroom.errors import NoSpaceError, NotFoundError, TargetInUseError, UsageError
from strongroom.host import known_enclaves, promises, runtime, target
from strongroom.host.contracts import (
    FormatRequest,
    FormatResult,
    PassphraseSource,
    Reporter,
    Unlocking,
)
from strongroom.host.files import VolumeFiles
from strongroom.host.images import factors_of, kdf_facts, kdf_parameters
from strongroom.host.launch import launch
from strongroom.host.lost_identity import warn_of_lost_identity
from strongroom.host.remembering import after_change
from strongroom.host.results import enrolment_facts_if_any, note_least_kdf
from strongroom.host.sealing import RecoveryKeyReceiver
from strongroom.host.state import ROOT, state_directory
from strongroom.host.trust import VolumeTrust
from strongroom.units import MIB, ByteCount
from strongroom.values import replace

LARGEST_SECTOR_BYTES: Final = 4096
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
    runtime.sweep(report)
    warn_of_lost_identity(report, request.tee)
    _check_names(request)
    _warn_of_upgrades(request, report)
    how = Unlocking(request.tee)
    with (
        _format_target(request) as files,
        launch(report, tee=how.tee, disk=files.start_disk()) as enclave,
    ):
        known_enclaves.ensure_writable()
        image, header = enclave.files(*files.descriptors)
        for notice in promises.shortcomings(enclave.call(calls.Describe()).confinement):
            report.notice(notice)
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
            factors=factors_of(request.factors),
            seal_policy=request.seal_policy,
            kdf=kdf_parameters(request.kdf),
            passphrase=BLANK,
            recovery_key_to=None if recovery is None else recovery.public_key,
        )
        sealed = trust.sealed(recipient, "format", passphrase, "New passphrase: ", request=order)
        with _saying_what_is_too_small(request):
            created = enclave.call(replace(order, passphrase=sealed))
        _say_sector_size(request, created, report)
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
    note_least_kdf(request.kdf, created.keyslots[0], report)
    return _format_result(request, created)


def _check_names(request: FormatRequest) -> None:
    """Refuse to make files for an enclave that opens them by their names when it starts."""
    header = request.image.header
    makes_header = header is not None and not header.exists()
    if request.tee == "gramine" and (request.size_bytes is not None or makes_header):
        raise UsageError(
            "Gramine opens files that are there already, by the names in its manifest",
            hint="make the file first: `truncate --size SIZE FILE`",
        )


def _warn_of_upgrades(request: FormatRequest, report: Reporter) -> None:
    sealed = request.seal_policy == "measurement" and "enclave" in request.factors
    if sealed and request.recovery_fd is None:
        report.notice(
            "without a recovery key: an upgrade of Strongroom locks this volume for good, unless "
            "`strongroom reseal IMAGE --next PYTHON` is run before it"
        )


@contextlib.contextmanager
def _saying_what_is_too_small(request: FormatRequest) -> Iterator[None]:
    """Add how the target gets larger, which the enclave does not know, to its error."""
    try:
        yield
    except NoSpaceError as err:
        if err.hint:
            raise
        raise NoSpaceError(err.message, hint=_larger(request)) from err


def _larger(request: FormatRequest) -> str:
    path = request.image.path
    if request.size_bytes is not None:
        return "give it a larger --size"
    if path.is_block_device():
        return "use a larger device, or put the header elsewhere with --header FILE"
    return f"make it larger first: truncate --size 32M {path}"


def _say_sector_size(request: FormatRequest, created: calls.Created, report: Reporter) -> None:
    if request.sector_size_bytes is None and created.sector_size_bytes < LARGEST_SECTOR_BYTES:
        report.notice(
            f"sectors of {created.sector_size_bytes} bytes, which are slower than larger ones: the "
            f"data area of {created.data_size_bytes} bytes is no multiple of {LARGEST_SECTOR_BYTES}"
        )


@contextlib.contextmanager
def _format_target(request: FormatRequest) -> Iterator[VolumeFiles]:
    """Lend the files of the new volume: made, or held and looked at through the same descriptor."""
    with contextlib.ExitStack() as stack:
        image = request.image
        header_fd = None
        if request.size_bytes is not None:
            making = target.create_image(image.path, request.size_bytes, sparse=request.sparse)
            with _saying_what_to_leave_out():
                image_fd = stack.enter_context(making)
        else:
            image_fd = _formattable(image.path, stack, force=request.force)
            stack.enter_context(target.HeaderLock(image_fd, path=image.path))
        if image.header is not None:
            header_fd = _format_header(image.header, stack, force=request.force)
        yield VolumeFiles(image, image_fd, header_fd, read_only=False)


@contextlib.contextmanager
def _saying_what_to_leave_out() -> Iterator[None]:
    try:
        yield
    except TargetInUseError as err:
        hint = "choose another name, or leave out --size to use what is there"
        raise TargetInUseError(err.message, hint=hint) from err


def _format_header(path: Path, stack: contextlib.ExitStack, *, force: bool) -> int:
    if not path.exists():
        return stack.enter_context(target.create_image(path, DETACHED_HEADER_BYTES, sparse=False))
    return _formattable(path, stack, force=force)


def _formattable(path: Path, stack: contextlib.ExitStack, *, force: bool) -> int:
    """Open, hold and look at what is there; ``path`` is not used again."""
    try:
        fd = target.open_image(path, read_only=False)
    except NotFoundError as err:
        raise NotFoundError(err.message, hint="to make it, say how large: --size SIZE") from err
    stack.callback(os.close, fd)
    stack.enter_context(target.Hold(fd, path=path, shared=False))
    target.ensure_formattable(fd, path, force=force)
    return fd


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
        kdf=kdf_facts(created.keyslots[0]),
        factors=created.keyslots[0].factors,
        enrolment=enrolment_facts_if_any(created.enrolment),
        epoch=created.epoch,
    )

# SPDX-License-Identifier: Apache-2.0
"""Header backups, of volumes that are open too, and putting them back on those that are not."""

import contextlib
import os
import shlex
from pathlib import Path

from strongroom.boundary import calls
from strongroom.errors import NotFoundError, UsageError
from strongroom.host import known_enclaves, runtime, target
from strongroom.host.contracts import ImageReference, Reporter, TeeName
from strongroom.host.files import opened_files
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.launch import launch
from strongroom.host.looking import JsonValue, looked_at
from strongroom.host.remembering import after_change
from strongroom.values import replace


def backup_header(
    image: ImageReference, file: Path, report: Reporter, *, tee: TeeName
) -> dict[str, JsonValue]:
    """Write a header backup, as ``cryptsetup luksHeaderBackup`` does, to a file that is new.

    Also of a volume that cannot be used, and of one that was tampered with, as such a header is
    worth keeping: a notice says so, and :func:`restore_header` refuses it.

    Raises:
        TargetInUseError: The file exists.
        UsageError: Gramine cannot be given the file.
    """
    _check_tee(tee)
    runtime.sweep(report)
    with (
        looked_at(image, report, tee=tee) as looked,
        target.create_image(file, 0, sparse=True) as output,
    ):
        looked.warn()
        written = looked.enclave.call(calls.BackupHeader(output))
    for notice in written.notices:
        if notice not in looked.facts.notices:
            report.notice(notice)
    return {
        "file": str(file),
        "uuid": written.uuid,
        "sequence_number": written.sequence_number,
        "size_bytes": written.size_bytes,
        "authentication": looked.authentication(),
    }


def restore_header(
    image: ImageReference, file: Path, report: Reporter, *, tee: TeeName, force: bool
) -> dict[str, JsonValue]:
    """Check a header backup and write it to the image.

    Raises:
        RollbackError: It is older than the header or than one that was seen here, or of another
            volume, without ``force``.
        AlreadyOpenError: The volume is open.
        TargetInUseError: The image holds something else, without ``force``.
        UsageError: Gramine cannot be given the file.
    """
    _check_tee(tee)
    runtime.sweep(report)
    with contextlib.ExitStack() as stack:
        backup_fd = target.open_image(file, read_only=True)
        stack.callback(os.close, backup_fd)
        _ensure_place(image.header, backup_fd)
        files = stack.enter_context(opened_files(image, read_only=False))
        image_fd, header_fd = files.descriptors
        stack.enter_context(files.held(header_shared=False))
        stack.enter_context(files.header_lock())
        place = image_fd if header_fd is None else header_fd
        target.ensure_restorable(place, image.header or image.path, force=force)
        enclave = stack.enter_context(launch(report, tee=tee, look_only=True))
        read = enclave.call(calls.ReadBackup(backup_fd))
        known = known_enclaves.find_each((read.uuid, *read.former_uuids))
        if known:
            known_enclaves.ensure_writable()
        restored = enclave.call(
            calls.RestoreHeader(
                image_fd, header_fd, backup_fd, force, _known_header(read.uuid, known)
            )
        )
        for notice in restored.notices:
            report.notice(notice)
        with after_change(report):
            _remember(restored, read, known, exactly=force)
    return {
        "image": str(image.path),
        "uuid": restored.uuid,
        "sequence_number": restored.sequence_number,
        "size_bytes": restored.size_bytes,
    }


def _check_tee(tee: TeeName) -> None:
    if tee == "gramine":
        raise UsageError(
            "Gramine opens no file but the image that its manifest names",
            hint="use --tee process: it copies the header, which it only cannot authenticate",
        )


def _ensure_place(header: Path | None, backup_fd: int) -> None:
    """Refuse a detached header that is lost, and say how to make a place for it."""
    if header is not None and not header.exists():
        size = os.lseek(backup_fd, 0, os.SEEK_END)
        raise NotFoundError(
            f"{header} does not exist",
            hint=f"make a place for the header: truncate --size {size} {shlex.quote(str(header))}",
        )


def _known_header(uuid: str, known: tuple[KnownEnclave, ...]) -> calls.KnownHeader:
    return calls.KnownHeader(
        uuid,
        authenticated=any(it.authenticated for it in known),
        minimum_epoch=max((it.epoch for it in known), default=0),
    )


def _remember(
    restored: calls.BackupWritten,
    read: calls.BackupFacts,
    known: tuple[KnownEnclave, ...],
    *,
    exactly: bool,
) -> None:
    """Write down the epoch for every UUID of the header, if anything was known of one."""
    write = known_enclaves.replace if exactly else known_enclaves.remember
    by_name = {it.volume: it for it in known}
    for name in (*read.former_uuids, read.uuid.lower()) if known else ():
        seen = by_name.get(name, known[0])
        write(replace(seen, volume=name, authenticated=restored.epoch > 0, epoch=restored.epoch))

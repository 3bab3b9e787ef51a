# SPDX-License-Identifier: Apache-2.0
"""Everything the command line asks for, one function a command.

A volume that is open has a host process, which is asked over its control socket; everything else
starts an enclave for the one operation and ends it. Every function first cleans up after host
processes that died, so that no command meets the traces of a crash.
"""

import json
import os
import re
import subprocess
import time
from typing import Final

from strongroom.errors import (
    EmptyPassphraseError,
    EnclaveGoneError,
    IdentityError,
    PlatformError,
    ReportError,
    SecretError,
    WrongPassphraseError,
)
from strongroom.host import control, control_calls, daemon, runtime
from strongroom.host.attach.record import process_started
from strongroom.host.background import Background
from strongroom.host.backups import backup_header, restore_header
from strongroom.host.contracts import (
    Enrolment,
    ListedVolume,
    MeasureResult,
    OpenRequest,
    OpenResult,
    PassphraseSource,
    Reporter,
    StatusResult,
    Unlocking,
)
from strongroom.host.doctor import doctor
from strongroom.host.identity import identity
from strongroom.host.images import (
    add_keyslot,
    change_keyslot,
    dump,
    format_volume,
    list_keyslots,
    remove_keyslot,
    selftest,
)
from strongroom.host.resealing import reseal
from strongroom.host.runtime import Record, VolumeDirectory
from strongroom.host.silence import Silent
from strongroom.host.trust import VolumeTrust

__all__ = [
    "add_keyslot",
    "backup_header",
    "change_keyslot",
    "close_volume",
    "doctor",
    "dump",
    "format_volume",
    "identity",
    "list_keyslots",
    "list_volumes",
    "open_volume",
    "remove_keyslot",
    "reseal",
    "restore_header",
    "selftest",
    "serve_volume",
    "set_key",
    "status",
]

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GONE_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01


def open_volume(
    request: OpenRequest,
    passphrase: PassphraseSource,
    report: Reporter,
    *,
    accept_header_change: bool = False,
) -> OpenResult:
    """Start a host process and an enclave in the background, and give it the passphrase.

    Returns when the device is ready. Whatever fails, nothing is left running.

    Raises:
        StrongroomError: The header, the passphrase or the device was refused.
    """
    runtime.check_name(request.name)
    for removed in runtime.sweep():
        report.notice(f"cleaned up after a crash: {removed}")
    with Background(request) as background:
        how = Unlocking(request.tee, accept_header_change)
        result = _set_key(background.directory, passphrase, how, report)
        background.keep()
    for notice in result.notices:
        report.notice(notice)
    return result


def serve_volume(
    request: OpenRequest,
    report: Reporter,
    *,
    wait_for_key: bool,
    key_command: tuple[str, ...] | None,
) -> int:
    """Be the host process of a volume until it is closed.

    Args:
        request: The volume and its name.
        report: Where notices go.
        wait_for_key: Leave it to somebody else to run ``strongroom setkey``.
        key_command: What to run instead, in a process of its own, so that the passphrase is never
            in this one.

    Returns:
        The exit code: 0, or that of ``key_command`` if it failed.

    Raises:
        StrongroomError: The volume could not be opened, or the enclave died.
    """
    for removed in runtime.sweep():
        report.notice(f"cleaned up after a crash: {removed}")
    key_processes: list[subprocess.Popen[bytes]] = []
    reader, writer = os.pipe()

    def ready(_: VolumeDirectory) -> None:
        if wait_for_key or key_command is None:
            report.notice(f"waiting for `strongroom setkey {request.name}`")
            return
        # The pipe's other end is the key process': if it ends without a key, so does the volume.
        key_processes.append(subprocess.Popen(key_command, pass_fds=(writer,)))
        os.close(writer)

    leash = None if wait_for_key or key_command is None else reader
    daemon.serve(request, ready, leash)
    return key_processes[0].wait() if key_processes else 0


def set_key(
    name: str, passphrase: PassphraseSource, how: Unlocking, report: Reporter
) -> OpenResult:
    """Give a waiting volume its passphrase, encrypted to its enclave.

    Raises:
        NotOpenError: Nothing waits under this name.
        IdentityError: The enclave is not the one that the volume was enrolled with.
        StrongroomError: The passphrase or the device was refused.
    """
    return _set_key(VolumeDirectory(runtime.check_name(name)), passphrase, how, report)


def close_volume(name: str, *, force: bool, report: Reporter) -> None:
    """Detach, flush and erase the keys of an open volume; returns when nothing of it is left.

    Raises:
        NotOpenError: No open volume has this name.
        MountedError: The device is in use and ``force`` was not given.
        DiskError: The last flush failed.
    """
    directory = VolumeDirectory(runtime.check_name(name))
    for removed in runtime.sweep():
        report.notice(f"cleaned up after a crash: {removed}")
    host = _integer(directory.read_record().get("host_pid"))
    started = process_started(host)
    control.ask(directory, control_calls.Close(force), report)
    deadline = time.monotonic() + _GONE_SECONDS
    while runtime.is_alive(directory) or process_started(host) == started >= 0:
        if time.monotonic() > deadline:
            raise EnclaveGoneError(f"the host process of {name} does not end")
        time.sleep(_POLL_SECONDS)


def list_volumes() -> tuple[ListedVolume, ...]:
    """Return all open volumes that the caller may see."""
    runtime.sweep()
    return tuple(_listed(directory) for directory in runtime.volumes())


def status(name: str) -> StatusResult:
    """Return everything about an open volume that is not secret.

    Raises:
        NotOpenError: No open volume has this name.
    """
    runtime.sweep()
    directory = VolumeDirectory(runtime.check_name(name))
    answer = control.ask(directory, control_calls.AskStatus(), Silent())
    fields = json.loads(answer.json)
    fields["confinement"] = tuple(MeasureResult(**item) for item in fields["confinement"])
    if fields["enrolment"] is not None:
        fields["enrolment"] = Enrolment(**fields["enrolment"])
    return StatusResult(**fields)


def _listed(directory: VolumeDirectory) -> ListedVolume:
    record = directory.read_record()
    device = record.get("attached_device")
    return ListedVolume(
        name=directory.name,
        image=str(record.get("image", "")),
        state=_state(record),
        device=device if isinstance(device, str) else None,
        host_pid=_integer(record.get("host_pid")),
        enclave_pid=_integer(record.get("enclave_pid")),
    )


def _state(record: Record) -> str:
    if "open" not in record:
        return "starting"
    return "open" if record["open"] else "waiting for key"


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _set_key(
    directory: VolumeDirectory, passphrase: PassphraseSource, how: Unlocking, report: Reporter
) -> OpenResult:
    attempts = passphrase.attempts
    trust: VolumeTrust | None = None
    for attempt in range(1, attempts + 1):
        waiting = control.ask(directory, control_calls.AskRecipient(), report)
        trust = _trust_in(waiting, how, report, before=trust)
        try:
            return _set_key_once(directory, waiting, passphrase, trust=trust, report=report)
        except (WrongPassphraseError, EmptyPassphraseError) as err:
            if attempt == attempts:
                raise
            report.notice(f"{err.message}; try again")
    raise SecretError("no passphrase was tried")


def _trust_in(
    waiting: control_calls.Waiting,
    how: Unlocking,
    report: Reporter,
    *,
    before: VolumeTrust | None,
) -> VolumeTrust:
    """Return what is known of the volume that the host process names, for all attempts the same."""
    if waiting.tee != how.tee:
        raise IdentityError(
            f"the volume was opened with --tee {waiting.tee}, not {how.tee}",
            hint=f"if that is right, say --tee {waiting.tee} here too",
        )
    if not _UUID.fullmatch(waiting.volume) or (before and before.volume != waiting.volume):
        raise ReportError(
            "the host process does not say which volume it has",
            hint="nothing was sent; look at who runs it",
        )
    return before or VolumeTrust(waiting.volume, how, report, changes=waiting.acceptable)


def _set_key_once(
    directory: VolumeDirectory,
    waiting: control_calls.Waiting,
    passphrase: PassphraseSource,
    *,
    trust: VolumeTrust,
    report: Reporter,
) -> OpenResult:
    sealed = trust.sealed(
        waiting.recipient, "unlock", passphrase, f"Passphrase for {directory.name}: "
    )
    answer = control.ask(directory, control_calls.SetKey(sealed), report)
    fields = json.loads(answer.json)
    fields["notices"] = tuple(fields["notices"])
    result = OpenResult(**fields)
    own = waiting.authentication in {"verified", "changed"}
    try:
        trust.remember(
            waiting.volume,
            waiting.enrolment if own else None,
            authenticated=result.authenticated,
            epoch=result.epoch,
        )
    except PlatformError as err:
        # A full disk must not keep the operator from what is open already.
        report.notice(f"the volume is open, but that was not remembered: {err.message}")
    return result

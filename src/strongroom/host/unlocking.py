# SPDX-License-Identifier: Apache-2.0
"""The passphrase for a volume whose host process waits for it, to its enclave only."""

import json
import re
from pathlib import Path
from typing import Final

from strongroom.errors import (
    EmptyPassphraseError,
    IdentityError,
    PlatformError,
    ReportError,
    SecretError,
    WrongPassphraseError,
)
from strongroom.host import control, control_calls, runtime
from strongroom.host.contracts import OpenResult, PassphraseSource, Reporter, Unlocking
from strongroom.host.runtime import VolumeDirectory
from strongroom.host.sealed_elsewhere import explained
from strongroom.host.trust import OWN_STATES, VolumeTrust

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def set_key(
    name: str, passphrase: PassphraseSource, how: Unlocking, report: Reporter
) -> OpenResult:
    """Give a waiting volume its passphrase, encrypted to its enclave.

    Raises:
        NotOpenError: Nothing waits under this name.
        IdentityError: The enclave is not the one that the volume was enrolled with.
        StrongroomError: The passphrase or the device was refused.
    """
    return set_key_in(VolumeDirectory(runtime.check_name(name)), passphrase, how, report)


def set_key_in(
    directory: VolumeDirectory, passphrase: PassphraseSource, how: Unlocking, report: Reporter
) -> OpenResult:
    """Give the volume of a directory its passphrase; a person may try again. As :func:`set_key`."""
    attempts = passphrase.attempts
    trust: VolumeTrust | None = None
    for attempt in range(1, attempts + 1):
        waiting = control.ask(directory, control_calls.AskRecipient(), report)
        trust = _trust_in(waiting, how, report, image=_image_of(directory), before=trust)
        try:
            with explained(trust, waiting.enrolment):
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
    image: Path | None,
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
    return before or VolumeTrust(
        waiting.volume,
        how,
        report,
        image=image,
        changes=waiting.acceptable,
        enrolled=waiting.enrolment is not None,
        former=waiting.former_volumes,
    )


def _image_of(directory: VolumeDirectory) -> Path | None:
    """Return where the host process says that the volume is."""
    image = directory.read_record().get("image")
    return Path(image) if isinstance(image, str) and image.startswith("/") else None


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
    own = waiting.authentication in OWN_STATES
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

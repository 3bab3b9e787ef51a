# SPDX-License-Identifier: Apache-2.0
"""The operator's word that another enclave may open a volume from now on.

Who the enclave is stands between a passphrase and a stranger, so only the operator changes what is
expected. The newest epoch of the header is another memory, and stays: the recovery key gives the
volume key, which authenticates the epoch in any enclave.
"""

from pathlib import Path

from strongroom.errors import TeeError
from strongroom.host import known_enclaves, runtime
from strongroom.host.attestation import as_facts
from strongroom.host.contracts import Enrolment, ForgetResult, ImageReference, Reporter, TeeName
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.looking import looked_at
from strongroom.host.silence import Silent
from strongroom.uuids import is_uuid
from strongroom.values import replace


def forget(
    volume: str, report: Reporter, *, header: Path | None, tee: TeeName, everything: bool
) -> ForgetResult:
    """Let the next enclave of a volume be trusted anew.

    Args:
        volume: Its UUID, or the path of its image, for all UUIDs that the volume has had.
        report: Where is said what a crash had left.
        header: Its detached header, if ``volume`` is a path.
        tee: The enclave that reads the UUID out of the image.
        everything: Forget the newest epoch too, and lines that are malformed.

    Raises:
        NotFoundError: Nothing is known of the volume, or there is no such image.
        TeeError: What is known of it cannot be read.
        NoPermissionError: The state directory cannot be written.
        StrongroomError: The image has no header that can be read.
    """
    runtime.sweep(report)
    uuids = (volume.lower(),) if is_uuid(volume) else _uuids_in(Path(volume), header, tee)
    known = [uuid for uuid in uuids if known_enclaves.mentions(uuid)] or uuids[:1]
    results = [_forget(uuid, everything=everything) for uuid in known]
    return replace(results[0], epoch=max(it.epoch for it in results))


def _forget(uuid: str, *, everything: bool) -> ForgetResult:
    if not everything:
        return _result(uuid, known_enclaves.forget_enclave(uuid), epoch_kept=True)
    try:
        known = known_enclaves.find(uuid)
    except TeeError:
        # Damaged lines are what this is for.
        known = None
    known_enclaves.forget_everything(uuid)
    return _result(uuid, known, epoch_kept=False)


def _uuids_in(image: Path, header: Path | None, tee: TeeName) -> tuple[str, ...]:
    """Return the UUID of a volume, then those that it had before another program changed it."""
    with looked_at(ImageReference(image, header), Silent(), tee=tee) as looked:
        return (looked.facts.uuid.lower(), *looked.facts.former_uuids)


def _result(uuid: str, known: KnownEnclave | None, *, epoch_kept: bool) -> ForgetResult:
    return ForgetResult(
        uuid=uuid,
        image="" if known is None else known.image,
        enclave=None if known is None else Enrolment(known.policy, as_facts(known.identity)),
        epoch=0 if known is None else known.epoch,
        epoch_kept=epoch_kept,
    )

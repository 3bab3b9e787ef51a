# SPDX-License-Identifier: Apache-2.0
"""What an open volume looks like from outside, as ``open`` and ``status`` print it."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from strongroom.boundary import calls
from strongroom.host import promises
from strongroom.host.attach import Attached
from strongroom.host.attestation import as_facts, from_boundary
from strongroom.host.contracts import (
    Enrolment,
    KdfChoice,
    MeasureResult,
    OpenRequest,
    OpenResult,
    Reporter,
    StatusResult,
)
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """All that is known of a volume, from its header to its device."""

    request: OpenRequest
    socket: Path
    facts: calls.DiskFacts
    description: calls.Description
    enclave_pid: int
    started_at_unix: float
    attached: Attached | None = None
    unlocked: calls.Unlocked | None = None

    @property
    def image(self) -> str:
        """The image's absolute path."""
        return str(self.request.image.path.absolute())

    @property
    def uri(self) -> str:
        """Where NBD clients find the plaintext."""
        # Spec: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md; RFC 3986, 2.1.
        return f"nbd+unix:///{quote(self.request.name)}?socket={quote(os.fsencode(self.socket))}"

    @property
    def device(self) -> str | None:
        """The block device, if there is one."""
        device = None if self.attached is None else self.attached.device
        return None if device is None else str(device)

    @property
    def read_only(self) -> bool:
        """Whether writes are refused, because it was asked for or because the enclave says so."""
        return self.request.read_only or (self.unlocked is not None and self.unlocked.read_only)

    @property
    def attach(self) -> str:
        """How the device is made."""
        return "none" if self.attached is None else self.attached.kind


def open_result(volume: OpenVolume, unlocked: calls.Unlocked) -> OpenResult:
    """Return what ``open`` prints."""
    attached = volume.attached
    return OpenResult(
        name=volume.request.name,
        image=volume.image,
        socket=str(volume.socket),
        uri=volume.uri,
        device=volume.device,
        attach=volume.attach,
        attach_reason="" if attached is None else attached.reason,
        read_only=volume.request.read_only or unlocked.read_only,
        host_pid=os.getpid(),
        enclave_pid=volume.enclave_pid,
        size_bytes=volume.facts.data_size_bytes,
        sector_size_bytes=volume.facts.sector_size_bytes,
        keyslot=unlocked.keyslot,
        authenticated=unlocked.authenticated,
        epoch=unlocked.epoch,
        notices=(
            *volume.facts.notices,
            *unlocked.notices,
            *promises.shortcomings(volume.description.confinement),
            *(() if attached is None else attached.notices),
        ),
    )


def status_result(
    volume: OpenVolume,
    counters: dict[str, int],
    rates: dict[str, float],
    *,
    state: str,
    problems: tuple[str, ...],
) -> StatusResult:
    """Return what ``status`` prints."""
    identity = volume.description.identity
    return StatusResult(
        name=volume.request.name,
        image=volume.image,
        state=state,
        problems=problems,
        uuid=volume.facts.uuid,
        socket=str(volume.socket),
        uri=volume.uri,
        device=volume.device,
        attach=volume.attach,
        read_only=volume.read_only,
        discard=volume.request.discard or volume.facts.discard_allowed,
        direct=volume.request.direct,
        host_pid=os.getpid(),
        enclave_pid=volume.enclave_pid,
        size_bytes=volume.facts.data_size_bytes,
        sector_size_bytes=volume.facts.sector_size_bytes,
        cipher=volume.facts.cipher,
        cipher_backend=volume.description.cipher_backend,
        opened_at=datetime.fromtimestamp(volume.started_at_unix, UTC).isoformat(timespec="seconds"),
        uptime_seconds=round(time.time() - volume.started_at_unix, 1),
        tee=identity.tee,
        simulated=identity.simulated,
        identity=as_facts(from_boundary(identity)),
        transport=volume.description.transport,
        authentication=_authentication(volume),
        enrolment=enrolment_facts_if_any(volume.facts.enrolment),
        epoch=volume.facts.epoch if volume.unlocked is None else volume.unlocked.epoch,
        confinement=tuple(
            MeasureResult(item.name, item.active, item.detail)
            for item in volume.description.confinement
        ),
        counters=counters,
        rates=rates,
    )


def _authentication(volume: OpenVolume) -> calls.Authentication:
    """Return what is known of the header now: an accepted change was written with a new epoch."""
    loaded, unlocked = volume.facts, volume.unlocked
    accepted = unlocked is not None and unlocked.authenticated and unlocked.epoch > loaded.epoch
    return "verified" if accepted and loaded.authentication == "changed" else loaded.authentication


def enrolment_facts(enrolment: calls.Enrolment) -> Enrolment:
    """Return what a volume is sealed to, for people and for ``--json``."""
    return Enrolment(enrolment.policy, as_facts(from_boundary(enrolment.identity)))


def enrolment_facts_if_any(enrolment: calls.Enrolment | None) -> Enrolment | None:
    """The same for a volume that may be sealed to none."""
    return None if enrolment is None else enrolment_facts(enrolment)


def note_least_kdf(choice: KdfChoice, made: calls.Keyslot, report: Reporter) -> None:
    """Say so if a machine was too slow for more than the least that is chosen by measuring."""
    measured = choice.memory_kib is None and choice.iterations is None
    least = calls.LEAST_MEASURED_MEMORY_KIB * calls.LEAST_MEASURED_PASSES
    if measured and made.kdf != "pbkdf2" and made.kdf_memory_kib * made.kdf_iterations <= least:
        report.notice(
            "this machine is slow, or too busy to be measured: the key derivation is the least "
            f"that is made, {made.kdf_memory_kib // 1024} MiB and {made.kdf_iterations} passes, "
            "and takes longer than 2 seconds here"
        )

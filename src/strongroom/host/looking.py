# SPDX-License-Identifier: Apache-2.0
"""Looking at a volume without using it: also at one that cannot be used.

Whatever stock tools show of a header is shown here, and what is not supported of it is named.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import TypeAlias

from strongroom.boundary import calls
from strongroom.host import known_enclaves, runtime
from strongroom.host.contracts import ImageReference, KeyslotResult, Reporter, TeeName
from strongroom.host.files import opened_files
from strongroom.host.images import keyslot_result
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.silence import Silent
from strongroom.values import dataclass

JsonValue: TypeAlias = "str | int | bool | list[JsonValue] | dict[str, JsonValue] | None"


def dump(image: ImageReference, report: Reporter, *, tee: TeeName) -> dict[str, JsonValue]:
    """Return the header in full, without secrets, and what an enclave of ``tee`` finds about it.

    Raises:
        FormatError: There is no header, or its parts do not fit together.
    """
    runtime.sweep(report)
    with looked_at(image, Silent(), tee=tee) as looked:
        text = looked.enclave.call(calls.DumpHeader()).json
        facts: dict[str, JsonValue] = json.loads(text)
        authentication = looked.authentication()
    return {"image": str(image.path), "authentication": authentication, **facts}


def list_keyslots(
    image: ImageReference, report: Reporter, *, tee: TeeName
) -> tuple[KeyslotResult, ...]:
    """Return the keyslots of a volume; a notice says if its header was changed."""
    runtime.sweep(report)
    with looked_at(image, report, tee=tee) as looked:
        looked.warn()
        return tuple(keyslot_result(item) for item in looked.facts.keyslots)


@dataclass(frozen=True, slots=True)
class LookedAt:
    """An enclave that has read the header of an image."""

    enclave: EnclaveProcess
    facts: calls.HeaderFacts
    report: Reporter

    def authentication(self) -> dict[str, JsonValue]:
        """Return for JSON what is found about the header before any passphrase.

        The state is the enclave's :data:`strongroom.boundary.calls.Authentication`; ``older`` when
        the epoch is lower than that of a header that was seen here; ``bare`` when the volume was
        seen with authentication and has none.

        Raises:
            TeeError: What is known of the volume cannot be read.
        """
        facts, lost = self.facts, self._lost()
        return {
            "state": facts.authentication if lost is None else lost[0],
            "epoch": facts.epoch,
            "findings": [*facts.changes, *(() if lost is None else lost[1:])],
        }

    def warn(self) -> None:
        """Say what is odd about the header: for commands that go on all the same."""
        findings = "; ".join(self.facts.changes)
        if self.facts.authentication == "tampered":
            self.report.notice(f"the header was tampered with, do not trust it: {findings}")
        elif self.facts.authentication == "changed":
            self.report.notice(f"another program changed the header: {findings}")
        lost = self._lost()
        if lost is not None:
            self.report.notice(f"the header is not the one that was last seen: {lost[1]}")
        for reason in self.facts.unsupported:
            self.report.notice(f"the volume cannot be used: {reason}")

    def _lost(self) -> tuple[str, str] | None:
        """Return what the header lacks of the newest one that was seen here: a state, and words."""
        facts = self.facts
        known = known_enclaves.find_each((facts.uuid, *facts.former_uuids))
        if not known or facts.authentication == "tampered":
            return None
        if any(it.authenticated for it in known) and facts.authentication == "absent":
            return "bare", "it has no authentication, and had when it was last seen here"
        newest = max(it.epoch for it in known)
        if facts.epoch < newest:
            return "older", f"it is of epoch {facts.epoch}, and epoch {newest} was seen here"
        return None


@contextlib.contextmanager
def looked_at(image: ImageReference, report: Reporter, *, tee: TeeName) -> Iterator[LookedAt]:
    """Start an enclave that looks at the header of an image, and end it with the block.

    Raises:
        FormatError: There is no header, or its parts do not fit together.
        StrongroomError: The image cannot be opened.
    """
    with (
        opened_files(image, read_only=True) as files,
        launch(report, tee=tee, disk=files.start_disk(), look_only=True) as enclave,
        files.header_lock(),
    ):
        with files.named():
            facts = enclave.call(calls.LookAtDisk(*enclave.files(*files.descriptors)))
        for notice in facts.notices:
            report.notice(notice)
        yield LookedAt(enclave, facts, report)

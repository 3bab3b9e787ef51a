# SPDX-License-Identifier: Apache-2.0
"""Moving a volume from one enclave to the next, while the old one still runs."""

import contextlib
from pathlib import Path

from strongroom.boundary import calls
from strongroom.boundary.sealed import BLANK
from strongroom.errors import KeyslotStateError
from strongroom.host import attestation, runtime
from strongroom.host.contracts import (
    ImageReference,
    PassphraseSource,
    Reporter,
    ResealResult,
    SealPolicy,
    Unlocking,
)
from strongroom.host.files import opened_files
from strongroom.host.images import LoadedImage, loaded_files
from strongroom.host.launch import launch
from strongroom.host.remembering import after_change
from strongroom.host.results import enrolment_facts
from strongroom.values import replace

_PROMPT = "Passphrase: "


def reseal(
    image: ImageReference,
    passphrase: PassphraseSource,
    report: Reporter,
    *,
    how: Unlocking,
    policy: SealPolicy | None,
    successor: Path | None,
    adopt: bool,
) -> ResealResult:
    """Seal a volume to the next enclave, or to this one: as it is now, or in place of a lost one.

    Passphrases and recovery keys stay as they are.

    Args:
        image: The volume.
        passphrase: Of any keyslot that opens here.
        report: Where progress and notices go.
        how: The provider, and what the operator agrees to.
        policy: What it is sealed to from now on; ``None`` leaves that as it is.
        successor: The interpreter of the next Strongroom; ``None`` is this one.
        adopt: The enclave that it is sealed to is lost; the keyslots that need it are removed.

    Raises:
        IdentityError: The volume may not go to that enclave.
        SecurityVersionError: It would be a downgrade.
        KeyslotStateError: The volume is sealed to no enclave.
    """
    runtime.sweep(report)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(opened_files(image, read_only=False))
        stack.enter_context(files.held(header_shared=False))
        loaded = stack.enter_context(loaded_files(files, how, report))
        before = loaded.facts.enrolment
        if before is None:
            raise KeyslotStateError(
                "the volume is not sealed to an enclave",
                hint="its keyslots need nothing but their passphrases",
            )
        wanted = before.policy if policy is None else policy
        if successor is None:
            order = calls.Reseal(BLANK, wanted, adopt)
            sealed = loaded.sealed(passphrase, _PROMPT, order)
            with loaded.header_locked():
                resealed = loaded.changed(replace(order, existing=sealed))
                _remember(loaded, resealed)
        else:
            resealed = _hand_over(
                loaded, passphrase, report, how=how, policy=wanted, successor=successor
            )
    return ResealResult(
        image=str(image.path),
        uuid=loaded.facts.uuid,
        before=enrolment_facts(before),
        after=enrolment_facts(resealed.enrolment),
        removed_keyslots=resealed.removed_keyslots,
        epoch=resealed.epoch,
    )


def _remember(loaded: LoadedImage, resealed: calls.Resealed) -> None:
    with after_change(loaded.report):
        loaded.trust.remember(
            loaded.facts.uuid,
            resealed.enrolment,
            authenticated=True,
            epoch=resealed.epoch,
            exactly=True,
        )


def _hand_over(
    loaded: LoadedImage,
    passphrase: PassphraseSource,
    report: Reporter,
    *,
    how: Unlocking,
    policy: SealPolicy,
    successor: Path,
) -> calls.Resealed:
    with launch(report, tee=how.tee, python=successor) as following:
        offered = following.call(calls.BecomeSuccessor())
        attested = attestation.check(
            offered.report, "handover", offered.public_key, tee=how.tee, known=None
        )
        following_measurement = attested.identity.measurement
        report.notice(
            f"the next enclave: signer {attested.identity.signer.hex()}, measurement "
            f"{following_measurement.hex()}, security version {attested.identity.security_version}"
        )
        order = calls.HandOver(BLANK, offered, policy)
        sealed = loaded.sealed(passphrase, _PROMPT, order, next_enclave=following_measurement)
        # The header's lock is held around all of them, so this is the header that is handed over.
        with loaded.header_locked():
            handover = loaded.enclave.call(replace(order, existing=sealed))
            following.call(calls.LoadDisk(*loaded.files.descriptors, read_only=False))
            taken = following.call(calls.TakeOver(handover))
            _remember(loaded, taken)
        for notice in taken.notices:
            report.notice(notice)
        return taken

# SPDX-License-Identifier: Apache-2.0
"""Meeting a TPM, and forgetting it."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from strongroom.boundary import tpm_calls
from strongroom.errors import (
    FormatError,
    StrongroomError,
    TpmError,
    TpmUntrustedError,
    UsageError,
)
from strongroom.host.contracts import Reporter
from strongroom.host.tpm.record import read_record, record_path, remove_record, write_record
from strongroom.host.tpm.results import EnrolResult, TpmChoice
from strongroom.host.tpm.using import enclave_with_tpm
from strongroom.tpm import PublicArea


def enrol(choice: TpmChoice, roots: Path | None, report: Reporter, *, replace: bool) -> EnrolResult:
    """Meet a TPM and pin its keys.

    The same TPM can be enrolled again. Its attestation key is then a new one.

    Args:
        choice: Which TPM.
        roots: Certificates of the makers whose TPMs are taken; ``None`` takes any.
        report: Where notices go.
        replace: It may take the place of another TPM's enrolment.

    Raises:
        UsageError: Another TPM is enrolled, and ``replace`` is false. Nothing was changed here.
        TpmError: As :func:`using`.
        TpmUntrustedError: None of those makers vouches for it. Nothing was changed here.
        PlatformError: The record cannot be written.
    """
    # What the operator got wrong is found before the TPM is touched.
    vouch = _anybody if roots is None else _vouching(roots, report)
    earlier = read_record()
    with enclave_with_tpm(choice, report) as enclave:
        met = enclave.call(tpm_calls.MeetTpm(earlier))
        try:
            if not replace:
                _refuse_replacement(met.replaces)
            vouched_by = vouch(met)
            write_record(met.record)
        except BaseException:
            with contextlib.suppress(StrongroomError):
                enclave.call(tpm_calls.KnowTpm(met.record))
                enclave.call(tpm_calls.ForgetTpm(met.record))
            raise
        if earlier is not None:
            with contextlib.suppress(StrongroomError):  # of another TPM, or of another enclave
                enclave.call(tpm_calls.KnowTpm(met.record))
                enclave.call(tpm_calls.ForgetTpm(earlier))
    if not vouched_by:
        report.notice(_doubt(met))
    return EnrolResult(
        endorsement=met.endorsement.name.hex(),
        certificate=_verdict(met, vouched_by),
        vouched_by=vouched_by,
        storage_root=met.storage_root.name.hex(),
        attestation=met.attestation.name.hex(),
        reset_count=met.clock.reset_count,
    )


def forget(choice: TpmChoice, report: Reporter) -> None:
    """Remove the attestation key of the enrolled TPM, and the record.

    Raises:
        TpmError: As :func:`using`. The record stays.
        UsageError: No TPM is enrolled.
    """
    record = read_record()
    if record is None:
        raise UsageError("no TPM is enrolled", hint="there is nothing to forget")
    try:
        with enclave_with_tpm(choice, report) as enclave:
            enclave.call(tpm_calls.KnowTpm(record))
            enclave.call(tpm_calls.ForgetTpm(record))
    except (TpmError, FormatError) as err:
        err.hint = f"to forget a TPM that is gone, remove {record_path()}; {err.hint}".rstrip("; ")
        raise
    remove_record()


def _refuse_replacement(replaces: tpm_calls.Replacement) -> None:
    hint = "if it is to take the place of the earlier one, add --replace"
    if replaces == "another TPM":
        raise UsageError("another TPM is enrolled here", hint=hint)
    if replaces == "an unreadable record":
        raise UsageError(
            f"a TPM is enrolled here, and this enclave cannot read its record {record_path()}",
            hint=hint,
        )


def _anybody(_met: tpm_calls.TpmMet) -> str:
    return ""


def _vouching(roots: Path, report: Reporter) -> Callable[[tpm_calls.TpmMet], str]:
    """Return who finds out whose a TPM is: the name of a root, or an error."""
    from strongroom.host.tpm.certificates import read_authorities, verify  # noqa: PLC0415 - slow

    authorities = read_authorities(roots)
    if authorities.unreadable:
        report.notice(f"these files hold no certificate: {', '.join(authorities.unreadable)}")

    def vouch(met: tpm_calls.TpmMet) -> str:
        if not met.certificate:
            raise TpmUntrustedError(
                "the TPM has no certificate that any maker could have signed",
                hint="without --roots it is taken as it is, on first use",
            )
        return verify(met.certificate, PublicArea(met.endorsement.public), authorities)

    return vouch


def _doubt(met: tpm_calls.TpmMet) -> str:
    if met.certificate:
        return (
            "trust on first use: the TPM's certificate was not verified, and whoever answered is "
            "taken for it (--roots DIR verifies it)"
        )
    return (
        "trust on first use: the TPM has no certificate, and nobody but itself says that it is "
        "genuine"
    )


def _verdict(met: tpm_calls.TpmMet, vouched_by: str) -> Literal["verified", "unverified", "none"]:
    if vouched_by:
        return "verified"
    return "unverified" if met.certificate else "none"

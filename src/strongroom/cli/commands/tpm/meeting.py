# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm enrol``, ``forget`` and ``selftest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from strongroom.cli.arguments import FilePath, json_option
from strongroom.cli.commands.tpm.options import TPM_EXITS, TpmOptions, choice_of, tpm_options
from strongroom.cli.output import pairs, table
from strongroom.cli.tree import command
from strongroom.errors import SelftestError, TpmUntrustedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.session import Session


@command(
    "enrol",
    examples=(
        "strongroom tpm enrol --roots /etc/strongroom/tpm-makers",
        "strongroom tpm enrol --tpm swtpm:path=/run/tpm.sock",
        "strongroom tpm enrol --replace",
    ),
    exits=(*TPM_EXITS, TpmUntrustedError),
)
@click.option(
    "--roots",
    metavar="DIR",
    type=FilePath(),
    help="Certificates of makers of TPMs: one of them has to vouch for this one. Without it the "
    "TPM is trusted on first use.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Let this TPM take the place of another one's enrolment. Values that were derived with "
    "--protected for the earlier TPM are of no use with this one.",
)
@tpm_options
@json_option
def enrol_command(
    session: Session, *, roots: Path | None, replace: bool, **options: Unpack[TpmOptions]
) -> None:
    """Meet a TPM, and pin it.

    Its endorsement key is met, its storage root key found or made, and an attestation key made that
    this enclave alone can use. From then on no other TPM is taken for it.
    """
    from strongroom.host.tpm.enrolling import enrol  # noqa: PLC0415 - only this command

    _require_enclave(options)
    with session.reporter() as report:
        met = enrol(choice_of(options), roots, report, replace=replace)
    vouched = f", by {met.vouched_by}" if met.vouched_by else ""
    session.show(
        met,
        pairs(
            [
                ("endorsement key", met.endorsement),
                ("certificate", met.certificate + vouched),
                ("storage root key", met.storage_root),
                ("attestation key", met.attestation),
                ("resets", str(met.reset_count)),
            ]
        ),
        done="the TPM is enrolled",
    )


@command("forget", examples=("strongroom tpm forget",), exits=TPM_EXITS)
@tpm_options
@json_option
def forget_command(session: Session, **options: Unpack[TpmOptions]) -> None:
    """Forget the enrolled TPM.

    The attestation key is removed from it. The storage root key stays: others may use it.
    """
    from strongroom.host.tpm.enrolling import forget  # noqa: PLC0415 - only this command

    _require_enclave(options)
    with session.reporter() as report:
        forget(choice_of(options), report)
    session.show({"forgotten": True}, "forgot the TPM", done="the TPM is forgotten")


@command(
    "selftest",
    examples=("strongroom tpm selftest", "strongroom tpm selftest --in host"),
    exits=(*TPM_EXITS, SelftestError),
)
@tpm_options
@json_option
def selftest_command(session: Session, **options: Unpack[TpmOptions]) -> None:
    """Do everything with the TPM once: make, use and remove.

    A counter is made and removed; nothing else is changed, and nothing is left.
    """
    from strongroom.host.tpm.selftest import selftest  # noqa: PLC0415

    with session.reporter() as report:
        results = selftest(choice_of(options), report)
    place = options["place"]
    failed = [name for name, problem in results if problem]
    try:
        session.show(
            [{"name": name, "in": place, "problem": problem} for name, problem in results],
            table(
                ("TEST", "IN", "RESULT"),
                [
                    (name, place, f"FAILED: {problem}" if problem else "passed")
                    for name, problem in results
                ],
            ),
        )
    finally:  # a failed test counts for more than a full disk
        if failed:
            raise SelftestError(f"{len(failed)} of {len(results)} tests with the TPM failed")


def _require_enclave(options: TpmOptions) -> None:
    if options["place"] == "host":
        raise UsageError("an enclave enrols a TPM, and forgets it", hint="leave out --in host")

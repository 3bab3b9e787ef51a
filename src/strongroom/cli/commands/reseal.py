# SPDX-License-Identifier: Apache-2.0
"""``strongroom reseal``: move a volume to the next enclave."""

from pathlib import Path
from typing import Unpack

import click

from strongroom.cli.arguments import (
    FilePath,
    ImageOptions,
    PassphraseOptions,
    UnlockingOptions,
    header_option,
    image_argument,
    json_option,
    passphrase_option,
    seal_policy_option,
    unlocking_options,
)
from strongroom.cli.commands._keys import IMAGE_EXITS, UNLOCKING_EXITS, unlocking
from strongroom.cli.output import pairs
from strongroom.cli.passphrase import passphrase_source
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import KeyslotStateError, UsageError
from strongroom.host.contracts import Enrolment, ImageReference, ResealResult, SealPolicy


class ResealOptions(ImageOptions, UnlockingOptions, PassphraseOptions):
    """What the command line gives to ``reseal``."""

    successor: Path | None
    adopt: bool
    seal_policy: SealPolicy | None


@command(
    "reseal",
    examples=(
        "strongroom reseal vault.img --next /opt/strongroom-2/bin/python",
        "strongroom reseal vault.img --seal-policy measurement",
        "strongroom reseal vault.img --adopt",
    ),
    exits=(*IMAGE_EXITS, *UNLOCKING_EXITS, KeyslotStateError),
)
@image_argument
@click.option(
    "--next",
    "successor",
    metavar="PYTHON",
    type=FilePath(),
    help="Seal to the enclave of another Strongroom: the Python that it is installed in. Without "
    "it the volume is sealed to this one, as it is now.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="The enclave that IMAGE is sealed to is lost: seal to this one. Needs a recovery key, and "
    "removes the keyslots that need the lost enclave.",
)
@seal_policy_option(default=None)
@header_option
@unlocking_options
@passphrase_option
@json_option
def reseal_command(session: Session, **options: Unpack[ResealOptions]) -> None:
    """Move IMAGE to the next enclave.

    Run the present Strongroom and name the next one, before the present one is removed. Passphrases
    and recovery keys stay as they are. A downgrade is refused.
    """
    if options["adopt"] and options["successor"] is not None:
        raise UsageError("--adopt and --next exclude each other")
    with session.reporter() as report:
        result = session.volumes.reseal(
            ImageReference(options["image"], options["header"]),
            passphrase_source(session, options, report),
            report,
            how=unlocking(options),
            policy=options["seal_policy"],
            successor=options["successor"],
            adopt=options["adopt"],
        )
    session.show(result, _words(result), done="the volume is sealed anew")


def _words(result: ResealResult) -> str:
    removed = ", ".join(str(number) for number in result.removed_keyslots)
    return pairs(
        [
            ("volume", result.image),
            ("before", enrolment_words(result.before)),
            ("now", enrolment_words(result.after)),
            ("epoch", str(result.epoch)),
            *([("removed", f"keyslots {removed}")] if removed else []),
        ]
    )


def enrolment_words(enrolment: Enrolment) -> str:
    """Return what a volume is sealed to, for people."""
    identity = enrolment.identity
    simulated = ", simulated" if identity["simulated"] else ""
    sealed_to = str(identity[enrolment.policy])
    return (
        f"{enrolment.policy} {sealed_to} "
        f"({identity['tee']}{simulated}, security version {identity['security_version']})"
    )

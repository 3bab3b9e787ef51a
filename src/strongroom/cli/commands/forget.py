# SPDX-License-Identifier: Apache-2.0
"""``strongroom forget``: let another enclave open a volume from now on."""

from pathlib import Path

import click

from strongroom.cli.arguments import VolumeReference, header_option, json_option, tee_option
from strongroom.cli.commands._keys import IMAGE_EXITS
from strongroom.cli.commands.reseal import enrolment_words
from strongroom.cli.output import pairs
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import NoPermissionError
from strongroom.host.contracts import ForgetResult, TeeName


@command(
    "forget",
    examples=(
        "strongroom forget vault.img",
        "strongroom forget 0a4dcb12-9f31-4d0e-8f0c-5a6b2f1e7c3d",
        "strongroom forget vault.img --everything",
    ),
    exits=(*IMAGE_EXITS, NoPermissionError),
)
@click.argument("volume", metavar="IMAGE|UUID", type=VolumeReference())
@click.option(
    "--everything",
    is_flag=True,
    help="Forget the newest epoch too, also where the memory is damaged: an older header, whose "
    "removed passphrases open it, is then not noticed.",
)
@header_option
@tee_option
@json_option
def forget_command(
    session: Session, *, volume: str, everything: bool, header: Path | None, tee: TeeName
) -> None:
    """Forget who the enclave of a volume is.

    For exit code 70 when you know why the enclave is another one: an upgrade, a lost or moved state
    directory. The next enclave is trusted anew: the next passphrase or recovery key goes to it. The
    volume is not changed. The newest epoch of its header stays known.
    """
    with session.reporter() as report:
        result = session.volumes.forget(
            volume, report, header=header, tee=tee, everything=everything
        )
    session.show(result, _words(result), done="the volume is forgotten")


def _words(result: ForgetResult) -> str:
    if result.epoch_kept:
        epoch = f"kept, {result.epoch}: an older header is still refused"
    else:
        epoch = "forgotten: an older header is accepted at the next open"
    return pairs(
        [
            ("volume", result.uuid),
            ("image", result.image or "unknown"),
            ("forgotten", enrolment_words(result.enclave) if result.enclave else "damaged lines"),
            ("epoch", epoch),
        ]
    )

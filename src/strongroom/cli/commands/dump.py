# SPDX-License-Identifier: Apache-2.0
"""``strongroom dump``: what a header says."""

from pathlib import Path

from strongroom.cli.arguments import header_option, image_argument, json_option, tee_option
from strongroom.cli.commands._keys import IMAGE_EXITS
from strongroom.cli.output import outline
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import HeaderBrokenError, Luks1Error
from strongroom.host.contracts import ImageReference, TeeName


@command(
    "dump",
    examples=("strongroom dump vault.img", "strongroom dump vault.img --json"),
    exits=(*IMAGE_EXITS, Luks1Error, HeaderBrokenError),
)
@image_argument
@header_option
@tee_option
@json_option
def dump_command(session: Session, *, image: Path, header: Path | None, tee: TeeName) -> None:
    """Show what the header of IMAGE says.

    Segments, keyslots, digests and tokens. No passphrase is needed and no secret is shown. Unless
    'authentication' says that the header is verified, any writer of the disk can have written this.
    The 'epoch' counts Strongroom's changes; what cryptsetup calls Epoch is the sequence number.
    Its state 'older' is a header from before one that was seen here, and 'bare' one that has lost
    its authentication.
    """
    with session.reporter() as report:
        facts = session.volumes.dump(ImageReference(image, header), report, tee=tee)
    session.show(facts, outline(facts))

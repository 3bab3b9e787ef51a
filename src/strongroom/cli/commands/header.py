# SPDX-License-Identifier: Apache-2.0
"""``strongroom header``: back up and restore the header of a volume."""

from pathlib import Path

import click

from strongroom.cli.arguments import (
    FilePath,
    header_option,
    image_argument,
    json_option,
    tee_option,
)
from strongroom.cli.commands._keys import IMAGE_EXITS
from strongroom.cli.new_file import refuse_stream
from strongroom.cli.output import outline
from strongroom.cli.session import Session
from strongroom.cli.tree import Group, command
from strongroom.errors import (
    AlreadyOpenError,
    HeaderTamperedError,
    RollbackError,
    TargetInUseError,
)
from strongroom.host.contracts import ImageReference, TeeName

header_group = Group(
    "header",
    about="""Back up and restore the header of a volume.

    A volume whose header is lost is lost. A backup opens with the passphrases of its day: keep it
    as safe as the volume.
    """,
    places={
        name: f"strongroom.cli.commands.header:{name}_command" for name in ("backup", "restore")
    },
    options=(),
)

file_argument = click.argument("file", metavar="FILE", type=FilePath())


@command(
    "backup",
    examples=("strongroom header backup vault.img vault.header",),
    exits=(*IMAGE_EXITS, TargetInUseError),
)
@image_argument
@file_argument
@header_option
@tee_option
@json_option
def backup_command(
    session: Session, *, image: Path, file: Path, header: Path | None, tee: TeeName
) -> None:
    """Write the header of IMAGE to the new file FILE.

    The backup holds the keyslots, and none of the data. A header that was tampered with is copied
    too, and a note says so; restore refuses it.
    """
    refuse_stream(file, "backup")
    with session.reporter() as report:
        facts = session.volumes.backup_header(ImageReference(image, header), file, report, tee=tee)
    session.show(facts, outline(facts), done="the backup is written")


@command(
    "restore",
    examples=("strongroom header restore vault.img vault.header",),
    exits=(*IMAGE_EXITS, RollbackError, HeaderTamperedError, TargetInUseError, AlreadyOpenError),
)
@image_argument
@file_argument
@click.option(
    "--force",
    is_flag=True,
    help="Restore although the header in IMAGE is newer, foreign or unreadable, or something else "
    "lies there. An older header brings removed passphrases back; a foreign one makes the data "
    "unreadable.",
)
@header_option
@tee_option
@json_option
def restore_command(
    session: Session, *, image: Path, file: Path, force: bool, header: Path | None, tee: TeeName
) -> None:
    """Write the header in FILE back to IMAGE.

    A header that is older than the one in IMAGE, or of another volume, is refused, and so is an
    IMAGE that holds something else.
    """
    with session.reporter() as report:
        facts = session.volumes.restore_header(
            ImageReference(image, header), file, report, tee=tee, force=force
        )
    session.show(facts, outline(facts), done="the header is restored")

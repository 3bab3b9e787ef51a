# SPDX-License-Identifier: Apache-2.0
"""``strongroom close``: close an open volume."""

import click

from strongroom.cli.arguments import json_option, open_name_argument
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import (
    DiskError,
    MountedError,
    NotAnsweringError,
    NotOpenError,
    UnflushedError,
)


@command(
    "close",
    examples=("strongroom close vault",),
    exits=(MountedError, NotOpenError, DiskError, UnflushedError, NotAnsweringError),
)
@open_name_argument
@click.option(
    "--force",
    is_flag=True,
    help="Close within about a minute, although the device is in use, the disk hangs or a process "
    "does not answer. What is mounted stays mounted, and gives errors until you unmount it.",
)
@json_option
def close_command(session: Session, *, name: str, force: bool) -> None:
    """Close the volume NAME.

    Flushes what was written, removes the block device, erases the keys and ends the enclave. A
    device that is mounted stays, and so does a volume whose disk does not flush within two minutes.

    With --force the keys are erased even if the disk hangs, also while another close waits. Data
    that could not be written back by then is lost, and a note or the exit code says so.
    """
    with session.reporter() as report:
        session.volumes.close_volume(name, force=force, report=report)
    session.show({"name": name, "closed": True}, f"closed {name}", done="the volume is closed")

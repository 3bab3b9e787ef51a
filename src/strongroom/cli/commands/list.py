# SPDX-License-Identifier: Apache-2.0
"""``strongroom list``: name the open volumes."""

from strongroom.cli.arguments import json_option
from strongroom.cli.output import table
from strongroom.cli.session import Session
from strongroom.cli.tree import command

_HEADER = ("NAME", "STATE", "DEVICE", "HOST PID", "ENCLAVE PID", "IMAGE")


@command("list", examples=("strongroom list", "strongroom list --json | jq -r '.[].name'"))
@json_option
def list_command(session: Session) -> None:
    """List the open volumes.

    Each with its state, its block device, its two processes and its image.
    """
    with session.reporter() as report:
        volumes = session.volumes.list_volumes(report)
    rows = [
        (
            volume.name,
            volume.state,
            volume.device or "none",
            str(volume.host_pid or "-"),
            str(volume.enclave_pid or "-"),
            volume.image,
        )
        for volume in volumes
    ]
    session.show(volumes, table(_HEADER, rows) if rows else "no volume is open")

# SPDX-License-Identifier: Apache-2.0
"""``serve``: the host process of a volume is the command itself."""

import os
import subprocess

from strongroom import _core
from strongroom.host import daemon, runtime
from strongroom.host.contracts import OpenRequest, Reporter
from strongroom.host.lost_identity import warn_of_lost_identity
from strongroom.host.runtime import VolumeDirectory


def serve_volume(
    request: OpenRequest,
    report: Reporter,
    *,
    wait_for_key: bool,
    key_command: tuple[str, ...] | None,
) -> int:
    """Be the host process of a volume until it is closed.

    Args:
        request: The volume and its name.
        report: Where notices go.
        wait_for_key: Leave it to somebody else to run ``strongroom setkey``.
        key_command: What to run instead, in a process of its own, so that the passphrase is never
            in this one.

    Returns:
        The exit code: 0, or that of ``key_command`` if it failed.

    Raises:
        StrongroomError: The volume could not be opened, or the enclave died.
    """
    # No passphrase is ever in this process, and other hosts must see what it has open: that is how
    # they find a device that is in use.
    _core.allow_reading()
    runtime.sweep(report)
    warn_of_lost_identity(report, request.tee)
    key_processes: list[subprocess.Popen[bytes]] = []
    reader, writer = os.pipe()

    def ready(_: VolumeDirectory) -> None:
        if wait_for_key or key_command is None:
            report.notice(f"waiting for `strongroom setkey {request.name}`")
            return
        # The pipe's other end is the key process': if it ends without a key, so does the volume.
        key_processes.append(subprocess.Popen(key_command, pass_fds=(writer,)))
        os.close(writer)

    leash = None if wait_for_key or key_command is None else reader
    daemon.serve(request, ready, leash)
    return key_processes[0].wait() if key_processes else 0

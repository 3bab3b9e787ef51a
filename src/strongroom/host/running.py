# SPDX-License-Identifier: Apache-2.0
"""A volume that is open: what its host process says, and closing it."""

import json
import time
from typing import Final

from strongroom.errors import EnclaveGoneError
from strongroom.host import control, control_calls, runtime
from strongroom.host.attach.record import number, process_started
from strongroom.host.contracts import (
    Enrolment,
    MeasureResult,
    Reporter,
    StatusResult,
)
from strongroom.host.runtime import VolumeDirectory
from strongroom.host.silence import Silent

_GONE_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01


def close_volume(name: str, *, force: bool, report: Reporter) -> None:
    """Detach, flush and erase the keys of an open volume; returns when nothing of it is left.

    Raises:
        NotOpenError: No open volume has this name.
        MountedError: The device is in use and ``force`` was not given.
        DiskError: The last flush failed.
    """
    directory = VolumeDirectory(runtime.check_name(name))
    for removed in runtime.sweep():
        report.notice(f"cleaned up after a crash: {removed}")
    host = number(directory.read_record(), "host_pid")
    started = process_started(host)
    closed = control.ask(directory, control_calls.Close(force), report)
    for point in closed.left:
        report.notice(f"the file system at {point} gives errors from now on: unmount it")
    deadline = time.monotonic() + _GONE_SECONDS
    while runtime.is_alive(directory) or process_started(host) == started >= 0:
        if time.monotonic() > deadline:
            raise EnclaveGoneError(f"the host process of {name} does not end")
        time.sleep(_POLL_SECONDS)


def status(name: str) -> StatusResult:
    """Return everything about an open volume that is not secret.

    Raises:
        NotOpenError: No open volume has this name.
    """
    runtime.sweep()
    directory = VolumeDirectory(runtime.check_name(name))
    answer = control.ask(directory, control_calls.AskStatus(), Silent())
    fields = json.loads(answer.json)
    fields["confinement"] = tuple(MeasureResult(**item) for item in fields["confinement"])
    if fields["enrolment"] is not None:
        fields["enrolment"] = Enrolment(**fields["enrolment"])
    return StatusResult(**fields)

# SPDX-License-Identifier: Apache-2.0
"""A volume that is open: what its host process says, and closing it."""

import json
from typing import Final

from strongroom.errors import NotAnsweringError
from strongroom.host import control, control_calls, runtime
from strongroom.host.closing import left_words
from strongroom.host.contracts import (
    Enrolment,
    MeasureResult,
    Reporter,
    StatusResult,
)
from strongroom.host.control import Host
from strongroom.host.patience import within
from strongroom.host.runtime import VolumeDirectory
from strongroom.host.silence import Silent

STATUS_SECONDS: Final = 10.0
"""A host process that runs answers within four, whatever its enclave and its disk do."""
CLOSE_SECONDS: Final = 360.0
"""Two flushes of two minutes, and what is waited for between them."""
FORCE_SECONDS: Final = 75.0
"""The host process needs a minute at most."""
_GONE_SECONDS: Final = 10.0


def close_volume(name: str, *, force: bool, report: Reporter) -> None:
    """Detach, flush and erase the keys of an open volume; returns when nothing of it is left.

    With ``force`` a host process that does not answer is killed, and what it leaves is removed.

    Raises:
        NotOpenError: No open volume has this name.
        MountedError: The device is in use and ``force`` was not given.
        DiskError: What was written could not be flushed, ``force`` was not given, and it is open.
        UnflushedError: It is closed, and the last flush failed.
        NotAnsweringError: The host process or the enclave does not answer.
    """
    directory = VolumeDirectory(runtime.check_name(name))
    runtime.sweep(report)
    try:
        # Asked first: one that is stopped must not keep us for as long as a flush may take.
        control.ask(directory, control_calls.AskStatus(), report, patience=within(STATUS_SECONDS))
        with control.reached(directory) as host:
            limit = FORCE_SECONDS if force else CLOSE_SECONDS
            closed = host.ask(control_calls.Close(force), report, within(limit))
            for point in closed.left:
                report.notice(left_words(point))
            for notice in closed.notices:
                report.notice(notice)
            _await_end(host, name, report)
    except NotAnsweringError:
        if not force:
            raise
        _end_host(directory, report)


def _await_end(host: Host, name: str, report: Reporter) -> None:
    """Wait for the process that was asked, and not for the name, which may be in use again."""
    if host.await_end(_GONE_SECONDS):
        return
    if host.has_the_name():
        raise NotAnsweringError(
            f"{name} is closed, and its host process (process {host.pid}) does not end"
        )
    report.notice(f"process {host.pid} ends when the disk answers")


def _end_host(directory: VolumeDirectory, report: Reporter) -> None:
    """Kill a host process that does not answer; its enclave goes with it."""
    name = directory.name
    with control.reached(directory) as host:
        if not host.kill():
            raise NotAnsweringError(
                f"the host process of {name} (process {host.pid}) does not end",
                hint="it waits for the disk, or belongs to another user or PID namespace",
            )
    report.notice("the host process did not answer and was killed; what was not flushed is lost")
    runtime.sweep(report)


def status(name: str, report: Reporter) -> StatusResult:
    """Return everything about an open volume that is not secret.

    Raises:
        NotOpenError: No open volume has this name.
        NotAnsweringError: Its host process does not answer.
    """
    runtime.sweep(report)
    return status_in(VolumeDirectory(runtime.check_name(name)), STATUS_SECONDS)


def status_in(directory: VolumeDirectory, seconds: float) -> StatusResult:
    """Return the state of the volume of a directory. Raises as :func:`status`."""
    answer = control.ask(directory, control_calls.AskStatus(), Silent(), patience=within(seconds))
    fields = json.loads(answer.json)
    fields["problems"] = tuple(fields["problems"])
    fields["confinement"] = tuple(MeasureResult(**item) for item in fields["confinement"])
    if fields["enrolment"] is not None:
        fields["enrolment"] = Enrolment(**fields["enrolment"])
    return StatusResult(**fields)

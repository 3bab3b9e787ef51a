# SPDX-License-Identifier: Apache-2.0
"""Removing what dead host processes left. What lives is never touched."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.errors import StrongroomError
from strongroom.host import attach
from strongroom.host.attach.record import Record, number, process_started
from strongroom.host.contracts import Reporter
from strongroom.host.runtime import claims, place
from strongroom.host.runtime.directory import VolumeDirectory, is_name, keep_log_in, read_record_in

_FIRST_ORDINARY_PID: Final = 2


def sweep(report: Reporter) -> None:
    """Clean up after every host process that died without doing so itself, and say what was done.

    A runtime directory that cannot be used, or is in the hands of another user, is left alone: a
    command that needs it says so. Where the caller may not write, nothing is done.
    """
    with contextlib.suppress(StrongroomError), place.opened() as root_fd:
        if root_fd is None:
            return
        found = {*claims.directories(root_fd), *_locked_names(root_fd)}
        for directory in sorted(found, key=lambda item: item.name):
            with contextlib.suppress(OSError, StrongroomError):
                for line in _sweep_one(root_fd, directory):
                    report.notice(line)


def clean(root_fd: int, directory: VolumeDirectory) -> list[str]:
    """Remove what a dead host process left; its lock is held by this process.

    Returns:
        What was done, one sentence each.
    """
    record = _record_of(root_fd, directory)
    kept = _keep_log(root_fd, directory)
    done = _end_enclave(record)
    # A record with a path that no system takes must not keep the rest from being removed.
    with contextlib.suppress(OSError):
        done += attach.clean_stale(record)
    done += _clean_orphans(directory)
    claims.remove(root_fd, directory)
    said = [f"cleaned up after a crash of {directory.name}: {removed}" for removed in done]
    return said if kept is None else [*said, kept_words(directory)]


def kept_words(directory: VolumeDirectory) -> str:
    """Return what to say of the log of a volume that crashed."""
    return f"{directory.name} ended without being closed; its log is kept in {directory.kept_log}"


def kept_logs() -> tuple[VolumeDirectory, ...]:
    """Return the names whose last volume crashed and left its log, in order.

    Raises:
        NoPermissionError: The runtime directory is in the hands of another user.
        PlatformError: It cannot be used.
    """
    with place.opened() as root_fd:
        return () if root_fd is None else tuple(_logged_names(root_fd))


def _sweep_one(root_fd: int, directory: VolumeDirectory) -> list[str]:
    lock_fd = claims.lock_of_dead(root_fd, directory)
    if lock_fd is None:
        return []
    try:
        done = clean(root_fd, directory)
        os.unlink(directory.lock.name, dir_fd=root_fd)
    finally:
        os.close(lock_fd)
    return done


def _locked_names(root_fd: int) -> Iterator[VolumeDirectory]:
    """Find locks too whose holder died before it made its directory, or after it removed it."""
    for entry in os.listdir(root_fd):
        name = entry.removesuffix(".lock")
        if name != entry and is_name(name):
            yield VolumeDirectory(name)


def _logged_names(root_fd: int) -> Iterator[VolumeDirectory]:
    for entry in sorted(os.listdir(root_fd)):
        name = entry.removeprefix(".").removesuffix(".log")
        if entry == f".{name}.log" and is_name(name):
            yield VolumeDirectory(name)


def _record_of(root_fd: int, directory: VolumeDirectory) -> Record:
    try:
        fd = place.open_below(root_fd, directory.name, directory.path)
    except (OSError, StrongroomError):
        return {}
    try:
        return read_record_in(fd)
    finally:
        os.close(fd)


def _keep_log(root_fd: int, directory: VolumeDirectory) -> Path | None:
    with contextlib.suppress(OSError, StrongroomError):
        fd = place.open_below(root_fd, directory.name, directory.path)
        try:
            return keep_log_in(root_fd, fd, directory)
        finally:
            os.close(fd)
    return None


def _end_enclave(record: Record) -> list[str]:
    """End the enclave that a record names; it has nobody to serve any more."""
    pid, started = number(record, "enclave_pid"), number(record, "enclave_started")
    if pid < _FIRST_ORDINARY_PID or started < 0:
        return []
    try:
        # A descriptor: the pid may be another process's by the time of the signal.
        handle = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return []
    try:
        if process_started(pid) != started:
            return []
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    return [f"enclave process {pid}"]


def _clean_orphans(dead: VolumeDirectory) -> list[str]:
    """Remove devices and mounts that no record tells of: their host died before writing it.

    Args:
        dead: The directory that is being cleaned. Its lock is held, by this process.
    """
    found = attach.find_orphans(place.root())
    if not found:
        return []
    # The living are asked for after the first look: a host takes its lock before it makes a
    # device, so what was seen before and belongs to no living host cannot be in the making.
    alive = frozenset(directory.name for directory in claims.volumes()) - {dead.name}
    done: list[str] = []
    for orphan in attach.find_orphans(place.root(), live=alive):
        if orphan in found:
            done += attach.clean_stale(orphan.record)
    return done

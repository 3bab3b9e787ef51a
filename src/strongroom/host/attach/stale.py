# SPDX-License-Identifier: Apache-2.0
"""Clean up after a host that was killed.

Everything is checked before it is touched: a loop or NBD device by its tag, a process by its start
time, a link by where it leads. So a record may be old, half true, or of a volume that is open
again.
"""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.host.attach import loop, nbd
from strongroom.host.attach._bounded import Blocking, wait_until
from strongroom.host.attach._libc import unmount_lazily
from strongroom.host.attach.detaching import unmount_all
from strongroom.host.attach.link import DEVICE_DIRECTORY, remove_link
from strongroom.host.attach.record import (
    JsonScalar,
    Record,
    is_name_of,
    number,
    parse_tag,
    path,
    process_started,
    root_digest,
    text,
)
from strongroom.host.attach.usage import loops, mounts
from strongroom.values import dataclass

_STEP_SECONDS: Final = 5.0
_EXIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that a dead host left and of which no record is known.

    Attributes:
        kind: ``fuse-mount``, ``directory``, ``loop``, ``nbd`` or ``link``.
        name: The volume's name as far as it is known; a tag keeps its first 34 characters.
        what: The thing itself, for the operator.
        record: What :func:`clean_stale` needs to remove it.
    """

    kind: str
    name: str
    what: str
    record: Record


def clean_stale(record: Mapping[str, JsonScalar]) -> tuple[str, ...]:
    """Remove what a dead host left, as its record tells, and say what was removed.

    The host must be dead: the caller finds that out. Doing it twice is harmless, and a record that
    makes no sense removes nothing. File systems on the dead device are unmounted lazily; programs
    that still work in them get errors. Ends within about half a minute, whatever hangs.
    """
    removed: list[str] = []
    device = path(record, "device")
    kind = text(record, "kind")
    # Asked before anything is cleared: a device on its way out has no tag any more.
    link = path(record, "link")
    is_of_another = link is not None and device is not None and _leads_on(link, device, record)
    if kind == "fuse":
        _end_helper(record, removed)
        _clear_mount(record, removed)
        if device is not None:
            _clear_loop(device, text(record, "tag"), removed)
    elif kind == "nbd":
        _clear_nbd(record, removed)
    if link is None or device is None or is_of_another:
        return tuple(removed)
    if remove_link(link, device):
        removed.append(f"link {link}")
    return tuple(removed)


def find_orphans(
    runtime_root: Path,
    device_directory: Path = DEVICE_DIRECTORY,
    *,
    live: frozenset[str] = frozenset(),
) -> tuple[Orphan, ...]:
    """Return leftovers of dead hosts, whether a record of them exists or not.

    Args:
        runtime_root: The directory of all runtime directories; others' devices are not looked at.
        device_directory: Where the links are.
        live: Names of volumes whose host lives, which are left out.

    Does not know by itself who lives: a device of a volume that is not in ``live`` is an orphan.
    """
    found = [
        *_orphan_mounts(runtime_root),
        *_orphan_devices(runtime_root),
        *_orphan_links(device_directory),
    ]
    return tuple(
        orphan for orphan in found if not any(is_name_of(name, orphan.name) for name in live)
    )


def _end_helper(record: Mapping[str, JsonScalar], removed: list[str]) -> None:
    """End nbdfuse first: then nothing waits for it any more."""
    pid, started = number(record, "helper_pid"), number(record, "helper_started")
    if pid <= 1 or started < 0:
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if process_started(pid) != started:
            return
        for attempt in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, attempt)
            if wait_until(lambda: process_started(pid) != started, _EXIT_SECONDS):
                removed.append(f"process nbdfuse {pid}")
                return
    finally:
        os.close(handle)


def _clear_mount(record: Mapping[str, JsonScalar], removed: list[str]) -> None:
    directory = path(record, "fuse_directory")
    if directory is None:
        return
    if any(mount.mount_point == directory and _is_ours(mount.file_system) for mount in mounts()):
        with suppress(OSError):
            unmount_lazily(directory)
            removed.append(f"mount {directory}")
    for empty in (directory, directory.parent):
        with suppress(OSError):
            empty.rmdir()
            removed.append(f"directory {empty}")


def _clear_loop(device: Path, tag: str, removed: list[str]) -> None:
    if parse_tag(tag) is None or loop.tag_of(device) != tag:
        return
    removed += (f"mount {point}" for point in unmount_all(device, _run))
    with suppress(OSError):
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        loop.clear(fd)
        os.close(fd)
    wait_until(lambda: not loop.is_bound(device), _STEP_SECONDS)
    removed.append(f"loop device {device}")


def _clear_nbd(record: Mapping[str, JsonScalar], removed: list[str]) -> None:
    index, tag = number(record, "index"), text(record, "tag")
    if index < 0 or parse_tag(tag) is None or not nbd.is_connected(index):
        return
    if not _nbd_is_of(index, record):
        return
    device = Path(f"/dev/nbd{index}")

    def run(call: Callable[[], None]) -> bool:
        waiting = Blocking(call)
        if waiting.ended(_STEP_SECONDS):
            return True
        nbd.disconnect(index)
        return waiting.ended(_STEP_SECONDS)

    removed += (f"mount {point}" for point in unmount_all(device, run))
    nbd.disconnect(index)
    wait_until(lambda: not nbd.is_connected(index), _STEP_SECONDS)
    removed.append(f"NBD device {device}")


def _nbd_is_of(index: int, record: Mapping[str, JsonScalar]) -> bool:
    """Say whether a device is the record's; kernels before 5.14 know only the maker's pid."""
    tag = nbd.tag_of(index)
    return tag == text(record, "tag") if tag else nbd.owner_of(index) == number(record, "host_pid")


def _leads_on(link: Path, device: Path, record: Mapping[str, JsonScalar]) -> bool:
    """Say whether a link is in use again: its volume was reopened on the same device number."""
    if device.name.startswith("nbd"):
        index = number(record, "index")
        return nbd.is_connected(index) and not _nbd_is_of(index, record) and _names(link, device)
    is_same = loop.tag_of(device) == text(record, "tag")
    return loop.is_bound(device) and not is_same and _names(link, device)


def _names(link: Path, device: Path) -> bool:
    """Say whether a device is that of the volume after which a link is named.

    A link that leads to the device of another volume, which got the number of a dead one, is worse
    than none.
    """
    if device.name.startswith("nbd"):
        text_of_tag = nbd.tag_of(int(device.name.removeprefix("nbd")))
        if not text_of_tag:
            return True
    else:
        text_of_tag = loop.tag_of(device)
    tag = parse_tag(text_of_tag)
    return tag is not None and is_name_of(link.name, tag.name)


def _run(call: Callable[[], None]) -> bool:
    return Blocking(call).ended(_STEP_SECONDS)


def _is_ours(file_system: str) -> bool:
    return file_system in {"fuse", "fuse.nbdfuse", "fuse.strongroom", "fusectl"}


def _orphan_mounts(runtime_root: Path) -> list[Orphan]:
    root = runtime_root.resolve()
    found = []
    for mount in mounts():
        below = mount.mount_point.is_relative_to(root) and mount.mount_point != root
        if below and _is_ours(mount.file_system):
            name = mount.mount_point.relative_to(root).parts[0]
            record: Record = {"kind": "fuse", "fuse_directory": str(mount.mount_point)}
            found.append(Orphan("fuse-mount", name, str(mount.mount_point), record))
    for parent in sorted(root.glob("*/fuse")):
        # A placeholder stands for the directory of an attachment that did not get so far.
        for directory in sorted(parent.glob("*")) or [parent / "none"]:
            if not any(orphan.what == str(directory) for orphan in found):
                record = {"kind": "fuse", "fuse_directory": str(directory)}
                found.append(Orphan("directory", parent.parent.name, str(directory), record))
    return found


def _orphan_devices(runtime_root: Path) -> list[Orphan]:
    digest = root_digest(runtime_root)
    found = []
    for device, _ in loops():
        text_of_tag = loop.tag_of(device)
        tag = parse_tag(text_of_tag)
        if tag is not None and tag.root == digest:
            record: Record = {"kind": "fuse", "device": str(device), "tag": text_of_tag}
            found.append(Orphan("loop", tag.name, str(device), record))
    for entry in sorted(Path("/sys/block").glob("nbd*")):
        index = int(entry.name.removeprefix("nbd"))
        text_of_tag = nbd.tag_of(index)
        tag = parse_tag(text_of_tag)
        if tag is not None and tag.root == digest and nbd.is_connected(index):
            device = Path("/dev") / entry.name
            record = {"kind": "nbd", "device": str(device), "index": index, "tag": text_of_tag}
            found.append(Orphan("nbd", tag.name, str(device), record))
    return found


def _orphan_links(device_directory: Path) -> list[Orphan]:
    """Find links whose device is gone, is empty now, or is that of another volume."""
    found = []
    try:
        entries = sorted(device_directory.iterdir())
    except OSError:
        return []
    for link in entries:
        with suppress(OSError):
            device = link.readlink()
            if not device.exists() or not _is_alive(device) or not _names(link, device):
                record: Record = {"kind": "link", "link": str(link), "device": str(device)}
                found.append(Orphan("link", link.name, str(link), record))
    return found


def _is_alive(device: Path) -> bool:
    if device.name.startswith("nbd"):
        return nbd.is_connected(int(device.name.removeprefix("nbd")))
    return loop.is_bound(device)

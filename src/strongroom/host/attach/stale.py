# SPDX-License-Identifier: Apache-2.0
"""Clean up after a host that was killed.

Everything is checked before it is touched: a device by its tag and by asking it for a block, a
process by its start time, a link by where it leads. So a record may be old, half true, or of a
volume that is open again.

A loop device needs no cleaning: it goes with its last user. File systems of the operator's are
never unmounted: on a dead device they give errors until the operator does so.
"""

import mmap
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.host.attach import loop, nbd
from strongroom.host.attach._bounded import Blocking, wait_until
from strongroom.host.attach._libc import unmount_lazily
from strongroom.host.attach.detaching import end_file_systems
from strongroom.host.attach.link import DEVICE_DIRECTORY, remove_link
from strongroom.host.attach.record import (
    ATTACHMENTS,
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
from strongroom.host.attach.usage import device_uses, loops, mounts
from strongroom.values import dataclass

_STEP_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 2.0
_BLOCK_BYTES: Final = 4096
_EXIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that a dead host left and of which no record is known.

    Attributes:
        kind: ``fuse-mount``, ``directory``, ``nbd`` or ``link``.
        name: The volume's name as far as it is known; a tag keeps its first 34 characters.
        what: The thing itself, for the operator.
        record: What :func:`clean_stale` needs to remove it.
    """

    kind: str
    name: str
    what: str
    record: Record


def clean_stale(record: Mapping[str, JsonScalar]) -> tuple[str, ...]:
    """Remove what a dead host left, as its record tells, and say what was done.

    The host must be dead: the caller finds that out. Doing it twice is harmless, and a record that
    makes no sense removes nothing. File systems on the dead device stay mounted and give errors.
    Ends within about half a minute, whatever hangs.
    """
    done: list[str] = []
    device = path(record, "device")
    kind = text(record, "kind")
    # Asked before anything is cleared: a device on its way out has no tag any more.
    link = path(record, "link")
    is_of_another = link is not None and device is not None and _leads_on(link, device, record)
    if kind == "fuse":
        _end_helper(record, done)
        _clear_mount(record, done)
        if device is not None and _is_loop_of(device, record):
            done += _file_systems_ended(device)
    elif kind == "nbd":
        _clear_nbd(record, done)
    if link is None or device is None or is_of_another:
        return tuple(done)
    if remove_link(link, device):
        done.append(f"link {link}")
    return tuple(done)


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

    Does not know by itself who lives: what belongs to a volume that is not in ``live`` is an
    orphan. A loop device is none: it goes with its last user.
    """
    found = [
        *_orphan_mounts(runtime_root),
        *_orphan_nbds(runtime_root),
        *_orphan_links(device_directory),
    ]
    return tuple(
        orphan for orphan in found if not any(is_name_of(name, orphan.name) for name in live)
    )


def lost_mounts() -> tuple[str, ...]:
    """Return where file systems are mounted whose volume has ended; they give errors."""
    found: list[str] = []
    for device, _ in loops():
        if parse_tag(loop.tag_of(device)) is not None:
            found += _mounts_without_server(device)
    for entry in sorted(Path("/sys/block").glob("nbd*")):
        if parse_tag(nbd.tag_of(int(entry.name.removeprefix("nbd")))) is not None:
            found += _mounts_without_server(Path("/dev") / entry.name)
    return tuple(found)


def _mounts_without_server(device: Path) -> list[str]:
    points = [use.where for use in device_uses(device) if use.kind == "mount"]
    return [] if not points or _answers(device) else points


def _end_helper(record: Mapping[str, JsonScalar], done: list[str]) -> None:
    """End nbdfuse first: then nothing waits for it any more."""
    pid, started = number(record, "helper_pid"), number(record, "helper_started")
    if pid <= 1 or started < 0:
        return
    try:
        handle = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return
    try:
        if process_started(pid) != started:
            return
        for attempt in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, attempt)
            if wait_until(lambda: process_started(pid) != started, _EXIT_SECONDS):
                done.append(f"process nbdfuse {pid}")
                return
    finally:
        os.close(handle)


def _clear_mount(record: Mapping[str, JsonScalar], done: list[str]) -> None:
    """Remove an attachment's own mount, which is seen for a moment only, and its directories."""
    directory = path(record, "fuse_directory")
    if directory is None or directory.parent.name != ATTACHMENTS:
        return
    if any(mount.mount_point == directory and _is_ours(mount.file_system) for mount in mounts()):
        with suppress(OSError):
            unmount_lazily(directory)
            done.append(f"mount {directory}")
    for empty in (directory, directory.parent):
        with suppress(OSError):
            empty.rmdir()
            done.append(f"directory {empty}")


def _is_loop_of(device: Path, record: Mapping[str, JsonScalar]) -> bool:
    tag = text(record, "tag")
    return parse_tag(tag) is not None and loop.tag_of(device) == tag


def _file_systems_ended(device: Path) -> list[str]:
    """End the file systems on a device, unless somebody still serves it."""
    if _answers(device):
        return []
    return [
        f"the file system at {point} has lost its device: it gives errors until you unmount it"
        for point in end_file_systems(device)
    ]


def _answers(device: Path) -> bool:
    """Say whether a device is served: it gives a block, or keeps us waiting for one."""
    with suppress(OSError):
        fd = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)
        # The thread closes it: it may be left waiting.
        return _read_block(fd)
    return False


def _read_block(fd: int) -> bool:
    def read() -> None:
        try:
            os.preadv(fd, [mmap.mmap(-1, _BLOCK_BYTES)], 0)
        finally:
            os.close(fd)

    try:
        Blocking(read).ended(_ANSWER_SECONDS)
    except OSError:
        return False
    return True


def _clear_nbd(record: Mapping[str, JsonScalar], done: list[str]) -> None:
    index, tag = number(record, "index"), text(record, "tag")
    if index < 0 or parse_tag(tag) is None or not nbd.is_connected(index):
        return
    device = Path(f"/dev/nbd{index}")
    if not _nbd_is_of(index, record) or _answers(device):
        return
    ended = _file_systems_ended(device)
    nbd.disconnect(index)
    # In use, it goes with its last user.
    if wait_until(lambda: not nbd.is_connected(index), 0.0 if ended else _STEP_SECONDS):
        done.append(f"NBD device {device}")
    done += ended


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
    for parent in sorted(root.glob(f"*/{ATTACHMENTS}")):
        # A placeholder stands for the directory of an attachment that did not get so far.
        for directory in sorted(parent.glob("*")) or [parent / "none"]:
            if not any(orphan.what == str(directory) for orphan in found):
                record = {"kind": "fuse", "fuse_directory": str(directory)}
                found.append(Orphan("directory", parent.parent.name, str(directory), record))
    return found


def _orphan_nbds(runtime_root: Path) -> list[Orphan]:
    digest = root_digest(runtime_root)
    found = []
    for entry in sorted(Path("/sys/block").glob("nbd*")):
        index = int(entry.name.removeprefix("nbd"))
        text_of_tag = nbd.tag_of(index)
        tag = parse_tag(text_of_tag)
        if tag is not None and tag.root == digest and nbd.is_connected(index):
            device = Path("/dev") / entry.name
            record: Record = {
                "kind": "nbd",
                "device": str(device),
                "index": index,
                "tag": text_of_tag,
            }
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

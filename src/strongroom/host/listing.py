# SPDX-License-Identifier: Apache-2.0
"""Which volumes are open, from what their host processes wrote down, and how they are.

Each host process is asked for the state of its volume, all at once and within a few seconds.
"""

import threading
from typing import Final

from strongroom.errors import EnclaveGoneError, NotAnsweringError, StrongroomError
from strongroom.host import runtime
from strongroom.host.contracts import ListedVolume, Reporter
from strongroom.host.runtime import Record, VolumeDirectory

_ANSWER_SECONDS: Final = 5.0


def list_volumes(report: Reporter) -> tuple[ListedVolume, ...]:
    """Return all open volumes that the caller may see.

    Raises:
        NoPermissionError: The runtime directory is in the hands of another user.
    """
    logs = {directory.name for directory in runtime.kept_logs()}
    runtime.sweep(report)
    found: dict[str, ListedVolume] = {}

    def look(directory: VolumeDirectory) -> None:
        found[directory.name] = _listed(directory)

    directories = runtime.volumes()
    for name in sorted(logs - {directory.name for directory in directories}):
        report.notice(runtime.kept_words(VolumeDirectory(name)))
    threads = [threading.Thread(target=look, args=(directory,)) for directory in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(found[directory.name] for directory in directories if directory.name in found)


def _listed(directory: VolumeDirectory) -> ListedVolume:
    from strongroom.host import running  # noqa: PLC0415 - only where there is a volume

    record = directory.read_record()
    if isinstance(known := record.get("state"), str) and known:
        return _recorded(directory, record, known)
    if record and "open" not in record:
        return _recorded(directory, record, "starting")
    try:
        status = running.status_in(directory, _ANSWER_SECONDS)
    except NotAnsweringError:
        # One that starts has its sockets before it answers at them.
        is_starting = not record and directory.path.exists()
        return _recorded(directory, record, "starting" if is_starting else "not answering")
    except EnclaveGoneError:
        return _recorded(directory, record, "enclave ended")
    except (StrongroomError, OSError):
        # Of another user, starting, or closed since: what it wrote down is all that is known.
        state = "open" if record.get("open") else "waiting for key"
        return _recorded(directory, record, state if record else "starting")
    return ListedVolume(
        name=status.name,
        image=status.image,
        state=status.state,
        device=status.device,
        host_pid=status.host_pid,
        enclave_pid=status.enclave_pid,
    )


def _recorded(directory: VolumeDirectory, record: Record, state: str) -> ListedVolume:
    device = record.get("attached_device")
    return ListedVolume(
        name=directory.name,
        image=str(record.get("image", "")),
        state=state,
        device=device if isinstance(device, str) else None,
        host_pid=_integer(record.get("host_pid")),
        enclave_pid=_integer(record.get("enclave_pid")),
    )


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

# SPDX-License-Identifier: Apache-2.0
"""Which volumes are open, from what their host processes wrote down: nobody is asked."""

from strongroom.host import runtime
from strongroom.host.contracts import ListedVolume
from strongroom.host.runtime import Record, VolumeDirectory


def list_volumes() -> tuple[ListedVolume, ...]:
    """Return all open volumes that the caller may see."""
    runtime.sweep()
    return tuple(_listed(directory) for directory in runtime.volumes())


def _listed(directory: VolumeDirectory) -> ListedVolume:
    record = directory.read_record()
    device = record.get("attached_device")
    return ListedVolume(
        name=directory.name,
        image=str(record.get("image", "")),
        state=_state(record),
        device=device if isinstance(device, str) else None,
        host_pid=_integer(record.get("host_pid")),
        enclave_pid=_integer(record.get("enclave_pid")),
    )


def _state(record: Record) -> str:
    if "open" not in record:
        return "starting"
    return "open" if record["open"] else "waiting for key"


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

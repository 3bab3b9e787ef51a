# SPDX-License-Identifier: Apache-2.0
"""Which volumes are open, from what their host processes wrote down.

Only a volume whose record was removed is asked itself, and not waited for long.
"""

import json
from typing import Final

from strongroom.errors import StrongroomError
from strongroom.host import runtime
from strongroom.host.contracts import ListedVolume
from strongroom.host.runtime import Record, VolumeDirectory
from strongroom.host.silence import Silent

_ANSWER_SECONDS: Final = 2.0
_FIELDS: Final = ("name", "image", "state", "device", "host_pid", "enclave_pid")


def list_volumes() -> tuple[ListedVolume, ...]:
    """Return all open volumes that the caller may see.

    Raises:
        NoPermissionError: The runtime directory is in the hands of another user.
    """
    runtime.sweep()
    return tuple(_listed(directory) for directory in runtime.volumes())


def _listed(directory: VolumeDirectory) -> ListedVolume:
    record = directory.read_record()
    if not record:
        return _asked(directory)
    device = record.get("attached_device")
    return ListedVolume(
        name=directory.name,
        image=str(record.get("image", "")),
        state=_state(record),
        device=device if isinstance(device, str) else None,
        host_pid=_integer(record.get("host_pid")),
        enclave_pid=_integer(record.get("enclave_pid")),
    )


def _asked(directory: VolumeDirectory) -> ListedVolume:
    """Return what a volume says of itself, as nothing else does."""
    from strongroom.host import control, control_calls  # noqa: PLC0415 - rarely needed

    try:
        answer = control.ask(
            directory, control_calls.AskStatus(), Silent(), seconds=_ANSWER_SECONDS
        )
        fields = json.loads(answer.json)
        return ListedVolume(**{name: fields[name] for name in _FIELDS})
    except (StrongroomError, OSError):
        state = "starting" if directory.path.exists() else "not answering"
        return ListedVolume(directory.name, "", state, None, 0, 0)


def _state(record: Record) -> str:
    if "open" not in record:
        return "starting"
    return "open" if record["open"] else "waiting for key"


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

# SPDX-License-Identifier: Apache-2.0
"""The memory that Argon2 works in: what the kernel says of it, while it is there and afterwards."""

import contextlib
import json
import re
import resource
import time
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_root
from tests.harness import Operator
from tests.hostile.memory.processes import descendants, role_of
from tests.hostile.memory.test_no_key_in_memory import COMMAND_SECONDS, NAME, finish, start

pytestmark = [pytest.mark.hostile, pytest.mark.slow]

AREA_KIB: Final = 96 << 10
ARGON2ID: Final = ("--kdf", "argon2id", "--kdf-memory", f"{AREA_KIB}K", "--kdf-iterations", "12")
_MAPPING: Final = re.compile(r"^Size:\s+(\d+) kB$.*?^VmFlags: ([a-z ]*)$", re.MULTILINE | re.DOTALL)


def areas(pid: int) -> list[set[str]]:
    """Return the kernel's flags of each mapping that is large enough to be the work area."""
    with contextlib.suppress(OSError):
        found = _MAPPING.findall(Path(f"/proc/{pid}/smaps").read_text())
        return [set(flags.split()) for size, flags in found if int(size) >= AREA_KIB]
    return []


def test_the_work_area_is_in_no_core_dump_and_goes(operator: Operator) -> None:
    require_root()
    image = operator.place / "v.img"
    operator.format(image, *ARGON2ID, size="17M")
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    seen: list[set[str]] = []
    with start(operator, "open", image, NAME, *key) as command:
        try:
            end = time.monotonic() + COMMAND_SECONDS
            while not seen and command.poll() is None and time.monotonic() < end:
                enclaves = [pid for pid in descendants(command.pid) if role_of(pid) == "enclave"]
                seen = [flags for pid in enclaves for flags in areas(pid) if "dd" in flags]
            finish(command)
            (volume,) = json.loads(operator.strongroom("list", "--json").stdout)
            left = areas(volume["enclave_pid"])
        finally:
            operator.close(NAME, "--force", check=False)
    assert len(seen) == 1, "the area was seen, and the kernel leaves it out of core dumps"
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        assert "lo" in seen[0], "and does not swap it out"
    assert left == []

# SPDX-License-Identifier: Apache-2.0
"""What root finds in the enclave's memory on this kernel, and what Strongroom says of it.

``python -m tests.hostile.memory.root_reads DIRECTORY [WRAPPER...]`` prints one line of JSON that
begins with :data:`FACTS`. The wrapper goes before each call of the program.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.harness import CHEAP_KDF, STOCK, STRONGROOM, Operator
from tests.hostile.memory.search import memory_of
from tests.hostile.memory.volume import volume_key_of

FACTS: Final = "facts "
NAME: Final = "read-by-root"
_HALF_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Wrapped(Operator):
    """An operator whose program runs below another one."""

    def wrapped(self, wrapper: tuple[str, ...], *arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
        """Run the program, and return what it printed and the notes that it made."""
        done = self.run(*wrapper, STRONGROOM, *arguments, "--json", timeout=600)
        notes = [line for line in done.stderr.splitlines() if "note:" in line]
        return json.loads(done.stdout), notes


def main(place: Path, wrapper: tuple[str, ...]) -> None:
    """Open a volume, look, close it, and print what was found."""
    state = {"STRONGROOM_STATE_DIR": str(place / "state")}
    operator = Wrapped(place, environment=state)
    image, key = place / "image", ("--passphrase-file", operator.passphrase_file)
    make = ("format", image, "--size", "17M", "--no-recovery", *STOCK, *CHEAP_KDF, *key)
    _, said_by_format = operator.wrapped(wrapper, *make)
    opened, said_by_open = operator.wrapped(wrapper, "open", image, NAME, "--attach", "none", *key)
    findings, _ = operator.wrapped(wrapper, "doctor")
    volume_key = volume_key_of(operator, image, operator.passphrase.encode())
    dump = memory_of(opened["enclave_pid"], "enclave", "running")
    assert dump is not None, "the enclave has ended"
    operator.wrapped(wrapper, "close", NAME)
    facts = {
        "kernel": os.uname().release,
        "found": [dump.holds(volume_key[at : at + _HALF_BYTES]) for at in (0, _HALF_BYTES)],
        "doctor": {finding["topic"]: finding["found"] for finding in findings},
        "levels": {finding["topic"]: finding["level"] for finding in findings},
        "format": said_by_format,
        "open": said_by_open,
    }
    print(FACTS + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))

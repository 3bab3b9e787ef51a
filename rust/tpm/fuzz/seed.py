# SPDX-License-Identifier: Apache-2.0
"""Turn recorded traffic into seeds for the fuzzer: ``python rust/tpm/fuzz/seed.py DIRECTORY``."""

import hashlib
import sys
from pathlib import Path
from typing import Final

TRAFFIC: Final = Path(__file__).parents[1] / "testdata" / "traffic.txt"
TRUE_SIZES: Final = 3
"""The flags of an input whose size fields the target makes true."""


def seeds() -> list[bytes]:
    """Return one input for each recorded exchange."""
    inputs = []
    for line in TRAFFIC.read_text().splitlines():
        _, *messages = line.split()
        command, response = map(bytes.fromhex, messages)
        inputs.append(bytes([TRUE_SIZES]) + len(command).to_bytes(2) + command + response)
    return inputs


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        (place / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)

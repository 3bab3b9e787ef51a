# SPDX-License-Identifier: Apache-2.0
"""Who is lied to for a long time: ``python refusals.py ADDRESS WARM_UP CASES``.

Prints what it holds, as JSON, after a time to warm up and in the end.
"""

import contextlib
import dataclasses
import gc
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.errors import TpmTamperedError
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import Device, SaltKey, Sessions
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.wire import Transmit
from tests.hostile.tpm.operations import (
    Bench,
    Operation,
    clock,
    quote,
    read,
    set_up,
    unseal,
    unseal_under_policy,
)

ATTACKED: Final[dict[Operation, CommandCode]] = {
    clock: CommandCode.READ_CLOCK,
    read: CommandCode.NV_READ,
    unseal: CommandCode.UNSEAL,
    unseal_under_policy: CommandCode.POLICY_PCR,
    quote: CommandCode.QUOTE,
}
"""An operation, and the command in it whose answers are forged: none that makes a handle. What the
TPM has loaded under a handle that was never learned can be flushed by the host only."""

FORGERIES: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda answer: answer[:-1] + bytes([answer[-1] ^ 1]),  # the MAC
    lambda answer: answer[: len(answer) // 2],
    lambda answer: answer[:2] + (10).to_bytes(4, "big") + answer[6:10],
    lambda answer: answer[:14] + b"\xff\xff" + answer[16:],  # the first parameter's size
    lambda answer: answer + bytes(4096),
    lambda answer: answer[:2] + (4096).to_bytes(4, "big") + answer[6:].ljust(4090, b"\0"),
    lambda _: bytes(1 << 20),
    lambda _: b"",
)


@dataclasses.dataclass(frozen=True)
class Held:
    """What a process and its TPM hold."""

    resident_kib: int
    locked_kib: int
    mappings: int
    descriptors: int
    handles: dict[str, int]


def held(relay: Relay) -> Held:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    device = Device(Unprotected(relay.transmit))
    kinds = {"sessions": 2, "saved sessions": 3, "transient": 0x80, "persistent": 0x81}
    return Held(
        int(status["VmRSS"].split()[0]),
        int(status["VmLck"].split()[0]),
        len(Path("/proc/self/maps").read_text().splitlines()),
        len(list(Path("/proc/self/fd").iterdir())),
        {kind: len(device.handles(number << 24)) for kind, number in kinds.items()},
    )


def attack(relay: Relay, bench: Bench, cases: int) -> None:
    """Have an operation refused, each time in a session of its own."""
    pairs = itertools.cycle(itertools.product(ATTACKED.items(), FORGERIES))
    root = bench.enrolment.storage_root
    for (operation, code), forge in itertools.islice(pairs, cases):
        transmit = forging(relay.transmit, code, forge)
        with Sessions(transmit, SaltKey(root.handle, root.public)) as road:
            try:
                operation(road, bench)
            except TpmTamperedError:
                continue
            raise AssertionError(operation.__name__)


def forging(transmit: Transmit, code: int, forge: Callable[[bytes], bytes]) -> Transmit:
    def carry(command: bytes) -> bytes:
        answer = transmit(command)
        return forge(answer) if int.from_bytes(command[6:10], "big") == code else answer

    return carry


def main() -> None:
    with contextlib.closing(Relay(parse_address(sys.argv[1]))) as relay:
        bench = set_up(relay)
        for cases in sys.argv[2:]:
            attack(relay, bench, int(cases))
            print(json.dumps(dataclasses.asdict(held(relay))), flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What runs where ``/dev/attestation`` is the stand-in; argument 1 says in JSON what to do.

It prints, in JSON, what each action gave, or the first error.
"""

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from strongroom import tee
from strongroom.errors import StrongroomError
from strongroom.tee.identity import SealPolicy
from strongroom.tee.provider import Tee
from tests.fakes.attestation import Enclave, write_attestation
from tests.unit.tee.scene import secret

ATTESTATION: Final = Path("/dev/attestation")
THREADS: Final = 4
REPORTS: Final = 25


def main() -> None:
    task = json.loads(sys.argv[1])
    if task["enclave"] is not None:
        write_attestation(ATTESTATION, Enclave(**task["enclave"]))
    for name, content in task["spoil"].items():
        spoil(ATTESTATION / name, content)
    try:
        started = tee.start("gramine", Path("/nonexistent"))
        said = [ACTIONS[name](started, *arguments) for name, *arguments in task["actions"]]
    except StrongroomError as err:
        print(json.dumps({"error": type(err).__name__, "message": err.message, "hint": err.hint}))
    else:
        print(json.dumps({"said": said}))
    sys.stdout.flush()
    os._exit(0)  # the stand-in's threads wait for readers for ever


def spoil(path: Path, content: str | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(bytes.fromhex(content))


def identity(started: Tee) -> dict[str, Any]:
    said = dataclasses.asdict(started.identity)
    return {name: v.hex() if isinstance(v, bytes) else v for name, v in said.items()}


def seal(started: Tee, policy: SealPolicy, version: int, expected: str) -> bool:
    return started.seal_key(policy, version).equals(secret(bytes.fromhex(expected)))


def report(started: Tee, user_data: str) -> str:
    return started.report(bytes.fromhex(user_data)).hex()


def modules(_: Tee) -> list[str]:
    return sorted(sys.modules)


def reports_at_once(started: Tee) -> int:
    """Ask for reports from several threads, and count those over what was asked for."""
    right: list[int] = []

    def ask(number: int) -> None:
        for at in range(REPORTS):
            user_data = bytes([number, at]) * 32
            found = started.report(user_data)
            right.append(started.verify(found).user_data == user_data)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(right)


def erased(started: Tee) -> bool:
    started.erase()
    started.erase()
    try:
        started.seal_key("signer", started.identity.security_version)
    except StrongroomError:
        return True
    return False


ACTIONS: Final[dict[str, Callable[..., object]]] = {
    "identity": identity,
    "seal": seal,
    "report": report,
    "reports at once": reports_at_once,
    "modules": modules,
    "erased": erased,
}

if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Enclaves without a process, and processes that say who they are."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from strongroom._core import Secret, read_secret_exactly
from strongroom.tee.identity import Identity
from strongroom.tee.process.provider import ProcessTee

SOURCES: Final = Path(__file__).parents[3] / "src"
ROOT: Final = bytes(range(32))
BOOT_ID: Final = bytes(range(16))
USER_DATA: Final = bytes(range(64))

START: Final = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from strongroom import tee
started = tee.start("process", Path(sys.argv[2]))
sys.stdin.read()
identity = started.identity
print(json.dumps({
    "measurement": identity.measurement.hex(),
    "signer": identity.signer.hex(),
    "product_id": identity.product_id,
    "security_version": identity.security_version,
    "debug": identity.debug,
    "simulated": identity.simulated,
    "tee": identity.tee,
    "report": started.report(bytes(range(64))).hex(),
    "modules": sorted(sys.modules),
}))
"""
"""Start the provider of the sources in argument 1 with the state in argument 2."""


def secret(content: bytes) -> Secret:
    """A secret that a test knows."""
    reader, writer = os.pipe()
    try:
        os.write(writer, content)
        return read_secret_exactly(reader, len(content))
    finally:
        os.close(reader)
        os.close(writer)


def enclave(
    name: str = "enclave",
    *,
    signer: str = "signer",
    product_id: int = 1,
    security_version: int = 1,
    debug: bool = False,
    root: bytes = ROOT,
    boot_id: bytes = BOOT_ID,
) -> ProcessTee:
    """An enclave of the process provider; what matters of it is given by name."""
    identity = Identity(
        tee="process",
        simulated=True,
        measurement=hashlib.sha256(name.encode()).digest(),
        signer=hashlib.sha256(signer.encode()).digest(),
        product_id=product_id,
        security_version=security_version,
        debug=debug,
    )
    return ProcessTee(identity, secret(root), boot_id)


def run(script: str, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> str:
    """Run a script as the product runs its enclave, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-I", *options, "-c", script, *arguments],
        env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(state: Path, *, sources: Path = SOURCES, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """Start an enclave process and return what it says of itself."""
    said: dict[str, Any] = json.loads(run(START, str(sources), str(state), options=options))
    return said


def hkdf(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 of one share without salt, 32 bytes, as RFC 5869 has it."""
    share = len(key).to_bytes(8, "big") + key
    extracted = hmac.digest(bytes(32), share, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")

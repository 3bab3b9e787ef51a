# SPDX-License-Identifier: Apache-2.0
"""A stand-in for ``gramine-sgx``: it runs what a manifest names, and gives it the fake CPU.

``python -m tests.fakes.gramine_sgx '{"security_version": 2}' NAME`` reads ``NAME.manifest.sgx`` in
the current directory. As in Gramine, arguments and environment are the manifest's, standard error
is standard output, ``/dev`` has little more than the attestation, and many calls are missing. The
files are the machine's own, and memory is not encrypted.
"""

import ctypes
import json
import os
import signal
import stat
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from tests.fakes.attestation import Enclave, write_attestation
from tests.system.transports.without_calls import GRAMINE, install

DEVICES: Final = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
PR_SET_PDEATHSIG: Final = 1
INSIDE: Final = "--inside"


def main() -> None:
    facts, name = sys.argv[-2:]
    if INSIDE not in sys.argv:
        again = [sys.executable, "-m", "tests.fakes.gramine_sgx", INSIDE, facts, name]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *again])  # noqa: S606 - to become it
    manifest = tomllib.loads(Path(f"{name}.manifest.sgx").read_text())
    make_devices()
    described: dict[str, Any] = json.loads(facts)
    if described.pop("attestation", True):
        serve_attestation(Enclave(**described))
    os.dup2(1, 2)
    install(GRAMINE)
    argv: list[str] = manifest["loader"]["argv"]
    environment: dict[str, str] = manifest["loader"]["env"]
    # Gramine's own C library, which is not here.
    del environment["LD_LIBRARY_PATH"]
    os.execve(argv[0], argv, environment)  # noqa: S606 - to become it


def make_devices() -> None:
    """Replace ``/dev`` in this mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/dev", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    for name, number in DEVICES.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(*number))


def serve_attestation(enclave: Enclave) -> None:
    """Have a child make reports for as long as the enclave lives."""
    ready, writer = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(0)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        write_attestation(Path("/dev/attestation"), enclave)
        os.write(writer, b"x")
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)
    os.close(writer)
    os.read(ready, 1)
    os.close(ready)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Trusted execution environments: who the enclave is, keys that only it has, reports about it.

Each provider is a folder with the same two functions, ``start`` and ``verify_report``, and is
imported only when it was chosen. Nothing here looks at what the machine has: what exists is the
host's to decide, and must not choose how a volume is protected.

A confidential VM (SEV-SNP, TDX) will be the folder ``tsm``: report and quote through configfs-tsm;
the seal key from the CPU where it derives one, from the TPM or an operator where it does not.
"""

from pathlib import Path

from strongroom.errors import TeeError
from strongroom.tee.identity import VerifiedReport
from strongroom.tee.provider import Tee

__all__ = ["Tee", "start", "verify_report"]


def start(name: str, state: Path, *, look_only: bool = False) -> Tee:
    """Return the provider ``name`` for the enclave that this process is.

    To be called in the process that stays, as secrets do not survive a fork, and before
    confinement, as files are read.

    Args:
        name: ``process`` or ``gramine``.
        state: Where the machine's part is kept. ``gramine`` keeps nothing.
        look_only: Make nothing there; where something lacks, be an enclave without keys.

    Raises:
        TeeError: There is no such provider, or it does not work here.
        PlatformError: Its state could not be written.
    """
    match name:
        case "process":
            from strongroom.tee import process  # noqa: PLC0415 - only what was chosen

            return process.look(state) if look_only else process.start(state)
        case "gramine":
            from strongroom.tee import gramine  # noqa: PLC0415 - only what was chosen

            return gramine.start()
        case _:
            raise _unknown(name)


def verify_report(name: str, report: bytes, state: Path) -> VerifiedReport:
    """Check an enclave's report from outside any enclave, as far as this machine can.

    Args:
        name: The provider that the report should be of.
        report: From :meth:`Tee.report`.
        state: That of the enclave's machine. Nothing is made in it.

    Returns:
        What the report says. Unless ``genuine``, that is a claim. Whether it is the expected
        identity, over the expected user data, is the caller's to check.

    Raises:
        ReportError: It is malformed, or not of this platform and boot.
        TeeError: There is no such provider, or what it checks reports with cannot be read.
    """
    match name:
        case "process":
            from strongroom.tee import process  # noqa: PLC0415 - only what was chosen

            return process.verify_report(report, state)
        case "gramine":
            from strongroom.tee import gramine  # noqa: PLC0415 - only what was chosen

            return gramine.verify_report(report)
        case _:
            raise _unknown(name)


def _unknown(name: str) -> TeeError:
    return TeeError(f"there is no TEE provider {name!r}", hint="there are process and gramine")

# SPDX-License-Identifier: Apache-2.0
"""The ``process`` provider: an enclave that is an ordinary process, held apart by the kernel.

No hardware stands behind it, so it always says ``simulated``: whoever is root on this machine can
read the platform's root secret and be any enclave. What it gives is the same handling as under a
real TEE, and volumes that do not open on another machine or with another program.
"""

import hashlib
from pathlib import Path

from strongroom._core import Secret
from strongroom.errors import TeeError
from strongroom.tee.identity import Identity, VerifiedReport
from strongroom.tee.process import measure, platform, report
from strongroom.tee.process.keyless import KeylessTee
from strongroom.tee.process.provider import ProcessTee
from strongroom.tee.process.signature import SignedIdentity, signed_identity
from strongroom.tee.process.store import Store

__all__ = ["look", "start", "verify_report"]


def start(state: Path) -> ProcessTee:
    """Measure this process, find who signed for it, and read the platform's root secret.

    All files are read here, and the machine's own are made here at the first start, and only then.

    Raises:
        TeeError: The root secret or the signer was lost, a file cannot be measured, or one of the
            state directory is not as it must be.
        PlatformError: The state directory cannot be written.
    """
    measurement = measure.this_process()
    with Store(state, create=True) as store, store.first_start() as first:
        root = platform.root_secret(store, create=first)
        signed = signed_identity(store, measurement, create=first)
    return _started(measurement, root, signed)


def look(state: Path) -> ProcessTee | KeylessTee:
    """Be the same enclave as :func:`start` gives, and make no file; without keys where some lack.

    For commands that only look: what is damaged or missing is what they are asked about.

    Raises:
        TeeError: This process cannot be measured.
    """
    measurement = measure.this_process()
    try:
        with Store(state, create=False) as store:
            root = platform.root_secret(store, create=False)
            signed = signed_identity(store, measurement, create=False)
    except TeeError as err:
        return KeylessTee(measurement, err, debug=platform.is_debugged())
    return _started(measurement, root, signed)


def _started(measurement: bytes, root: Secret, signed: SignedIdentity) -> ProcessTee:
    identity = Identity(
        tee="process",
        simulated=True,
        measurement=measurement,
        signer=hashlib.sha256(signed.public_key).digest(),
        product_id=signed.product_id,
        security_version=signed.security_version,
        debug=platform.is_debugged(),
    )
    return ProcessTee(identity, root, platform.boot_id())


def verify_report(unverified: bytes, state: Path) -> VerifiedReport:
    """Check a report with the root secret of ``state``, as its enclave would.

    Raises:
        ReportError: It is malformed, or not of this platform and boot.
        TeeError: There is no root secret here, or it may not be read.
    """
    boot = platform.boot_id()
    with Store(state, create=False) as store:
        root = platform.root_secret(store, create=False)
    key = platform.report_key(root, boot)
    root.erase()
    try:
        return report.verify(unverified, key)
    finally:
        key.erase()

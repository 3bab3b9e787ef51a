# SPDX-License-Identifier: Apache-2.0
"""Who the enclave on this machine is, as others see it: by a report over a fresh challenge."""

import secrets
from pathlib import Path
from typing import Final

from strongroom.boundary import calls
from strongroom.host import attestation
from strongroom.host.attestation import Attested, as_facts
from strongroom.host.contracts import IdentityResult, Reporter, TeeName
from strongroom.host.launch import launch
from strongroom.host.lost_identity import warn_of_lost_identity

CHALLENGE_BYTES: Final = 32


def identity(
    report: Reporter, *, tee: TeeName, python: Path | None, expect: Path | None
) -> IdentityResult:
    """Start an enclave, have it prove who it is, and end it.

    Args:
        report: Where is said what is odd about it.
        tee: The provider.
        python: The interpreter of another Strongroom, instead of this one's.
        expect: A file of what is expected, as :func:`attestation.load_expectation` reads it.

    Raises:
        IdentityError: It is another one than expected.
        ReportError: Its report is not genuine.
    """
    expected = None if expect is None else attestation.load_expectation(expect)
    warn_of_lost_identity(report, tee)
    attested, version = prove(report, tee=tee, python=python)
    facts = as_facts(attested.identity) | {"genuine": attested.genuine, "version": version}
    if expected is not None and expect is not None:
        attestation.check_expectation(facts, expected, expect)
    return IdentityResult(**facts)  # type: ignore[arg-type]  # by name


def prove(
    report: Reporter, *, tee: TeeName, python: Path | None, look_only: bool = False
) -> tuple[Attested, str]:
    """Return what an enclave's report says, and its version.

    Args:
        report: Where progress goes.
        tee: The provider.
        python: The interpreter of another Strongroom, instead of this one's.
        look_only: Make no identity where there is none.

    Raises:
        TeeError: ``look_only``, and there is no identity, or a part of it is lost.
        StrongroomError: The enclave does not start.
    """
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    with launch(report, tee=tee, python=python, look_only=look_only) as enclave:
        version = enclave.call(calls.Describe()).version
        proof = enclave.call(calls.ProveIdentity(challenge))
    return attestation.check(proof.report, "identity", challenge, tee=tee, known=None), version

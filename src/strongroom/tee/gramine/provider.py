# SPDX-License-Identifier: Apache-2.0
"""SGX through Gramine: identity from a report, seal keys from the CPU.

That ``/dev/attestation`` exists proves nothing: inside, the enclave takes its identity from it, as
it takes its code from Gramine; outside, only a verified quote does.

The CPU derives the keys for its present microcode (CPUSVN) and the enclave's present security
version (ISVSVN), and Gramine asks for no older ones. So an upgrade of either loses them: reseal
before one of the enclave, and keep the recovery key for one of the microcode.
"""

import os

from strongroom._core import Secret
from strongroom.errors import InternalError, ReportError, SecurityVersionError, TeeError
from strongroom.tee.gramine import attestation
from strongroom.tee.gramine.report import parse
from strongroom.tee.identity import USER_DATA_BYTES, Identity, SealPolicy, VerifiedReport
from strongroom.tee.sealing import derive_seal_key


def start() -> "GramineTee":
    """Return the provider, with its keys and identity read.

    Raises:
        TeeError: This is not Gramine on SGX, or a file of its attestation is odd.
    """
    kind = attestation.attestation_type()
    attestation.target_own_reports()
    nonce = os.urandom(USER_DATA_BYTES)
    identity = _parsed(attestation.evidence("report", nonce), nonce, "report").identity
    keys: dict[SealPolicy, Secret] = {
        "measurement": attestation.seal_key("_sgx_mrenclave"),
        "signer": attestation.seal_key("_sgx_mrsigner"),
    }
    return GramineTee(identity, keys, evidence="quote" if kind == "dcap" else "report")


class GramineTee:
    """A :class:`strongroom.tee.provider.Tee` that uses ``/dev/attestation`` for each report."""

    def __init__(
        self, identity: Identity, keys: dict[SealPolicy, Secret], *, evidence: str
    ) -> None:
        self._identity = identity
        self._keys = keys
        self._evidence = evidence

    @property
    def identity(self) -> Identity:
        """Who this enclave is, as its own report said when it started."""
        return self._identity

    @property
    def lack(self) -> TeeError | None:
        """Nothing: it has its keys."""
        return None

    def seal_key(self, policy: SealPolicy, security_version: int) -> Secret:
        """Return the seal key of a policy, 32 bytes, always derived from the CPU's 16.

        Raises:
            SecurityVersionError: The version is not this enclave's present one.
        """
        own = self._identity.security_version
        if security_version > own:
            raise SecurityVersionError(
                f"sealed by security version {security_version}, and this enclave is {own}",
                hint="use the newer enclave, or the recovery key",
            )
        if security_version < own:
            raise SecurityVersionError(
                f"sealed by security version {security_version}, and this enclave is {own}: "
                "Gramine gives keys of the present version only",
                hint="reseal with the older enclave before the upgrade, or use the recovery key",
            )
        return derive_seal_key(self._keys[policy], self._identity, policy, security_version)

    def report(self, user_data: bytes) -> bytes:
        """Return a DCAP quote over 64 bytes, or without remote attestation an SGX report.

        Raises:
            TeeError: Gramine does not give one, or one that is not over these bytes.
        """
        if len(user_data) != USER_DATA_BYTES:
            raise InternalError(f"a report is over 64 bytes, not {len(user_data)}")
        found = attestation.evidence(self._evidence, user_data)
        if _parsed(found, user_data, self._evidence).identity != self._identity:
            raise TeeError(f"Gramine's {self._evidence} is of another enclave")
        return found

    def verify(self, unverified: bytes) -> VerifiedReport:
        """Return what a report or quote claims: nothing on this machine can verify it.

        Raises:
            ReportError: It is malformed.
        """
        return parse(unverified)

    def erase(self) -> None:
        """Erase both keys."""
        for key in self._keys.values():
            key.erase()


def _parsed(found: bytes, user_data: bytes, name: str) -> VerifiedReport:
    try:
        said = parse(found)
    except ReportError as err:
        raise TeeError(f"Gramine's {name} is odd: {err.message}") from err
    if said.user_data != user_data:
        raise TeeError(f"Gramine's {name} is not over what was asked for")
    return said

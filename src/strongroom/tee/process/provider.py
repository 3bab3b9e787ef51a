# SPDX-License-Identifier: Apache-2.0
"""The running provider: seal keys and reports out of the platform's root secret."""

from strongroom._core import Secret
from strongroom.errors import SecurityVersionError, TeeError
from strongroom.tee.identity import Identity, SealPolicy, VerifiedReport
from strongroom.tee.process import report
from strongroom.tee.process.platform import report_key
from strongroom.tee.sealing import derive_seal_key


class ProcessTee:
    """A :class:`strongroom.tee.provider.Tee` that touches no file."""

    def __init__(self, identity: Identity, root: Secret, boot_id: bytes) -> None:
        """Take the root secret over, and derive the key of this boot's reports."""
        self._identity = identity
        self._root = root
        self._report_key = report_key(root, boot_id)

    @property
    def identity(self) -> Identity:
        """Who this enclave is; ``simulated`` is always true."""
        return self._identity

    @property
    def lack(self) -> TeeError | None:
        """Nothing: it has its keys."""
        return None

    def seal_key(self, policy: SealPolicy, security_version: int) -> Secret:
        """Return the seal key of a policy, 32 bytes.

        Raises:
            SecurityVersionError: The version is newer than this enclave's, or the policy is
                ``measurement`` and it is another: a measurement has one version only.
        """
        own = self._identity.security_version
        if security_version > own:
            raise SecurityVersionError(
                f"sealed by security version {security_version}, and this enclave is {own}",
                hint="use the newer Strongroom, or the recovery key",
            )
        if security_version < 0 or (policy == "measurement" and security_version != own):
            raise SecurityVersionError(
                f"sealed to a measurement of security version {security_version}, "
                f"and this enclave is {own}",
                hint="reseal with the enclave that sealed, or use the recovery key",
            )
        return derive_seal_key(self._root, self._identity, policy, security_version)

    def report(self, user_data: bytes) -> bytes:
        """Return a report over 64 bytes, for whoever has the root secret of this machine."""
        return report.issue(self._identity, user_data, self._report_key)

    def verify(self, unverified: bytes) -> VerifiedReport:
        """Check a report of another enclave on this machine, of the same state directory.

        Raises:
            ReportError: It is malformed, or not of this platform and boot.
        """
        return report.verify(unverified, self._report_key)

    def erase(self) -> None:
        """Erase the root secret and the report key."""
        self._root.erase()
        self._report_key.erase()

# SPDX-License-Identifier: Apache-2.0
"""What a trusted execution environment gives the enclave that runs in it."""

from typing import Protocol

from strongroom._core import Secret
from strongroom.errors import TeeError
from strongroom.tee.identity import Identity, SealPolicy, VerifiedReport


class Tee(Protocol):
    """One TEE, as seen from inside the enclave.

    Everything that needs the file system has been read when an instance exists, unless the provider
    says otherwise.
    """

    @property
    def identity(self) -> Identity:
        """Who this enclave is."""

    @property
    def lack(self) -> TeeError | None:
        """Why it has no keys and gives no reports; ``None`` if it has and does."""

    def seal_key(self, policy: SealPolicy, security_version: int) -> Secret:
        """Return the key that only enclaves of this identity have on this machine, 32 bytes.

        Args:
            policy: ``signer``: all enclaves of this signer and product, from ``security_version``
                on. ``measurement``: this measurement alone.
            security_version: That of the enclave that sealed.

        Raises:
            SecurityVersionError: It is newer than this enclave's own, or older and this TEE gives
                keys of its present version only.
        """

    def report(self, user_data: bytes) -> bytes:
        """Return a report over 64 bytes.

        Raises:
            TeeError: The TEE does not give one.
        """

    def verify(self, report: bytes) -> VerifiedReport:
        """Check a report of another enclave on this machine.

        Raises:
            ReportError: It is malformed, or not of this platform and boot.
        """

    def erase(self) -> None:
        """Erase every key; only the identity is left. Doing it twice is allowed."""

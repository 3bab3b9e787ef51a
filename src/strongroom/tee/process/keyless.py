# SPDX-License-Identifier: Apache-2.0
"""An enclave without keys of its own: it looks at headers, and nobody gives it a secret."""

from typing import NoReturn

from strongroom._core import Secret
from strongroom.errors import TeeError
from strongroom.tee.identity import Identity, SealPolicy, VerifiedReport


class KeylessTee:
    """A :class:`strongroom.tee.provider.Tee` where the root secret or the signer is not there.

    What it says of its signer and versions is zero. It gives no report, so nothing is sent to it.
    """

    def __init__(self, measurement: bytes, reason: TeeError, *, debug: bool) -> None:
        self._identity = Identity(
            tee="process",
            simulated=True,
            measurement=measurement,
            signer=bytes(len(measurement)),
            product_id=0,
            security_version=0,
            debug=debug,
        )
        self._reason = reason

    @property
    def identity(self) -> Identity:
        """What runs; who signed for it is not known."""
        return self._identity

    @property
    def lack(self) -> TeeError | None:
        """Why there are no keys."""
        return self._reason

    def seal_key(self, policy: SealPolicy, security_version: int) -> Secret:
        """Raise the reason."""
        del policy, security_version
        self._refuse()

    def report(self, user_data: bytes) -> bytes:
        """Raise the reason."""
        del user_data
        self._refuse()

    def verify(self, report: bytes) -> VerifiedReport:
        """Raise the reason."""
        del report
        self._refuse()

    def erase(self) -> None:
        """Do nothing: there is no secret."""

    def _refuse(self) -> NoReturn:
        raise TeeError(self._reason.message, hint=self._reason.hint)

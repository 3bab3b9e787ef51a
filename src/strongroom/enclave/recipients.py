# SPDX-License-Identifier: Apache-2.0
"""Keys to which passphrases are sealed: one message each, for one purpose each.

The host carries the sealed passphrase and could keep it; it opens nothing a second time, because
the private half is erased by its first use, whatever comes of it.
"""

from collections import OrderedDict
from typing import Final

from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary.calls import Call, Purpose, Recipient, Sealed, SealedReply
from strongroom.boundary.sealed import (
    RECOVERY_INFO,
    report_data,
    request_digest,
    sealed_aad,
    sealed_info,
)
from strongroom.errors import BoundaryError, FormatError
from strongroom.tee.provider import Tee

MAX_PENDING: Final = 8
"""Most keys that wait for their message; asking for more forgets the oldest."""


class Recipients:
    """The keys that wait for their one message."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._pending: OrderedDict[bytes, tuple[Purpose, HpkeReceiver]] = OrderedDict()

    def new(self, purpose: Purpose) -> Recipient:
        """Return a key to which one passphrase for ``purpose`` is sealed, vouched for by the TEE.

        Raises:
            TeeError: The TEE gives no report.
        """
        receiver = HpkeReceiver()
        report = self._tee.report(report_data(purpose, receiver.public_key))
        self._pending[receiver.public_key] = (purpose, receiver)
        while len(self._pending) > MAX_PENDING:
            _, (_, oldest) = self._pending.popitem(last=False)
            oldest.erase()
        return Recipient(receiver.public_key, report)

    def open(self, sealed: Sealed, purpose: Purpose, request: Call[object] | None = None) -> Secret:
        """Open a sealed passphrase; its key is gone afterwards.

        Args:
            sealed: The passphrase.
            purpose: What it is used for.
            request: The call that came with it; ``None`` for ``Unlock``, which changes nothing but
                what its terms allow.

        Raises:
            BoundaryError: It was sealed to no waiting key, for another purpose or call, or it or
                its terms were changed.
        """
        return self.open_bound(
            sealed, purpose, None if request is None else request_digest(request)
        )

    def open_bound(self, sealed: Sealed, purpose: Purpose, request: bytes | None) -> Secret:
        """As :meth:`open`, for the digest of a call that is yet to come."""
        made_for, receiver = self._pending.pop(sealed.public_key, (None, None))
        if receiver is None:
            raise BoundaryError("a passphrase was sealed to a key that is not waiting for one")
        try:
            if made_for != purpose:
                raise BoundaryError(f"a passphrase for {made_for} was used for {purpose}")
            # Compared before it is opened: that the terms are the operator's is checked by opening.
            if sealed.terms.request != request:
                raise BoundaryError(
                    "a passphrase was used for another request than it was meant for"
                )
            return receiver.open(
                sealed.encapsulated_key,
                sealed.ciphertext,
                info=sealed_info(purpose),
                aad=sealed_aad(sealed.public_key, sealed.terms),
            )
        except FormatError as err:
            raise BoundaryError("a sealed passphrase was changed on its way") from err
        finally:
            receiver.erase()

    def erase(self) -> None:
        """Erase all keys that wait."""
        for _, receiver in self._pending.values():
            receiver.erase()
        self._pending.clear()


def seal_recovery_key(recovery_key: Secret, client_public_key: bytes) -> SealedReply:
    """Encrypt a recovery key to the client that asked for it.

    Raises:
        FormatError: The client's key is not a valid X25519 point.
    """
    encapsulated_key, ciphertext = recovery_key.seal_to(
        client_public_key, info=RECOVERY_INFO, aad=client_public_key
    )
    return SealedReply(encapsulated_key, ciphertext)

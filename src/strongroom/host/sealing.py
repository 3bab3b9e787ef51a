# SPDX-License-Identifier: Apache-2.0
"""Passphrases on their way to the enclave: sealed before any host process carries them."""

import errno
import os

from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary.calls import Purpose, Sealed, SealedReply, Terms
from strongroom.boundary.sealed import RECOVERY_INFO, sealed_aad, sealed_info
from strongroom.errors import PlatformError


def seal(passphrase: Secret, public_key: bytes, purpose: Purpose, terms: Terms) -> Sealed:
    """Encrypt a passphrase to an enclave's key, bound to the terms of its use, and erase it.

    Raises:
        FormatError: The key is not a valid X25519 point.
    """
    try:
        encapsulated_key, ciphertext = passphrase.seal_to(
            public_key, info=sealed_info(purpose), aad=sealed_aad(public_key, terms)
        )
    finally:
        passphrase.erase()
    return Sealed(public_key, terms, encapsulated_key, ciphertext)


class RecoveryKeyReceiver:
    """Receives a recovery key from the enclave, and writes it where the operator asked, once."""

    def __init__(self, output_fd: int) -> None:
        self._output_fd = output_fd
        self._receiver = HpkeReceiver()
        self.public_key: bytes = self._receiver.public_key

    def deliver(self, reply: SealedReply) -> None:
        """Decrypt the key straight into the output descriptor; in a file it is durable then.

        Raises:
            FormatError: The reply was changed on its way.
            PlatformError: Writing failed.
        """
        self._receiver.open_to_fd(
            reply.encapsulated_key,
            reply.ciphertext,
            info=RECOVERY_INFO,
            aad=self.public_key,
            fd=self._output_fd,
            ending=b"\n",
        )
        try:
            os.fsync(self._output_fd)
        except OSError as err:
            # A pipe, to a terminal, cannot be synced and need not be.
            if err.errno not in {errno.EINVAL, errno.ENOTSUP}:
                reason = (err.strerror or "unknown reason").lower()
                raise PlatformError(f"the recovery key cannot be stored: {reason}") from err

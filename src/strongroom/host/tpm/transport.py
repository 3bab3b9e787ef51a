# SPDX-License-Identifier: Apache-2.0
"""What a way to a TPM is: one connection, of one of the kinds beside this module."""

from typing import Protocol

from strongroom.host.tpm.limits import Deadline


class Transport(Protocol):
    """A connection to a TPM, used by one thread at a time.

    After an error it must be closed: an answer that comes late would be taken for the answer to
    the next command.
    """

    def transmit(self, command: bytes, deadline: Deadline) -> bytes:
        """Send a command once and return its response, at most 4096 bytes.

        Args:
            command: A whole command, as :func:`strongroom.host.tpm.limits.command_code` allows.
            deadline: When to give up. No wait goes on after it, whatever the other side does.

        Raises:
            TpmTransportError: It did not arrive, or there was no whole answer in time. Nobody can
                tell whether the TPM carried it out.
        """

    def lost(self) -> bool:
        """Tell, between two commands, that the connection ended or has bytes nobody asked for."""

    def close(self) -> None:
        """End the connection. Does not wait, and does no harm when it is done twice."""

# SPDX-License-Identifier: Apache-2.0
"""A relay as an enclave sees it. What goes wrong is an answer: no ocall can fail."""

from typing import Final

from strongroom.boundary.calls import Call
from strongroom.boundary.tpm_calls import TPM_OCALLS, Transmit, Transmitted
from strongroom.errors import BoundaryError, StrongroomError
from strongroom.host.tpm.relay import Relay

_LONGEST_PROBLEM_BYTES: Final = 500


class RelayCarrier:
    """Carries commands of an enclave to one TPM."""

    ocalls: tuple[type[Call[object]], ...] = TPM_OCALLS

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._failures: dict[str, StrongroomError] = {}

    def carry(self, request: Call[object]) -> Transmitted:
        """Send a command and return its answer, or why there is none."""
        if not isinstance(request, Transmit):
            raise BoundaryError(f"the host does not answer {type(request).__name__}")
        try:
            return Transmitted(self._relay.transmit(request.command), "")
        except StrongroomError as err:
            # A path of the command line may hold bytes that are no text.
            clipped = err.message.encode(errors="replace")[:_LONGEST_PROBLEM_BYTES]
            problem = clipped.decode(errors="ignore")
            self._failures[problem] = err
            return Transmitted(b"", problem)

    def failure(self, problem: str) -> StrongroomError | None:
        """Return the error that the enclave reports in these words, if it happened here.

        The enclave hears words alone, and makes an error of its own of them: without a hint, and
        of one class.
        """
        return self._failures.get(problem)

# SPDX-License-Identifier: Apache-2.0
"""Commands with the authorizations that they are given: no more, no less.

What is sent here without a session is open to everybody who carries it. :mod:`.sessions` is the
road for everything but the first step.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from strongroom import _core
from strongroom._core import Secret, TpmAuthorization
from strongroom.errors import TpmError
from strongroom.tpm.codes import BUSY_CODES, CommandCode
from strongroom.tpm.commands import Answer, Command
from strongroom.tpm.marshal import u32
from strongroom.tpm.refusals import refusal

Transmit: TypeAlias = Callable[[bytes], bytes]
"""Carries one command to the TPM and returns its answer, or what somebody made up."""

_REFUSAL_BYTES: Final = 10
_PAUSES_SECONDS: Final = (0.0, 0.01, 0.04, 0.16, 0.64, 1.28)


def patient(transmit: Transmit) -> Transmit:
    """Return a way to the TPM that asks again, in the same bytes, as long as the TPM is busy.

    A TPM that says so has not begun. If somebody else said so, and the TPM has carried the command
    out, its answer to the same nonce is a refusal, and nothing is done twice.
    """

    def carry(command: bytes) -> bytes:
        for pause in _PAUSES_SECONDS:
            answer = transmit(command)
            if not _is_busy(answer):
                return answer
            time.sleep(pause)
        return transmit(command)

    return carry


def _is_busy(answer: bytes) -> bool:
    return len(answer) == _REFUSAL_BYTES and int.from_bytes(answer[6:], "big") in BUSY_CODES


class Wire:
    """Carries commands, through the gate in both directions."""

    def __init__(self, transmit: Transmit) -> None:
        self._transmit = patient(transmit)

    def exchange(
        self, command: Command[Secret], authorizations: Sequence[TpmAuthorization] = ()
    ) -> Answer[Secret]:
        """Send a command and return its answer, checked as far as its sessions check it.

        Raises:
            TpmError: It was refused, with the meaning of the code and what to do.
            TpmChangedError: It has lost what it had a moment ago, as after a reset.
            TpmTransportError: The TPM cannot be reached.
            TpmTamperedError: The answer is malformed or not authentic.
        """
        about = [(entity.handle, entity.name) for entity in command.about]
        first = None if command.first is None else list(command.first)
        try:
            answer = _core.tpm_exchange(
                self._transmit, command.code, about, first, command.rest, list(authorizations)
            )
        except TpmError as err:
            if not err.code:
                raise
            raise refusal(command, err.code) from err
        return Answer(answer.parameters, answer.handle, answer.confidential)

    def flush(self, handle: int) -> None:
        """Remove a transient object or a session from the TPM's memory. Raises as `exchange`."""
        self.exchange(Command(CommandCode.FLUSH_CONTEXT, rest=u32(handle)))

    @contextlib.contextmanager
    def flushed(self, handle: int) -> Iterator[None]:
        """Remove an object at the end of a block, as well as that goes: no answer to it is a proof.

        What stays is removed when somebody connects the next time.
        """
        try:
            yield
        finally:
            with contextlib.suppress(TpmError):
                self.flush(handle)

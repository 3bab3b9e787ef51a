# SPDX-License-Identifier: Apache-2.0
"""A road whose far end says what it was told to say."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from strongroom.tpm import Answer, Command
from strongroom.tpm.commands import Auth
from strongroom.tpm.entities import Entity

Says: TypeAlias = Callable[[Command[bytes]], bytes]


class Told:
    """Answers with any parameters, as a TPM can that is not one: after a MAC that is right."""

    def __init__(self, says: Says, reveals: Says | None = None) -> None:
        self._says = says
        self._reveals = reveals

    def run(self, command: Command[bytes], *_: Auth[bytes]) -> Answer[bytes]:
        secret = self._reveals(command) if command.has_secret_answer and self._reveals else None
        return Answer(self._says(command), None, secret)

    def hearsay(self, command: Command[bytes]) -> Answer[bytes]:
        return Answer(self._says(command))

    @contextlib.contextmanager
    def policy_session(self) -> Iterator[Entity]:
        yield Entity(0x03000000, b"")

    @contextlib.contextmanager
    def flushed(self, _handle: int) -> Iterator[None]:
        yield

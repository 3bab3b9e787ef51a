# SPDX-License-Identifier: Apache-2.0
"""A command before it is authorized, an answer after it is checked, and the road between them.

Where a secret goes into a command, or comes out of an answer, its type is the road's: behind
:class:`~strongroom.tpm.sessions.Sessions` it is :class:`strongroom._core.Secret`, which leaves the
enclave encrypted or not at all.
"""

from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeAlias, TypeVar

from strongroom._core import Secret
from strongroom.errors import InternalError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.entities import Entity
from strongroom.values import dataclass

SecretT = TypeVar("SecretT", bound=bytes | Secret)
"""A secret that Python cannot see, or the bytes themselves on a road that protects nothing."""


@dataclass(frozen=True, slots=True)
class Command(Generic[SecretT]):
    """A command, but for its authorizations."""

    code: CommandCode
    about: tuple[Entity, ...] = ()
    authorized: int = 0
    """How many of the entities need an authorization, counted from the first."""
    first: tuple[bytes | SecretT, ...] | None = None
    """The parts of the first parameter's content, if that is a ``TPM2B``."""
    rest: bytes = b""
    """The other parameters, as they are on the wire."""
    has_secret_answer: bool = False
    """The first parameter of the answer is a secret, and a ``TPM2B``."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[SecretT]):
    """What the TPM answered to a command."""

    parameters: bytes
    """Its parameters as they are on the wire, but for the secret."""
    handle: int | None = None
    """The handle of what was made."""
    secret: SecretT | None = None

    def made(self) -> int:
        """Return the handle of what was made.

        Raises:
            InternalError: The command makes nothing.
        """
        if self.handle is None:
            raise InternalError("a command that makes nothing was asked for a handle")
        return self.handle

    def revealed(self) -> SecretT:
        """Return the secret.

        Raises:
            InternalError: None was asked for.
        """
        if self.secret is None:
            raise InternalError("a command without a secret was asked for one")
        return self.secret


@dataclass(frozen=True, slots=True)
class Policy(Generic[SecretT]):
    """Authorizes an entity by a policy session, and its authorization value if that is demanded."""

    session: Entity
    auth: SecretT | None = None


Auth: TypeAlias = SecretT | Policy[SecretT] | None
"""What authorizes an entity: its authorization value, a policy, or ``None`` for an empty value."""


class Road(Protocol[SecretT]):
    """Takes commands to a TPM, one at a time."""

    def run(self, command: Command[SecretT], *auths: Auth[SecretT]) -> Answer[SecretT]:
        """Send a command and return its answer.

        Args:
            command: What to do.
            auths: One for each entity that needs one.

        Raises:
            TpmError: The TPM refused, or somebody on its wire said so.
            TpmTransportError: It cannot be reached.
            TpmTamperedError: The answer is not the TPM's.
        """

    def hearsay(self, command: Command[SecretT]) -> Answer[SecretT]:
        """Send a command that needs no authorization, and return what anybody answered.

        Nothing follows from it: it is to be shown, or to be asked again under :meth:`run`.

        Raises:
            TpmError: As :meth:`run`.
        """

    def policy_session(self) -> AbstractContextManager[Entity]:
        """Open a policy session for the length of a block. Raises as :meth:`run`."""

    def flushed(self, handle: int) -> AbstractContextManager[None]:
        """Remove a transient object from the TPM's memory at the end of a block, if that goes."""


def length_bytes(part: bytes | SecretT) -> int:
    """Return the length of a part of a parameter."""
    return len(part) if isinstance(part, bytes) else part.length_bytes

# SPDX-License-Identifier: Apache-2.0
"""Keys under a parent, and data sealed to it.

Spec: TPM 2.0 Part 3, 12 "Object Commands" and 24 "Hierarchy Commands".
"""

import contextlib
from collections.abc import Iterator
from typing import Final, Generic

from strongroom.errors import TpmTamperedError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import (
    Answer,
    Auth,
    Command,
    Policy,
    Road,
    SecretT,
    length_bytes,
)
from strongroom.tpm.entities import OWNER, Entity
from strongroom.tpm.marshal import Reader, sized, u16, u32
from strongroom.tpm.objects import PublicArea, sealed_template
from strongroom.tpm.pcrs import PcrSelection
from strongroom.values import dataclass

_NO_PCRS: Final = u32(0)


@dataclass(frozen=True, slots=True)
class Blob:
    """An object outside the TPM: only its parent can load it."""

    public: PublicArea
    private: bytes
    """Encrypted and authenticated by the parent."""


@dataclass(frozen=True, slots=True)
class Key:
    """A loaded key."""

    handle: int
    public: PublicArea

    @property
    def entity(self) -> Entity:
        """The key under its Name."""
        return Entity(self.handle, self.public.name)


class Objects(Generic[SecretT]):
    """Keys and sealed data of one TPM."""

    def __init__(self, road: Road[SecretT]) -> None:
        self._road = road

    @contextlib.contextmanager
    def primary(self, hierarchy: Entity, template: PublicArea) -> Iterator[Key]:
        """Make a hierarchy's key from a template, for the length of a block.

        The same template makes the same key, until the hierarchy is cleared.

        Raises:
            TpmTamperedError: Another kind of key was made.
            TpmError: As :meth:`Road.run`.
        """
        rest = sized(template.wire) + sized(b"") + _NO_PCRS
        # No authorization value, and no data of ours.
        first = (u16(0) + u16(0),)
        command: Command[SecretT] = Command(
            CommandCode.CREATE_PRIMARY, (hierarchy,), 1, first, rest
        )
        answer = self._road.run(command, None)
        with self._road.flushed(answer.made()):
            reader = Reader(answer.parameters)
            public = PublicArea(reader.sized())
            _check_made(public, template)
            yield Key(answer.made(), public)

    def create(
        self,
        parent: Key,
        template: PublicArea,
        *,
        auth: SecretT | None,
        data: SecretT | None,
        parent_auth: Auth[SecretT] = None,
    ) -> Blob:
        """Make an object under a parent.

        Args:
            parent: A loaded storage key.
            template: What to make.
            auth: Its authorization value, of which the last byte is not zero.
            data: What to seal, or ``None`` if the TPM makes a key.
            parent_auth: What authorizes the parent.

        Raises:
            TpmTamperedError: Another kind of object was made.
            TpmError: As :meth:`Road.run`.
        """
        command = Command(
            CommandCode.CREATE,
            (parent.entity,),
            1,
            (*_sized_part(auth), *_sized_part(data)),
            sized(template.wire) + sized(b"") + _NO_PCRS,
        )
        reader = Reader(self._road.run(command, parent_auth).parameters)
        private, public = reader.sized(), PublicArea(reader.sized())
        _check_made(public, template)
        return Blob(public, private)

    @contextlib.contextmanager
    def load(self, parent: Key, blob: Blob, *, parent_auth: Auth[SecretT] = None) -> Iterator[Key]:
        """Load an object for the length of a block.

        Raises:
            TpmTamperedError: Another object was loaded.
            TpmError: As :meth:`Road.run`; also when the blob belongs to another TPM.
        """
        command: Command[SecretT] = Command(
            CommandCode.LOAD, (parent.entity,), 1, (blob.private,), sized(blob.public.wire)
        )
        answer = self._road.run(command, parent_auth)
        with self._road.flushed(answer.made()):
            key = Key(answer.made(), blob.public)
            if Reader(answer.parameters).sized() != key.public.name:
                raise TpmTamperedError("the TPM loaded another object")
            yield key

    def keep(self, key: Key, handle: int) -> Key:
        """Make a loaded key outlive a reset, under a persistent handle. Raises as `Road.run`."""
        self._evict(key.entity, handle)
        return Key(handle, key.public)

    def forget(self, key: Key) -> None:
        """Remove a persistent key. Raises as :meth:`Road.run`."""
        self._evict(key.entity, key.handle)

    def describe(self, handle: int) -> PublicArea:
        """Return what the TPM says is under a handle: to be shown, or compared with what is known.

        Raises:
            TpmTamperedError: What it says does not fit together.
            TpmError: As :meth:`Road.run`.
        """
        code = CommandCode.READ_PUBLIC
        said = _described(self._road.hearsay(Command(code, (Entity(handle, b""),))))
        return _described(self._road.run(Command(code, (Entity(handle, said.name),))))

    def unseal(self, key: Key, auth: Auth[SecretT]) -> SecretT:
        """Return sealed data. Raises as :meth:`Road.run`."""
        command: Command[SecretT] = Command(
            CommandCode.UNSEAL, (key.entity,), 1, has_secret_answer=True
        )
        return self._road.run(command, auth).revealed()

    def seal(
        self,
        parent: Key,
        data: SecretT,
        *,
        auth: SecretT | None,
        policy: bytes = b"",
        counts_guesses: bool = False,
    ) -> Blob:
        """Seal data under a parent: the authorization value and the policy open it.

        Args:
            parent: A loaded storage key.
            data: What to seal, at most 128 bytes.
            auth: The authorization value, at most 32 bytes; ``None`` is the empty one.
            policy: The digest of the policy, or nothing.
            counts_guesses: See :func:`strongroom.tpm.objects.sealed_template`.

        Raises:
            TpmError: As :meth:`create`.
        """
        template = sealed_template(policy, with_auth=not policy, counts_guesses=counts_guesses)
        return self.create(parent, template, auth=auth, data=data)

    def _evict(self, entity: Entity, handle: int) -> None:
        command: Command[SecretT] = Command(
            CommandCode.EVICT_CONTROL, (OWNER, entity), 1, None, u32(handle)
        )
        self._road.run(command, None)


class PolicySteps(Generic[SecretT]):
    """The commands that fulfil a policy, one after the other, in one session."""

    def __init__(self, road: Road[SecretT], session: Entity) -> None:
        self._road = road
        self._session = session

    def pcr(self, selection: PcrSelection, digest: bytes) -> None:
        """Show that PCRs have their values. Raises as :meth:`Road.run`."""
        self._step(CommandCode.POLICY_PCR, (digest,), selection.wire)

    def auth_value(self) -> None:
        """Promise to show the authorization value. Raises as :meth:`Road.run`."""
        self._step(CommandCode.POLICY_AUTH_VALUE, None, b"")

    def secret(self, entity: Entity) -> None:
        """Show the empty authorization value of a hierarchy. Raises as :meth:`Road.run`."""
        rest = sized(b"") + sized(b"") + u32(0)
        about = (entity, self._session)
        command: Command[SecretT] = Command(CommandCode.POLICY_SECRET, about, 1, (b"",), rest)
        self._road.run(command, None)

    def nv(self, index: Entity, auth: SecretT, operand: bytes, operation: int) -> None:
        """Show what an index holds. Raises as :meth:`Road.run`."""
        about, rest = (index, index, self._session), u16(0) + u16(operation)
        command: Command[SecretT] = Command(CommandCode.POLICY_NV, about, 1, (operand,), rest)
        self._road.run(command, auth)

    def fulfilled(self, auth: SecretT | None = None) -> Policy[SecretT]:
        """Return the session as what authorizes an object."""
        return Policy(self._session, auth)

    def _step(self, code: CommandCode, first: tuple[bytes] | None, rest: bytes) -> None:
        command: Command[SecretT] = Command(code, (self._session,), 0, first, rest)
        self._road.run(command)


def _sized_part(secret: SecretT | None) -> tuple[bytes | SecretT, ...]:
    return (u16(0),) if secret is None else (u16(length_bytes(secret)), secret)


def _check_made(public: PublicArea, template: PublicArea) -> None:
    if not public.is_made_from(template):
        raise TpmTamperedError("the TPM made another object than was asked for")


def _described(answer: Answer[SecretT]) -> PublicArea:
    reader = Reader(answer.parameters)
    public, name = PublicArea(reader.sized()), reader.sized()
    if name != public.name:
        raise TpmTamperedError("a key and its Name do not belong together")
    return public

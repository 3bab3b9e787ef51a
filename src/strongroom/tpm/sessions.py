# SPDX-License-Identifier: Apache-2.0
"""The road that nobody on the wire can read, change or answer for.

Every command goes in a session that is salted to a key which the caller has pinned. Sessions are
few: one that authorizes, audits and encrypts, and at most one more that collects a policy. Both are
given up at the first answer that is not the TPM's.

Spec: TPM 2.0 Part 1, 19 and 21; Part 3, 11.1 "TPM2_StartAuthSession".
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, Literal, Self, TypeAlias

from strongroom import _core
from strongroom._core import Secret
from strongroom.errors import InternalError, TpmError, TpmTamperedError
from strongroom.tpm.algorithms import Algorithm
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Answer, Auth, Command, Policy
from strongroom.tpm.entities import NULL, Entity, permanent
from strongroom.tpm.marshal import Reader, sized, u8, u16
from strongroom.tpm.objects import PublicArea
from strongroom.tpm.wire import Transmit, Wire
from strongroom.values import dataclass

Kind: TypeAlias = Literal["hmac", "policy"]

_SESSION_TYPES: Final = {"hmac": 0x00, "policy": 0x01}
_CIPHER_BITS: Final = (256, 128)
"""In the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class SaltKey:
    """A decryption key of the TPM: where it is, and what the caller knows it to be."""

    handle: int
    public: PublicArea


class Sessions:
    """A road to one TPM, proven by each answer to be the one that holds the pinned key.

    Which key it is, is decided by the caller's ``public``: the handle is only where to look for
    it. Who has another key under that handle cannot learn the salt, and answers to nothing.
    """

    def __init__(self, transmit: Transmit, salt_key: SaltKey) -> None:
        self._wire = Wire(transmit)
        self._salt_key = salt_key
        self._main: _core.TpmSession | None = None
        self._policy: _core.TpmSession | None = None
        self._cipher_bits: tuple[int, ...] = _CIPHER_BITS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush the session out of the TPM. Never raises: a TPM that is gone has none."""
        session, self._main = self._main, None
        if session is not None:
            self._flush_quietly(session)

    def run(self, command: Command[Secret], *auths: Auth[Secret]) -> Answer[Secret]:
        """Send a command in the session. See :meth:`strongroom.tpm.commands.Road.run`."""
        if len(auths) != command.authorized:
            raise InternalError(f"{command.code.name} needs {command.authorized} authorizations")
        return self._wire.exchange(command, self._authorizations(command, auths))

    def hearsay(self, command: Command[Secret]) -> Answer[Secret]:
        """Ask outside the session. See :meth:`strongroom.tpm.commands.Road.hearsay`."""
        if command.authorized or command.has_secret_answer:
            raise InternalError(f"{command.code.name} needs a session")
        return self._wire.exchange(command)

    @contextlib.contextmanager
    def policy_session(self) -> Iterator[Entity]:
        """Open a policy session. See :meth:`strongroom.tpm.commands.Road.policy_session`."""
        if self._policy is not None:
            raise InternalError("two policy sessions at once are one session too many")
        self._policy = self._start("policy")
        try:
            yield permanent(self._policy.handle)
        finally:
            session, self._policy = self._policy, None
            self._flush_quietly(session)

    def flushed(self, handle: int) -> AbstractContextManager[None]:
        """Remove an object in the end. See :meth:`strongroom.tpm.commands.Road.flushed`."""
        return self._wire.flushed(handle)

    def _authorizations(
        self, command: Command[Secret], auths: tuple[Auth[Secret], ...]
    ) -> list[_core.TpmAuthorization]:
        decrypt = any(isinstance(part, Secret) for part in command.first or ())
        encrypt = command.has_secret_answer
        result = []
        is_used = False
        for auth in auths:
            if isinstance(auth, Policy):
                result.append(self._by_policy(auth, encrypt=encrypt))
                # It is salted, so it authenticates; and the answer is encrypted once.
                encrypt = False
            elif not is_used:
                session = self._session()
                result.append(
                    _core.TpmAuthorization(session, auth, decrypt=decrypt, encrypt=encrypt)
                )
                is_used, decrypt, encrypt = True, False, False
            elif auth is None:
                result.append(_core.TpmAuthorization(None))
            else:
                raise InternalError("two authorization values need two sessions")
        if decrypt or encrypt or not result:
            audit = not decrypt and not encrypt
            result.append(
                _core.TpmAuthorization(
                    self._session(), decrypt=decrypt, encrypt=encrypt, audit=audit
                )
            )
        return result

    def _by_policy(self, auth: Policy[Secret], *, encrypt: bool) -> _core.TpmAuthorization:
        session = self._policy
        if session is None or session.handle != auth.session.handle:
            raise InternalError("the policy session is not open")
        return _core.TpmAuthorization(session, auth.auth, encrypt=encrypt)

    def _session(self) -> _core.TpmSession:
        if self._main is None:
            self._main = self._start("hmac")
        if self._main.is_broken:
            raise TpmTamperedError(
                "the session was given up, because an answer in it was not the TPM's",
                hint="begin again, and look at who carries the TPM's answers",
            )
        return self._main

    def _start(self, kind: Kind) -> _core.TpmSession:
        """Open a session with the longest key that the TPM has.

        Anybody on the wire can say that it has no longer one: 128 bits are enough.
        """
        for bits in self._cipher_bits[:-1]:
            try:
                return self._start_with(kind, bits)
            except TpmError as err:
                if not err.code:
                    raise
                self._cipher_bits = self._cipher_bits[1:]
        return self._start_with(kind, self._cipher_bits[-1])

    def _start_with(self, kind: Kind, cipher_bits: int) -> _core.TpmSession:
        opening = _core.TpmOpening(kind, self._salt_key.public.wire, cipher_bits)
        command: Command[Secret] = Command(
            CommandCode.START_AUTH_SESSION,
            (Entity(self._salt_key.handle, b""), NULL),
            first=(opening.nonce_caller,),
            rest=sized(opening.encrypted_salt)
            + u8(_SESSION_TYPES[kind])
            + u16(Algorithm.AES)
            + u16(cipher_bits)
            + u16(Algorithm.CFB)
            + u16(Algorithm.SHA256),
        )
        answer = self._wire.exchange(command)
        reader = Reader(answer.parameters)
        nonce = reader.sized()
        reader.end()
        session = opening.finish(answer.made(), nonce)
        try:
            self._prove(session)
        except BaseException:
            self._flush_quietly(session)
            raise
        return session

    def _prove(self, session: _core.TpmSession) -> None:
        """Make sure that the TPM has the pinned key, and that both sides encrypt alike.

        Which cipher a session has is said in the clear, and no MAC covers it: a TPM that was told
        another one would take what it decrypts for what we sent. So it has to show something that
        is known, encrypted.
        """
        key = self._salt_key
        about = (Entity(key.handle, key.public.name),)
        command: Command[Secret] = Command(CommandCode.READ_PUBLIC, about, has_secret_answer=True)
        shown = self._wire.exchange(command, [_core.TpmAuthorization(session, encrypt=True)])
        if not shown.revealed().matches(key.public.wire):
            raise TpmTamperedError(
                "the TPM was told to use another cipher than was asked for",
                hint="begin again, and look at who carries the TPM's commands",
            )

    def _flush_quietly(self, session: _core.TpmSession) -> None:
        with contextlib.suppress(TpmError):
            self._wire.flush(session.handle)

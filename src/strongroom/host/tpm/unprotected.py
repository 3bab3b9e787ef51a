# SPDX-License-Identifier: Apache-2.0
"""The road that most programs take: passwords and data in the clear, and answers believed.

For comparison only (``--in host``). Whoever carries the bytes reads every secret in them, and can
answer what it likes.
"""

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from typing import Final

from strongroom import _core
from strongroom.errors import InternalError, TpmError
from strongroom.tpm.algorithms import Algorithm
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Answer, Auth, Command, Policy
from strongroom.tpm.entities import NULL, Entity, permanent
from strongroom.tpm.marshal import Reader, sized, u8, u16, u32
from strongroom.tpm.refusals import refusal
from strongroom.tpm.wire import Transmit, patient

_NO_SESSIONS: Final = 0x8001
_SESSIONS: Final = 0x8002
_HEADER_BYTES: Final = 10
_PASSWORD: Final = u32(0x40000009)
_CONTINUE: Final = u8(0x01)
_NONCE_BYTES: Final = 32
_POLICY_SESSION: Final = 0x01


class Unprotected:
    """A road whose secrets are bytes, and go over the wire as they are."""

    def __init__(self, transmit: Transmit) -> None:
        self._transmit = patient(transmit)
        self._nonce_tpm = b""

    def run(self, command: Command[bytes], *auths: Auth[bytes]) -> Answer[bytes]:
        """Send a command with passwords. See :meth:`strongroom.tpm.commands.Road.run`."""
        if len(auths) != command.authorized:
            raise InternalError(f"{command.code.name} needs {command.authorized} authorizations")
        first = b"" if command.first is None else sized(b"".join(command.first))
        parameters = first + command.rest
        area = b"".join(self._authorization(command, parameters, auth) for auth in auths)
        body = b"".join(u32(entity.handle) for entity in command.about)
        if auths:
            body += u32(len(area)) + area
        body += parameters
        tag = _SESSIONS if auths else _NO_SESSIONS
        wire = u16(tag) + u32(_HEADER_BYTES + len(body)) + u32(command.code) + body
        _core.tpm_check_command(wire)
        return self._answer(command, wire, self._transmit(wire))

    def hearsay(self, command: Command[bytes]) -> Answer[bytes]:
        """Do the same: all is hearsay here."""
        return self.run(command)

    @contextlib.contextmanager
    def policy_session(self) -> Iterator[Entity]:
        """Open a policy session whose key everybody knows."""
        symmetric = u16(Algorithm.NULL)
        command: Command[bytes] = Command(
            CommandCode.START_AUTH_SESSION,
            (NULL, NULL),
            first=(secrets.token_bytes(_NONCE_BYTES),),
            rest=sized(b"") + u8(_POLICY_SESSION) + symmetric + u16(Algorithm.SHA256),
        )
        answer = self.run(command)
        self._nonce_tpm = Reader(answer.parameters).sized()
        with self.flushed(answer.made()):
            yield permanent(answer.made())

    @contextlib.contextmanager
    def flushed(self, handle: int) -> Iterator[None]:
        """Remove an object in the end. See :meth:`strongroom.tpm.commands.Road.flushed`."""
        try:
            yield
        finally:
            with contextlib.suppress(TpmError):
                self.flush(handle)

    def flush(self, handle: int) -> None:
        """Remove a session or a transient object now. Raises as :meth:`run`."""
        self.run(Command(CommandCode.FLUSH_CONTEXT, rest=u32(handle)))

    def _authorization(
        self, command: Command[bytes], parameters: bytes, auth: Auth[bytes]
    ) -> bytes:
        if not isinstance(auth, Policy):
            return _PASSWORD + sized(b"") + _CONTINUE + sized(auth or b"")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        code = b""
        if auth.auth is not None:
            names = b"".join(entity.name for entity in command.about)
            digest = hashlib.sha256(u32(command.code) + names + parameters).digest()
            covered = digest + nonce + self._nonce_tpm + _CONTINUE
            code = hmac.digest(auth.auth.rstrip(b"\0"), covered, "sha256")
        return u32(auth.session.handle) + sized(nonce) + _CONTINUE + sized(code)

    def _answer(self, command: Command[bytes], wire: bytes, answered: bytes) -> Answer[bytes]:
        response = _core.tpm_check_response(wire, answered)
        if response.code:
            raise refusal(command, response.code)
        reader = Reader(response.parameters)
        secret = reader.sized() if command.has_secret_answer else None
        return Answer(reader.rest(), response.handle, secret)

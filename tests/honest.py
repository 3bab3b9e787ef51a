# SPDX-License-Identifier: Apache-2.0
"""What an honest command line does with passphrases: each is for one volume and one call."""

import dataclasses
import os
from typing import Final, TypeVar

from strongroom import _core
from strongroom._core import HpkeReceiver
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, Purpose, Sealed, Terms
from strongroom.boundary.sealed import RECOVERY_INFO, changes_digest, request_digest
from strongroom.host.sealing import seal

CallT = TypeVar("CallT", bound=Call[object])


def known_secret(data: bytes) -> _core.Secret:
    """Return a secret with known bytes, the way a passphrase file becomes one."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        return _core.read_secret_file(reader)
    finally:
        os.close(reader)


def revealed(client: HpkeReceiver, reply: calls.SealedReply | None) -> bytes:
    """Return a recovery key as its owner sees it."""
    assert reply is not None
    reader, writer = os.pipe()
    try:
        client.open_to_fd(
            reply.encapsulated_key,
            reply.ciphertext,
            info=RECOVERY_INFO,
            aad=client.public_key,
            fd=writer,
            ending=b"\n",
        )
        return os.read(reader, 4096).rstrip(b"\n")
    finally:
        os.close(reader)
        os.close(writer)


AS_SHOWN: Final = bytes(32)
"""In terms: what another program changed is accepted, as the enclave shows it."""


class HonestClient:
    """Seals passphrases, and does so once more when it is known which call they go with.

    A key takes one message only; what was sealed first is never sent.
    """

    def __init__(self) -> None:
        self.volume = ""
        self._former: tuple[str, ...] = ()
        self._shown: tuple[calls.HeaderChange, ...] = ()
        self._meant: dict[bytes, tuple[Purpose, bytes, Terms]] = {}

    def sealed(self, key: bytes, purpose: Purpose, data: bytes, terms: Terms) -> Sealed:
        """Return a passphrase for a call that is yet to be made."""
        if not terms.volume and purpose != "format":
            terms = dataclasses.replace(terms, volume=self.volume, former_volumes=self._former)
        if terms.accepted_changes == AS_SHOWN:
            terms = dataclasses.replace(terms, accepted_changes=changes_digest(self._shown))
        self._meant[key] = (purpose, data, terms)
        return seal(known_secret(data), key, purpose, terms)

    def sealed_as_told(self, key: bytes, purpose: Purpose, terms: Terms) -> Sealed:
        """Return a passphrase under exactly these terms, whatever the volume."""
        return seal(known_secret(b"correct horse battery staple"), key, purpose, terms)

    def forget(self, sealed: Sealed) -> None:
        """Leave a passphrase as it was sealed."""
        del self._meant[sealed.public_key]

    def bound(self, request: CallT) -> CallT:
        """Return a call whose passphrases are for it alone, as far as they were sealed here."""
        given = {
            field.name: getattr(request, field.name)
            for field in dataclasses.fields(request)  # type: ignore[arg-type]  # every call is one
        }
        digest = request_digest(request)
        anew = {
            name: self._anew(value, digest)
            for name, value in given.items()
            if isinstance(value, Sealed) and value.public_key in self._meant
        }
        return dataclasses.replace(request, **anew)  # type: ignore[type-var]  # every call is one

    def notice(self, answer: object) -> None:
        """Learn which volume it is about."""
        if isinstance(answer, calls.DiskFacts):
            self.volume, self._shown = answer.uuid, answer.acceptable
            self._former = answer.former_uuids

    def _anew(self, sealed: Sealed, digest: bytes) -> Sealed:
        purpose, data, terms = self._meant[sealed.public_key]
        if purpose == "unlock" or sealed.terms != terms:
            return sealed
        bound = dataclasses.replace(terms, request=digest)
        return seal(known_secret(data), sealed.public_key, purpose, bound)

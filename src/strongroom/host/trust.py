# SPDX-License-Identifier: Apache-2.0
"""Passphrases go to an enclave that is who it should be, and to no other.

The operator's side: checks an enclave's report before anybody types, says beside the passphrase
what is known of the volume, and remembers what was seen once it has opened.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom import values
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, HeaderChange, Purpose, Recipient, Sealed, Terms
from strongroom.boundary.sealed import changes_digest, described, request_digest
from strongroom.host import attestation, known_enclaves
from strongroom.host.attestation import from_boundary
from strongroom.host.contracts import PassphraseSource, Reporter, Unlocking
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.sealing import seal

if TYPE_CHECKING:
    from strongroom.tee.identity import Identity, SealPolicy


class VolumeTrust:
    """What is known of one volume and its enclave, for the length of one command."""

    def __init__(
        self,
        volume: str,
        how: Unlocking,
        report: Reporter,
        *,
        image: Path | None,
        changes: tuple[HeaderChange, ...] = (),
        enrolled: bool = True,
        former: tuple[str, ...] = (),
    ) -> None:
        """Look a volume up.

        Args:
            volume: Its UUID, or an empty string for one that is not made yet.
            how: The provider that is expected, and what the operator agrees to.
            report: Where is said what the operator should know of an enclave.
            image: Where the volume is, to be named later in messages; ``None`` if that is unknown.
            changes: What another program is said to have changed in the header. If that is to be
                accepted, it is shown, and exactly that is accepted.
            enrolled: Its header says that it is sealed to an enclave.
            former: The UUIDs that it had before another program changed it. What is known of those
                holds too, and what is learned is remembered for them too: neither a new UUID nor
                the way back to a former one makes an older header acceptable.

        Raises:
            TeeError: What is known of the volume cannot be read.
        """
        self._volume = volume
        self._how = how
        self._accepted = changes if how.accept_header_change else ()
        if self._accepted:
            report.notice(f"accepting what changed in the header: {described(self._accepted)}")
        self._report = report
        self._enrolled = enrolled
        self._former = former
        self._image = "" if image is None else str(image.absolute())
        self._known = known_enclaves.find(volume) if volume else None
        formerly = known_enclaves.find_each(former)
        self._seen = formerly if self._known is None else (self._known, *formerly)
        self._running: Identity | None = None

    def sealed(
        self,
        recipient: Recipient,
        purpose: Purpose,
        source: PassphraseSource,
        prompt: str,
        *,
        request: Call[object] | None = None,
        next_enclave: bytes | None = None,
    ) -> Sealed:
        """Check who asks, only then ask for a passphrase, and seal it.

        Args:
            recipient: The key to seal it to.
            purpose: What for.
            source: Where it comes from.
            prompt: What a person is asked.
            request: The call that it goes with, with :data:`strongroom.boundary.sealed.BLANK` for
                its passphrases; ``None`` for ``Unlock``.
            next_enclave: The measurement of the enclave that the volume may be handed over to.

        Raises:
            IdentityError: The enclave is not the one that the volume was enrolled with.
            ReportError: Its report is not genuine, or is not about this key.
            SecretError: The passphrase could not be read.
        """
        self.check(recipient, purpose)
        secret = source.read(prompt, confirm=purpose in {"new passphrase", "format"})
        terms = self._terms(request, next_enclave)
        return seal(secret, recipient.public_key, purpose, terms)

    @property
    def volume(self) -> str:
        """The volume's UUID, or an empty string for one that is not made yet."""
        return self._volume

    @property
    def known(self) -> KnownEnclave | None:
        """What was known of it when the command began."""
        return self._known

    @property
    def running(self) -> "Identity | None":
        """The enclave whose report was checked, if one was."""
        return self._running

    def check(self, recipient: Recipient, purpose: Purpose) -> None:
        """Check an enclave's report over a key of its own, and say once what is odd about it."""
        attested = attestation.check(
            recipient.report,
            purpose,
            recipient.public_key,
            tee=self._how.tee,
            known=self._seen[0] if self._seen else None,
        )
        if self._running is None:
            if not self._seen and self._volume:
                self._report.notice(
                    attestation.first_use(attested.identity, enrolled=self._enrolled)
                )
            elif self._known is not None and self._known.forgotten:
                self._report.notice(attestation.trusted_anew(attested.identity, self._known))
            for notice in attested.notices:
                self._report.notice(notice)
        self._running = attested.identity

    def remember(
        self,
        volume: str,
        enrolment: calls.Enrolment | None,
        *,
        authenticated: bool,
        epoch: int,
        exactly: bool = False,
    ) -> None:
        """Write down what was seen of a volume, for all of its UUIDs.

        Args:
            volume: The one that it has.
            enrolment: The enclave that it is sealed to, if this machine has it; else the one that
                was seen is remembered.
            authenticated: Its header carries codes, and they were right.
            epoch: That of its header.
            exactly: The volume was changed on purpose: an older epoch is right too.

        Raises:
            IdentityError: The volume is said to be sealed to this enclave, and is not.
            NoPermissionError: The state directory cannot be written.
        """
        policy: SealPolicy = "signer"
        known = None if self._known is None or self._known.forgotten else self._known
        if enrolment is not None and (exactly or known is None):
            policy, identity = enrolment.policy, from_boundary(enrolment.identity)
            if not exactly:
                attestation.check_enrolment(identity, policy, self._running)
        elif known is not None:
            policy, identity = known.policy, known.identity
        elif self._running is not None:
            identity = self._running
        else:
            return
        seen = KnownEnclave(
            volume=volume.lower(),
            policy=policy,
            identity=identity,
            authenticated=authenticated,
            epoch=epoch,
            place="",
            sealed_elsewhere=authenticated and enrolment is None,
            image=self._image,
        )
        write = known_enclaves.replace if exactly else known_enclaves.remember
        for name in dict.fromkeys((*self._former, seen.volume)):
            write(values.replace(seen, volume=name))

    def _terms(self, request: Call[object] | None, next_enclave: bytes | None) -> Terms:
        return Terms(
            volume=self._volume,
            authenticated=any(known.authenticated for known in self._seen),
            minimum_epoch=max((known.epoch for known in self._seen), default=0),
            accepted_changes=changes_digest(self._accepted) if self._accepted else None,
            next_enclave=next_enclave,
            keyslot=self._how.keyslot,
            request=None if request is None else request_digest(request),
            former_volumes=self._former,
        )


OWN_STATES: Final = frozenset({"verified", "changed", "damaged"})
"""What this enclave finds out about a header that is sealed to it, and may be used."""


def own_enrolment(facts: calls.DiskFacts) -> calls.Enrolment | None:
    """Return what a volume is sealed to, where that is the enclave that looked at it."""
    return facts.enrolment if facts.authentication in OWN_STATES else None

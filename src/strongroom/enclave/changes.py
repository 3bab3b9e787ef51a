# SPDX-License-Identifier: Apache-2.0
"""What changes a loaded volume's header: keyslots, and the enclave that it is sealed to.

Each function proves that the caller has a way in, makes an edit, commits it, and returns the header
as it is then. The order of checks is the same everywhere: what needs no passphrase first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom._core import HpkeReceiver, Secret
from strongroom.boundary import calls
from strongroom.boundary.sealed import request_digest
from strongroom.enclave import facts, handover
from strongroom.enclave.authentication import check_opened, check_terms
from strongroom.enclave.commit import commit
from strongroom.enclave.disk import Disk
from strongroom.enclave.factors import Factor, in_order, with_passphrase
from strongroom.enclave.header_keys import volume_header_key
from strongroom.enclave.inspection import Inspected, tampered
from strongroom.enclave.keyslots import (
    Edit,
    check_removable,
    free_number,
    is_for_recovery,
    plain_secret,
    recovery_secret,
    sealed_secret,
    unchanged,
    with_marked_digest,
    with_recovery_mark,
    with_secret,
    without,
)
from strongroom.enclave.opening import Opened, Opener, Progress
from strongroom.enclave.recipients import Recipients, seal_recovery_key
from strongroom.enclave.sealed_slots import SlotSealer, seal_key_for, sealing_of
from strongroom.enclave.wording import clipped_all
from strongroom.errors import BoundaryError, DiskError, KeyslotStateError, RollbackError
from strongroom.luks2 import Sealing
from strongroom.tee.provider import Tee
from strongroom.values import dataclass

_ONE_KIND: Final = "a keyslot is added for a passphrase or for a recovery key"


@dataclass(frozen=True, slots=True)
class Proven:
    """A keyslot that was opened for the change that comes next, and with what."""

    sealed: calls.Sealed
    opened: Opened


@dataclass(frozen=True, slots=True)
class LoadedVolume:
    """A disk with its inspected header, and all that is needed to open and to change it.

    Attributes:
        proven: What :meth:`prove` opened before. It is used by the call after it, or erased.
    """

    inspected: Inspected
    disk: Disk
    tee: Tee
    recipients: Recipients
    progress: Progress
    proven: Proven | None = None

    @contextmanager
    def opened(
        self,
        sealed: calls.Sealed,
        request: calls.Call[object] | None,
        *,
        only: int | None = None,
        apart_from: int | None = None,
    ) -> Iterator[Opened]:
        """Lend the volume key of the keyslot that a passphrase opens, the header checked with it.

        Args:
            sealed: The passphrase.
            request: The change that it is for; ``None`` to unlock the volume.
            only: As for :meth:`Opener.open`.
            apart_from: The same.

        Raises:
            KeyslotStateError: The header on the disk is no longer the one that was read.
            StrongroomError: As :func:`check_terms`, :meth:`Opener.open` and :func:`check_opened`.
        """
        opened = self._proven_for(sealed, request, only=only, apart_from=apart_from)
        if opened is None:
            purpose: calls.Purpose = "unlock" if request is None else "existing passphrase"
            passphrase = self.recipients.open(sealed, purpose, request)
            opened = self._opened_with(
                passphrase,
                sealed,
                only=only,
                apart_from=apart_from,
                adopting=isinstance(request, calls.Reseal) and request.adopt,
            )
        try:
            yield opened
        finally:
            opened.erase()

    def prove(self, sealed: calls.Sealed, keyslot: int | None) -> Proven:
        """Open a keyslot for a change that comes with the same passphrase, as :meth:`opened`."""
        bound = sealed.terms.request
        if bound is None:
            raise BoundaryError("a passphrase to unlock a volume was used for a change")
        passphrase = self.recipients.open_bound(sealed, "existing passphrase", bound)
        only, lost = self.to_be_opened(keyslot)
        return Proven(sealed, self._opened_with(passphrase, sealed, only=only, apart_from=lost))

    def to_be_opened(self, keyslot: int | None) -> tuple[int | None, int | None]:
        """Return the only keyslot that opens for a change of ``keyslot``, and the one that cannot.

        A damaged keyslot, which nothing opens, is changed with any other one.
        """
        damaged = keyslot in self.inspected.damaged
        return (None, keyslot) if damaged else (keyslot, None)

    def _opened_with(
        self,
        passphrase: Secret,
        sealed: calls.Sealed,
        *,
        only: int | None,
        apart_from: int | None,
        adopting: bool = False,
    ) -> Opened:
        """Open a keyslot with a passphrase, which is erased, and check the header with its key."""
        try:
            # Authentic from here on, as they were sealed with the passphrase.
            self._check_terms(sealed.terms, adopting=adopting)
            opener = Opener(self.inspected, self.tee, passphrase, self.progress)
            opened = opener.open(only=only, apart_from=apart_from)
        finally:
            passphrase.erase()
        try:
            check_opened(self.inspected, sealed.terms, opened.volume_key, adopting=adopting)
        except BaseException:
            opened.erase()
            raise
        return opened

    def _proven_for(
        self,
        sealed: calls.Sealed,
        request: calls.Call[object] | None,
        *,
        only: int | None,
        apart_from: int | None,
    ) -> Opened | None:
        """Return the keyslot that was opened before with this passphrase, for this request."""
        if self.proven is None:
            return None
        opened, number = self.proven.opened, self.proven.opened.number
        if self.proven.sealed != sealed or request is None:
            opened.erase()
            return None
        meant = only in {None, number} and apart_from != number
        if sealed.terms.request != request_digest(request) or not meant:
            opened.erase()
            raise BoundaryError("a passphrase was used for another request than it was meant for")
        return opened

    def _check_terms(self, terms: calls.Terms, *, adopting: bool) -> None:
        try:
            check_terms(self.inspected, terms, adopting=adopting)
        except RollbackError:
            # Nobody's fault, if what lies there by now is newer than what was read.
            self.ensure_as_read()
            raise

    def ensure_as_read(self) -> None:
        """Make sure that the header on the disk is the one that was read, as :class:`Disk` does."""
        self.disk.ensure_as_read(self.inspected.header.total_bytes)

    def commit(self, edit: Edit, opened: Opened, sealing: Sealing | None = None) -> Inspected:
        """Put an edit on the disk; ``sealing`` when the volume goes to another enclave."""
        if self.inspected.exchanged:
            edit = with_marked_digest(edit, opened.volume_key)
        header_key = volume_header_key(opened.volume_key, self.inspected.sealed_uuid)
        try:
            return self.commit_with(edit, header_key, sealing)
        finally:
            header_key.erase()

    def commit_with(self, edit: Edit, header_key: Secret, sealing: Sealing | None) -> Inspected:
        """As :meth:`commit`, for a caller that has no volume key.

        The host lets the header's lock go while a passphrase is typed, so the disk is compared with
        what was read, right before anything is written.
        """
        self.ensure_as_read()
        return commit(
            edit,
            self.inspected,
            self.disk,
            tee=self.tee,
            header_key=header_key,
            sealing=sealing,
        )


def accept(volume: LoadedVolume, opened: Opened) -> Inspected:
    """Authenticate what another program changed, and what its operator accepted."""
    return volume.commit(unchanged(volume.inspected), opened)


def add_keyslot(
    volume: LoadedVolume, call: calls.AddKeyslot
) -> tuple[Inspected, calls.KeyslotWritten]:
    """Add a keyslot for a passphrase, or for a recovery key that is made here."""
    if (call.new is None) == (call.recovery_key_to is None):
        raise BoundaryError(_ONE_KIND)
    _check_editable(volume.inspected)
    if "enclave" in call.factors:
        handover.enrolled_token(volume.inspected)
    number = free_number(volume.inspected.header, call.keyslot)
    reply = None
    with volume.opened(call.existing, call) as opened:
        if call.recovery_key_to is not None:
            edit, reply = _with_recovery(volume.inspected, number, opened, call.recovery_key_to)
        elif call.new is None:
            raise BoundaryError(_ONE_KIND)
        else:
            edit = _with_passphrase(
                volume,
                number,
                opened,
                call,
                new=call.new,
                factors=with_passphrase(call.factors),
            )
        after = volume.commit(edit, opened)
    return after, _written(after, number, reply)


def change_keyslot(
    volume: LoadedVolume, call: calls.ChangeKeyslot
) -> tuple[Inspected, calls.KeyslotWritten]:
    """Replace the passphrase of the keyslot that the existing one opens, keeping its factors.

    A damaged keyslot, which nothing opens, is named, and any other one opened.
    """
    _check_editable(volume.inspected)
    only, lost = volume.to_be_opened(call.keyslot)
    with volume.opened(call.existing, call, only=only, apart_from=lost) as opened:
        number = opened.number if lost is None else lost
        if is_for_recovery(volume.inspected.header, number):
            raise KeyslotStateError(
                f"keyslot {number} is for a recovery key",
                hint="`strongroom slot add IMAGE` makes one for a passphrase, and "
                f"`strongroom slot remove IMAGE --keyslot {number}` takes this one away",
            )
        sealed = volume.inspected.sealed_slot(number)
        factors = in_order(("passphrase",) if sealed is None else sealed.factors)
        edit = _with_passphrase(volume, number, opened, call, new=call.new, factors=factors)
        after = volume.commit(edit, opened)
    return after, _written(after, number, None)


def remove_keyslot(
    volume: LoadedVolume, call: calls.RemoveKeyslot
) -> tuple[Inspected, calls.HeaderWritten]:
    """Remove a keyslot, once another one has been opened."""
    check_removable(volume.inspected.header, call.keyslot)
    _check_editable(volume.inspected)
    with volume.opened(call.existing, call, apart_from=call.keyslot) as opened:
        after = volume.commit(without(unchanged(volume.inspected), call.keyslot), opened)
    return after, calls.HeaderWritten(epoch_of(after), clipped_all(after.loaded.notices))


def reseal(volume: LoadedVolume, call: calls.Reseal) -> tuple[Inspected, calls.Resealed]:
    """Seal a volume to this enclave as it is now, or adopt one whose enclave is lost."""
    inspected = volume.inspected
    handover.enrolled_token(inspected)
    if not call.adopt or _is_renamed(inspected):
        # A volume that is only renamed loses nothing: this enclave still has what is sealed.
        _check_editable(inspected)
        with volume.opened(call.existing, call) as opened:
            edit, sealing = handover.resealed(inspected, volume.tee, call.policy)
            after = volume.commit(edit, opened, sealing)
        return after, _resealed(after, ())
    if inspected.state == "tampered":
        raise tampered(inspected.findings)
    if inspected.state != "unverified":
        raise KeyslotStateError(
            "the enclave that the volume is sealed to is this one, and not lost",
            hint="leave --adopt out",
        )
    with volume.opened(call.existing, call) as opened:
        edit, lost = unchanged(inspected), tuple(sorted(unchanged(inspected).slots))
        for number in lost:
            edit = without(edit, number)
        sealing = sealing_of(volume.tee, call.policy, inspected.sealed_uuid)
        after = volume.commit(edit, opened, sealing)
    return after, _resealed(after, lost)


def hand_over(volume: LoadedVolume, call: calls.HandOver) -> tuple[Inspected, calls.Handover]:
    """Encrypt to the next enclave what opens this volume, having checked who that is.

    What another program changed, and its operator accepted, is authenticated first: the next
    enclave takes a header only as it is authenticated.
    """
    token, terms = handover.enrolled_token(volume.inspected), call.existing.terms
    _check_editable(volume.inspected)
    with volume.opened(call.existing, call) as opened:
        volume.ensure_as_read()
        handover.check_successor(volume.tee, token.sealing, call.successor, terms)
        changed = volume.inspected.state == "changed"
        inspected = accept(volume, opened) if changed else volume.inspected
        header_key = volume_header_key(opened.volume_key, inspected.sealed_uuid)
        try:
            return inspected, handover.hand_over(inspected, volume.tee, header_key, call)
        finally:
            header_key.erase()


def take_over(
    volume: LoadedVolume, call: calls.TakeOver, receiver: HpkeReceiver
) -> tuple[Inspected, calls.Resealed]:
    """Seal a volume to this enclave with what the one before it handed over."""
    transport = handover.open_handover(receiver, call.handover)
    try:
        with handover.handed_header_key(volume.inspected, transport, call.handover) as header_key:
            edit, sealing = handover.taken_over(
                volume.inspected, volume.tee, transport, call.handover
            )
            after = volume.commit_with(edit, header_key, sealing)
    finally:
        transport.erase()
    return after, _resealed(after, ())


def _with_recovery(
    inspected: Inspected, number: int, opened: Opened, client_public_key: bytes
) -> tuple[Edit, calls.SealedReply]:
    recovery_key = Secret.random_recovery_key()
    try:
        # Sealed before it is written: a keyslot whose key nobody can have must not be made.
        reply = seal_recovery_key(recovery_key, client_public_key)
        secret = recovery_secret(recovery_key)
        edit = with_secret(unchanged(inspected), number, secret, opened.volume_key)
    finally:
        recovery_key.erase()
    return with_recovery_mark(edit, number), reply


def _with_passphrase(
    volume: LoadedVolume,
    number: int,
    opened: Opened,
    request: calls.AddKeyslot | calls.ChangeKeyslot,
    *,
    new: calls.Sealed,
    factors: tuple[Factor, ...],
) -> Edit:
    passphrase, wanted = volume.recipients.open(new, "new passphrase", request), request.kdf
    try:
        if "enclave" not in factors:
            plain = plain_secret(passphrase, wanted)
            return with_secret(unchanged(volume.inspected), number, plain, opened.volume_key)
        sealing = handover.enrolled_token(volume.inspected).sealing
        volume_uuid = volume.inspected.sealed_uuid
        seal_key = seal_key_for(volume.tee, sealing, volume_uuid)
        try:
            sealer = SlotSealer(seal_key, sealing, volume_uuid)
            secret = sealed_secret(sealer, passphrase, wanted, keyslot=number, factors=factors)
        finally:
            seal_key.erase()
        try:
            return with_secret(unchanged(volume.inspected), number, secret, opened.volume_key)
        finally:
            secret.passphrase.erase()
    finally:
        passphrase.erase()


def _is_renamed(inspected: Inspected) -> bool:
    return inspected.state == "changed" and inspected.former_uuid != ""


def _check_editable(inspected: Inspected) -> None:
    """Refuse, for the obstacle's reason, to change a header that cannot be authenticated again."""
    obstacle = inspected.obstacle
    if inspected.state == "unverified" and obstacle is not None:
        raise type(obstacle)(
            f"this enclave cannot change the header: {obstacle.message}",
            hint="if the enclave that it is sealed to is lost, `strongroom reseal IMAGE --adopt`",
        )


def _written(
    after: Inspected, number: int, reply: calls.SealedReply | None
) -> calls.KeyslotWritten:
    notices = clipped_all(after.loaded.notices)
    return calls.KeyslotWritten(facts.keyslot(after, number), reply, epoch_of(after), notices)


def _resealed(after: Inspected, removed: tuple[int, ...]) -> calls.Resealed:
    sealing = handover.enrolled_token(after).sealing
    notices = clipped_all(after.loaded.notices)
    return calls.Resealed(facts.enrolment(sealing), epoch_of(after), removed, notices)


def epoch_of(inspected: Inspected) -> int:
    """Return the epoch of a header, or 0 when it has none."""
    return 0 if inspected.token is None else inspected.token.epoch


def durable_epoch(
    inspected: Inspected, disk: Disk, terms: calls.Terms
) -> tuple[int, tuple[str, ...]]:
    """Return the epoch that may be remembered, 0 when it is not on the disk, and why.

    A header that was written and not synced is gone after a power cut. Who remembered its epoch
    would refuse the one that is there then.
    """
    epoch = epoch_of(inspected)
    if epoch <= terms.minimum_epoch:
        return epoch, ()
    try:
        disk.make_header_durable()
    except DiskError as err:
        return 0, (f"the epoch {epoch} is not remembered, as it may be lost: {err.message}",)
    return epoch, ()

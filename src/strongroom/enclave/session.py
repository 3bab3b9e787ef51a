# SPDX-License-Identifier: Apache-2.0
"""The enclave's state machine: what may be asked when, and what it holds.

::

    fresh --LoadDisk--> loaded --Unlock--> unlocked --Serve, ServeFuse--> serving
      |                   |
      |                   +-- DumpHeader, BackupHeader, ProveWayIn, AddKeyslot, ChangeKeyslot,
      |                       RemoveKeyslot, Reseal, HandOver, TakeOver
      +-- LookAtDisk--> looked --DumpHeader, BackupHeader
      +-- CreateVolume, ReadBackup, RestoreHeader

``ReadCounters`` and ``Flush`` are allowed from ``unlocked`` on. ``Describe``, ``ProveIdentity``,
``RunSelftest``, ``NewRecipient``, ``BecomeSuccessor``, ``Erase`` and ``Shutdown`` are allowed in
every state; after ``Erase`` nothing but ``Shutdown`` is. A call in the wrong state is refused: the
host's own code never makes one.
"""

import json
from collections.abc import Callable
from typing import Protocol, TypeVar

from strongroom import __version__, _core
from strongroom._core import HpkeReceiver, Volume
from strongroom.boundary import calls
from strongroom.boundary.calls import Call
from strongroom.boundary.channel import Received
from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.sealed import report_data
from strongroom.enclave import backup, changes, create, facts
from strongroom.enclave.authentication import is_accepted, is_authenticated
from strongroom.enclave.changes import LoadedVolume, Proven, durable_epoch
from strongroom.enclave.commit import repair
from strongroom.enclave.disk import Disk
from strongroom.enclave.inspection import Inspected, inspect, look
from strongroom.enclave.opening import Opened, Progress, damaged_notice, ensure_way_in
from strongroom.enclave.recipients import Recipients
from strongroom.enclave.unlocked import UnlockedVolume
from strongroom.errors import BoundaryError, InternalError, UnsupportedCipherError
from strongroom.luks2 import LoadedHeader, describe, load_header, look_at_header
from strongroom.luks2.limits import WRITABLE_CIPHER
from strongroom.tee.provider import Tee
from strongroom.values import dataclass

PartT = TypeVar("PartT")

_ACCEPTED = "the changed header was accepted and authenticated anew"
_ACCEPTED_ONCE = "the changed header was accepted this time, and not authenticated anew"
_REPAIRABLE = frozenset({"absent", "verified", "damaged"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the enclave before its first call.

    Attributes:
        confinement: What the kernel granted.
        transport: How the host reaches it: ``fd``, ``stdio`` or ``tcp``.
        disk: Descriptors of an image and its detached header that it was started with.
        multiplexer: What brings clients where no listening socket can be passed.
    """

    confinement: tuple[calls.Confinement, ...]
    transport: str
    disk: tuple[int, int | None] | None = None
    multiplexer: Multiplexer | None = None


class TpmPart(Protocol):
    """What an enclave with a TPM does besides: loaded by those alone."""

    def answer(self, call: Call[object]) -> object:
        """Answer a call about the TPM. See :class:`strongroom.enclave.tpm_operations`."""

    def close(self) -> None:
        """Flush what is left in the TPM. Never raises a :class:`TpmError`."""

    def erase(self) -> None:
        """Erase every key, and say nothing more to the TPM. Never raises."""


class Session:
    """One enclave's life.

    Args:
        surroundings: What it was started with.
        tee: Its TEE.
        progress: Where it reports from long calls.
        tpm: Makes the part that knows a TPM, if there is one.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        tee: Tee,
        progress: Progress,
        tpm: Callable[[Tee, Recipients], TpmPart] | None = None,
    ) -> None:
        self._surroundings = surroundings
        self._tee = tee
        self._progress = progress
        self._recipients = Recipients(tee)
        self._tpm = None if tpm is None else tpm(tee, self._recipients)
        self._successor: HpkeReceiver | None = None
        self._disk: Disk | None = None
        self._inspected: Inspected | None = None
        self._is_usable = False
        self._proven: Proven | None = None
        self._volume: UnlockedVolume | None = None
        self._erased = False
        self.ended = False

    def answer(self, received: Received) -> object:  # noqa: C901, PLR0911, PLR0912
        """Answer one ecall: the table of what the enclave does.

        Raises:
            StrongroomError: The call failed; nothing is half done.
            BoundaryError: The call is not allowed in this state.
        """
        if self._erased and not isinstance(received.call, calls.Shutdown):
            raise BoundaryError("the keys are erased")
        match received.call:
            case calls.Describe():
                return self._describe()
            case calls.ProveIdentity(challenge):
                return calls.Proof(self._tee.report(report_data("identity", challenge)))
            case calls.RunSelftest():
                return calls.TestResults(
                    tuple(calls.TestResult(name, ok) for name, ok in _core.selftest())
                )
            case calls.NewRecipient(purpose):
                return self._recipients.new(purpose)
            case calls.LoadDisk() as call:
                return self._load(call)
            case calls.LookAtDisk() as call:
                return self._look(call)
            case calls.DumpHeader():
                loaded = self._read()[0].loaded
                return calls.HeaderDump(json.dumps(describe(loaded.header, loaded=loaded)))
            case calls.CreateVolume() as call:
                return self._create(call)
            case calls.Unlock() as call:
                return self._unlock(call)
            case calls.Serve() as call:
                return self._unlocked().serve(call)
            case calls.ServeFuse(devices, file_name):
                return self._unlocked().serve_fuse(devices, file_name)
            case calls.ReadCounters():
                return self._unlocked().counters()
            case calls.Flush():
                return self._unlocked().flush()
            case calls.ProveWayIn(existing, keyslot):
                self._proven = self._loaded().prove(existing, keyslot)
                return calls.Done()
            case calls.AddKeyslot() as call:
                return self._changed(changes.add_keyslot(self._loaded(), call))
            case calls.ChangeKeyslot() as call:
                return self._changed(changes.change_keyslot(self._loaded(), call))
            case calls.RemoveKeyslot() as call:
                return self._changed(changes.remove_keyslot(self._loaded(), call))
            case calls.BecomeSuccessor():
                return self._become_successor()
            case calls.HandOver() as call:
                return self._changed(changes.hand_over(self._loaded(), call))
            case calls.TakeOver() as call:
                return self._take_over(call)
            case calls.Reseal() as call:
                return self._changed(changes.reseal(self._loaded(), call))
            case calls.BackupHeader(output):
                return backup.write_backup(*self._read(), output)
            case calls.ReadBackup(file):
                self._require_fresh()
                return backup.read_backup(file, self._tee)
            case calls.RestoreHeader() as call:
                return self._restore(call)
            case calls.Erase():
                self._erase_keys()
                return calls.Done()
            case calls.Shutdown():
                return self._shutdown()
            case call if self._tpm is not None:
                return self._tpm.answer(call)
            case _:
                raise InternalError(f"{type(received.call).__name__} has no handler")

    def erase(self) -> None:
        """Erase every key, stop serving and let go of the disk, also after a violation.

        The keys go first, as the disk may hang. Never raises.
        """
        self.ended = True
        self._erase_keys()
        if self._volume is not None:
            self._volume.stop_serving()
            self._volume.close()
            self._volume = None
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _erase_keys(self) -> None:
        self._erased = True
        if self._volume is not None:
            self._volume.erase()
        if self._proven is not None:
            self._proven.opened.erase()
            self._proven = None
        self._recipients.erase()
        if self._successor is not None:
            self._successor.erase()
        self._tee.erase()
        if self._tpm is not None:
            self._tpm.erase()
            self._tpm = None

    def _describe(self) -> calls.Description:
        return calls.Description(
            protocol=calls.PROTOCOL_VERSION,
            version=__version__,
            identity=facts.identity(self._tee.identity),
            transport=self._surroundings.transport,
            cipher_backend=_core.cipher_backend(),
            confinement=self._surroundings.confinement,
        )

    def _disk_of(
        self,
        image: int | None,
        header: int | None,
        *,
        read_only: bool = False,
        direct: int | None = None,
    ) -> Disk:
        if image is None:
            given = self._surroundings.disk
            image, header = _required(given, "no disk was passed, and none given at the start")
        return Disk(image, header, read_only=read_only, direct_fd=direct)

    def _load(self, call: calls.LoadDisk) -> calls.DiskFacts:
        self._require_fresh()
        disk = self._disk_of(call.image, call.header, read_only=call.read_only, direct=call.direct)
        try:
            loaded = load_header(
                disk.header_copy(),
                image_size_bytes=disk.header_size_bytes(),
                detached=disk.detached,
            )
            inspected = inspect(loaded, _material(loaded, disk), self._tee)
            if inspected.state != "tampered":
                ensure_way_in(loaded.header)
            segment = inspected.header.segment
            disk.ensure_takes(segment.offset_bytes, segment.sector_size_bytes)
            notices = [*loaded.notices, *backup.unreadable(disk), *facts.oddities(inspected)]
            if not call.read_only and inspected.state in _REPAIRABLE:
                inspected, repaired = repair(inspected, disk)
                notices += repaired
            known = facts.disk_facts(inspected, disk, tuple(notices))
        except BaseException:
            disk.close()
            raise
        self._disk, self._inspected, self._is_usable = disk, inspected, True
        return known

    def _look(self, call: calls.LookAtDisk) -> calls.HeaderFacts:
        self._require_fresh()
        disk = self._disk_of(call.image, call.header, read_only=True)
        try:
            loaded = look_at_header(
                disk.header_copy(),
                image_size_bytes=disk.header_size_bytes(),
                detached=disk.detached,
            )
            inspected = look(loaded, _material(loaded, disk), self._tee)
            known = facts.header_facts(inspected, backup.unreadable(disk))
        except BaseException:
            disk.close()
            raise
        self._disk, self._inspected = disk, inspected
        return known

    def _create(self, call: calls.CreateVolume) -> calls.Created:
        self._require_fresh()
        passphrase = self._recipients.open(call.passphrase, "format", call)
        with self._disk_of(call.image, call.header) as disk:
            try:
                made = create.create(call, disk, passphrase, tee=self._tee, progress=self._progress)
            finally:
                passphrase.erase()
            return facts.created(made, disk)

    def _unlock(self, call: calls.Unlock) -> calls.Unlocked:
        loaded = self._loaded()
        segment = loaded.inspected.header.segment
        if segment.cipher != WRITABLE_CIPHER and not loaded.disk.read_only:
            raise UnsupportedCipherError(
                f"{segment.cipher} is supported for reading only", hint="open it with --read-only"
            )
        terms = call.passphrase.terms
        with loaded.opened(call.passphrase, None, only=terms.keyslot) as opened:
            notices = self._settle_changes(loaded, opened)
            inspected = self._loaded().inspected
            doubtful = bool(loaded.inspected.damaged) and not is_accepted(
                loaded.inspected.acceptable, terms
            )
            read_only = loaded.disk.read_only or doubtful
            volume = _volume(loaded, opened, read_only=read_only, discard=call.discard)
        self._volume = UnlockedVolume(volume, self._surroundings.multiplexer)
        epoch, doubts = durable_epoch(inspected, loaded.disk, terms)
        loaded.disk.forget_header()
        if doubtful and not loaded.disk.read_only:
            number = min(loaded.inspected.damaged)
            notices = (*notices, damaged_notice(loaded.inspected, number))
        authenticated = is_authenticated(inspected)
        if not authenticated:
            epoch = min(epoch, terms.minimum_epoch)
        notices += doubts
        return calls.Unlocked(opened.number, authenticated, read_only, epoch, notices)

    def _settle_changes(self, loaded: LoadedVolume, opened: Opened) -> tuple[str, ...]:
        """Authenticate anew what the operator accepted, where that can be written."""
        if loaded.inspected.state != "changed":
            return ()
        if loaded.disk.read_only:
            return (_ACCEPTED_ONCE,)
        self._inspected = changes.accept(loaded, opened)
        return (_ACCEPTED, *self._inspected.loaded.notices)

    def _changed(self, change: tuple[Inspected, PartT]) -> PartT:
        # The next change starts from what is on the disk now.
        self._inspected, answer = change
        return answer

    def _become_successor(self) -> calls.Successor:
        if self._successor is not None:
            self._successor.erase()
        receiver = self._successor = HpkeReceiver()
        report = self._tee.report(report_data("handover", receiver.public_key))
        return calls.Successor(receiver.public_key, report)

    def _take_over(self, call: calls.TakeOver) -> calls.Resealed:
        loaded = self._loaded()
        receiver = _required(self._successor, "this enclave is nobody's successor")
        self._successor = None
        return self._changed(changes.take_over(loaded, call, receiver))

    def _restore(self, call: calls.RestoreHeader) -> calls.BackupWritten:
        self._require_fresh()
        with self._disk_of(call.image, call.header) as disk:
            return backup.restore_backup(
                disk, call.backup, self._tee, known=call.known, force=call.force
            )

    def _shutdown(self) -> calls.Done:
        self.ended = True
        if self._tpm is not None:
            self._tpm.close()
        if self._volume is not None:
            self._volume.end()
        return calls.Done()

    def _unlocked(self) -> UnlockedVolume:
        return _required(self._volume, "the volume is not unlocked")

    def _require_fresh(self) -> None:
        if self._disk is not None:
            raise BoundaryError("this enclave has a disk already")

    def _loaded(self) -> LoadedVolume:
        if self._volume is not None:
            raise BoundaryError("the volume is unlocked, and its header is left alone")
        if not self._is_usable:
            raise BoundaryError("the header is only looked at")
        proven, self._proven = self._proven, None
        return LoadedVolume(
            inspected=_required(self._inspected, "no disk is loaded"),
            disk=_required(self._disk, "no disk is loaded"),
            tee=self._tee,
            recipients=self._recipients,
            progress=self._progress,
            proven=proven,
        )

    def _read(self) -> tuple[Inspected, Disk]:
        if self._volume is not None:
            raise BoundaryError("the volume is unlocked, and its header is left alone")
        return (
            _required(self._inspected, "no disk is loaded"),
            _required(self._disk, "no disk is loaded"),
        )


def _material(loaded: LoadedHeader, disk: Disk) -> dict[int, bytes]:
    return {
        number: disk.read_header_area(slot.area.offset_bytes, slot.area.size_bytes)
        for number, slot in loaded.header.keyslots.items()
    }


def _volume(loaded: LoadedVolume, opened: Opened, *, read_only: bool, discard: bool) -> Volume:
    header, disk = loaded.inspected.header, loaded.disk
    segment = header.segment
    return Volume(
        disk.data_fd,
        opened.volume_key,
        cipher=segment.cipher,
        segment_offset_bytes=segment.offset_bytes,
        segment_size_bytes=header.data_size_bytes(disk.image_size_bytes()),
        sector_size_bytes=segment.sector_size_bytes,
        iv_tweak=segment.iv_tweak,
        read_only=read_only,
        discard=discard or "allow-discards" in header.flags,
    )


def _required(part: PartT | None, otherwise: str) -> PartT:
    if part is None:
        raise BoundaryError(otherwise)
    return part

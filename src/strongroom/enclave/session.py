# SPDX-License-Identifier: Apache-2.0
"""The enclave's state machine: what may be asked when, and what it holds.

::

    fresh --LoadDisk--> loaded --Unlock--> unlocked --Serve--> serving
      |                   |
      +-- CreateVolume,   +-- DumpHeader, AddKeyslot, ChangeKeyslot, RemoveKeyslot,
          RestoreHeader       BackupHeader

``Describe``, ``RunSelftest``, ``NewRecipient`` and ``Shutdown`` are allowed in every state. A call
in the wrong state is refused: the host's own code never makes one.
"""

import dataclasses
import json
import os
import stat
from typing import TypeVar

from strongroom import __version__, _core
from strongroom._core import NbdServer, Secret, Volume
from strongroom.boundary import calls
from strongroom.boundary.channel import Received
from strongroom.enclave import backup, create, facts, keyslots
from strongroom.enclave.disk import Disk
from strongroom.enclave.keyslots import Opened, Progress
from strongroom.enclave.recipients import Recipients, seal_recovery_key
from strongroom.errors import BoundaryError, InternalError, UnsupportedCipherError
from strongroom.luks2 import Header, LoadedHeader, describe, load_header, repair_steps
from strongroom.luks2.limits import WRITABLE_CIPHER

PartT = TypeVar("PartT")

TEE = "process"


class Session:
    """One enclave's life. ``progress`` is where it reports from long calls."""

    def __init__(self, confinement: tuple[calls.Confinement, ...], progress: Progress) -> None:
        self._confinement = confinement
        self._progress = progress
        self._recipients = Recipients()
        self._disk: Disk | None = None
        self._loaded: LoadedHeader | None = None
        self._volume: Volume | None = None
        self._server: NbdServer | None = None
        self.ended = False

    def answer(self, received: Received) -> object:  # noqa: C901, PLR0911, PLR0912
        """Answer one ecall: the table of what the enclave does.

        Raises:
            StrongroomError: The call failed; nothing is half done.
            BoundaryError: The call is not allowed in this state.
        """
        match received.call:
            case calls.Describe():
                return self._describe()
            case calls.RunSelftest():
                return calls.TestResults(
                    tuple(calls.TestResult(name, ok) for name, ok in _core.selftest())
                )
            case calls.NewRecipient(purpose):
                return calls.Recipient(self._recipients.new(purpose))
            case calls.LoadDisk() as call:
                return self._load(call)
            case calls.DumpHeader():
                return calls.HeaderDump(
                    json.dumps(describe(self._header().header, loaded=self._header()))
                )
            case calls.CreateVolume() as call:
                return self._create(call)
            case calls.Unlock() as call:
                return self._unlock(call)
            case calls.Serve(listener, export_name):
                return self._serve(listener, export_name)
            case calls.ReadCounters():
                volume = _required(self._volume, "the volume is not unlocked")
                return calls.Counters(**volume.counters())
            case calls.AddKeyslot() as call:
                return self._add_keyslot(call)
            case calls.ChangeKeyslot() as call:
                return self._change_keyslot(call)
            case calls.RemoveKeyslot() as call:
                return self._remove_keyslot(call)
            case calls.BackupHeader(output):
                return backup.write_backup(self._header().header, self._loaded_disk(), output)
            case calls.RestoreHeader() as call:
                return self._restore(call)
            case calls.Shutdown():
                return self._shutdown()
            case _:
                raise InternalError(f"{type(received.call).__name__} has no handler")

    def erase(self) -> None:
        """Stop serving and erase every key, also after a violation. Never raises."""
        self.ended = True
        self._recipients.erase()
        self._stop_serving()
        if self._volume is not None:
            self._volume.close()
            self._volume = None

    def _stop_serving(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _describe(self) -> calls.Description:
        return calls.Description(
            protocol=calls.PROTOCOL_VERSION,
            version=__version__,
            tee=TEE,
            simulated=True,
            cipher_backend=_core.cipher_backend(),
            confinement=self._confinement,
        )

    def _load(self, call: calls.LoadDisk) -> calls.DiskFacts:
        self._require_fresh()
        disk = Disk(call.image, call.header, read_only=call.read_only)
        try:
            loaded = load_header(
                disk.header_copy(),
                image_size_bytes=disk.header_size_bytes(),
                detached=disk.detached,
            )
            notices = list(loaded.notices)
            if loaded.broken and not call.read_only:
                disk.apply(repair_steps(loaded))
                notices.append("the damaged header copy was repaired from the good one")
            known = facts.disk_facts(loaded.header, disk, tuple(notices))
        except BaseException:
            disk.close()
            raise
        self._disk, self._loaded = disk, loaded
        return known

    def _create(self, call: calls.CreateVolume) -> calls.Created:
        self._require_fresh()
        passphrase = self._recipients.open(call.passphrase, "format")
        with Disk(call.image, call.header) as disk:
            try:
                made = create.create(call, disk, passphrase, self._progress)
            finally:
                passphrase.erase()
            return facts.created(made, disk)

    def _unlock(self, call: calls.Unlock) -> calls.Unlocked:
        header, disk = self._header().header, self._loaded_disk()
        segment = header.segment
        if segment.cipher != WRITABLE_CIPHER and not disk.read_only:
            raise UnsupportedCipherError(
                f"{segment.cipher} is supported for reading only", hint="open it with --read-only"
            )
        opened = self._open(call.passphrase, "unlock")
        try:
            self._volume = Volume(
                disk.image_fd,
                opened.volume_key,
                cipher=segment.cipher,
                segment_offset_bytes=segment.offset_bytes,
                segment_size_bytes=header.data_size_bytes(disk.image_size_bytes()),
                sector_size_bytes=segment.sector_size_bytes,
                iv_tweak=segment.iv_tweak,
                read_only=disk.read_only,
                discard=call.discard or "allow-discards" in header.flags,
            )
        finally:
            opened.volume_key.erase()
        return calls.Unlocked(opened.number)

    def _serve(self, listener: int, export_name: str) -> calls.Done:
        volume = _required(self._volume, "the volume is not unlocked")
        if self._server is not None:
            raise BoundaryError("the volume is served already")
        if not stat.S_ISSOCK(os.fstat(listener).st_mode):
            raise BoundaryError("the listener is no socket")
        self._server = NbdServer(volume, listener, export_name=export_name)
        return calls.Done()

    def _add_keyslot(self, call: calls.AddKeyslot) -> calls.KeyslotWritten:
        if (call.new is None) == (call.recovery_key_to is None):
            raise BoundaryError("a keyslot is added for a passphrase or for a recovery key")
        disk = self._loaded_disk()
        opened = self._open(call.existing, "existing passphrase")
        try:
            if call.recovery_key_to is not None:
                return self._add_recovery(opened, call.recovery_key_to, call.keyslot)
            sealed = _required(call.new, "there is no new passphrase")
            new = self._recipients.open(sealed, "new passphrase")
            header, number = keyslots.add(
                self._header().header, disk, opened, new, wanted=call.kdf, number=call.keyslot
            )
            new.erase()
        finally:
            opened.volume_key.erase()
        self._committed(header)
        return calls.KeyslotWritten(facts.keyslot(header, number), None)

    def _add_recovery(
        self, opened: Opened, client_public_key: bytes, wanted: int | None
    ) -> calls.KeyslotWritten:
        recovery_key = Secret.random_recovery_key()
        try:
            # Sealed before it is written: a keyslot whose key nobody can have must not be made.
            sealed = seal_recovery_key(recovery_key, client_public_key)
            header, number = keyslots.add_recovery(
                self._header().header, self._loaded_disk(), opened, recovery_key, number=wanted
            )
        finally:
            recovery_key.erase()
        self._committed(header)
        return calls.KeyslotWritten(facts.keyslot(header, number), sealed)

    def _change_keyslot(self, call: calls.ChangeKeyslot) -> calls.KeyslotWritten:
        opened = self._open(call.existing, "existing passphrase", only=call.keyslot)
        try:
            new = self._recipients.open(call.new, "new passphrase")
            header = keyslots.change(
                self._header().header, self._loaded_disk(), opened, new, wanted=call.kdf
            )
            new.erase()
        finally:
            opened.volume_key.erase()
        self._committed(header)
        return calls.KeyslotWritten(facts.keyslot(header, opened.number), None)

    def _remove_keyslot(self, call: calls.RemoveKeyslot) -> calls.Done:
        header = self._header().header
        keyslots.check_removable(header, call.keyslot)
        opened = self._open(call.existing, "existing passphrase", apart_from=call.keyslot)
        opened.volume_key.erase()
        self._committed(keyslots.remove(header, self._loaded_disk(), call.keyslot))
        return calls.Done()

    def _restore(self, call: calls.RestoreHeader) -> calls.BackupWritten:
        self._require_fresh()
        with Disk(call.image, call.header) as disk:
            return backup.restore_backup(disk, call.backup, force=call.force)

    def _shutdown(self) -> calls.Done:
        self.ended = True
        self._stop_serving()
        if self._volume is not None:
            self._volume.flush()
        return calls.Done()

    def _open(
        self,
        sealed: calls.Sealed,
        purpose: calls.Purpose,
        *,
        only: int | None = None,
        apart_from: int | None = None,
    ) -> Opened:
        # First the state: a call that is refused for it uses no key up.
        header, disk = self._header().header, self._loaded_disk()
        passphrase = self._recipients.open(sealed, purpose)
        try:
            return keyslots.open_keyslot(
                header,
                disk,
                passphrase,
                progress=self._progress,
                only=only,
                apart_from=apart_from,
            )
        finally:
            passphrase.erase()

    def _committed(self, header: Header) -> None:
        # The next change starts from what is on the disk now.
        self._loaded = dataclasses.replace(self._header(), header=header)

    def _require_fresh(self) -> None:
        if self._disk is not None:
            raise BoundaryError("this enclave has a disk already")

    def _header(self) -> LoadedHeader:
        if self._volume is not None:
            raise BoundaryError("the volume is unlocked, and its header is left alone")
        return _required(self._loaded, "no disk is loaded")

    def _loaded_disk(self) -> Disk:
        return _required(self._disk, "no disk is loaded")


def _required(part: PartT | None, otherwise: str) -> PartT:
    if part is None:
        raise BoundaryError(otherwise)
    return part

# SPDX-License-Identifier: Apache-2.0
"""A host in memory: it checks what the command line hands it and answers as the contract says."""

import os
from collections.abc import Mapping
from pathlib import Path

from strongroom._core import Secret, read_secret_file
from strongroom.cli.arguments import NAME
from strongroom.cli.output import JsonValue
from strongroom.errors import (
    AlreadyOpenError,
    IdentityError,
    KeyslotStateError,
    LastWayInError,
    NotFoundError,
    NotOpenError,
    WrongPassphraseError,
)
from strongroom.host.contracts import (
    Enrolment,
    Finding,
    ForgetResult,
    FormatRequest,
    FormatResult,
    Identity,
    IdentityResult,
    ImageReference,
    KdfChoice,
    KeyslotResult,
    ListedVolume,
    MeasureResult,
    OpenRequest,
    OpenResult,
    PassphraseSource,
    Reporter,
    ResealResult,
    SealPolicy,
    StatusResult,
    TeeName,
    Unlocking,
)

PASSPHRASE = b"correct horse"
RECOVERY_KEY = b"-".join([b"cbdefghi"] * 8) + b"\n"
UUID = "11111111-2222-4333-8444-555555555555"
MEASUREMENT = "aa" * 32
SIGNER = "bb" * 32
IDENTITY: Identity = {
    "tee": "process",
    "simulated": True,
    "measurement": MEASUREMENT,
    "signer": SIGNER,
    "product_id": 1,
    "security_version": 3,
    "debug": False,
}


def secret_of(text: bytes) -> Secret:
    """Return a secret with known bytes, the way the command line gets one: through a pipe."""
    source, sink = os.pipe()
    try:
        os.write(sink, text)
        os.close(sink)
        return read_secret_file(source)
    finally:
        os.close(source)


class FakeVolumes:
    """One image at a time, one passphrase that is right.

    Attributes:
        fails_with: Raised by the next operation, after it has read its inputs.
        passphrase: What opens every image.
        new_passphrase: What ``slot add`` and ``slot change`` were given.
        how: What was last said beside a passphrase.
        asked: The other arguments of the last ``slot add``, ``identity``, ``reseal`` or ``doctor``.
    """

    def __init__(self, *existing: Path) -> None:
        self.existing = set(existing)
        self.passphrase = PASSPHRASE
        self.new_passphrase: Secret | None = None
        self.fails_with: BaseException | None = None
        self.formatted: FormatRequest | None = None
        self.opened: dict[str, OpenRequest] = {}
        self.served: tuple[OpenRequest, bool, tuple[str, ...] | None] | None = None
        self.serve_code = 0
        self.kdf: KdfChoice | None = None
        self.restored_with_force: bool | None = None
        self.closed_with_force: bool | None = None
        self.open_notices: tuple[str, ...] = ()
        self.tests: tuple[tuple[str, bool], ...] = (("aes-128", True), ("xts", True))
        self.slots = {0: "passphrase", 1: "recovery"}
        self.attempts = 0
        self.label = "plain"
        self.how: Unlocking | None = None
        self.asked: dict[str, object] = {}
        self.authentication = "verified"
        self.enrolment: Enrolment | None = Enrolment("signer", IDENTITY)
        self.identified = IdentityResult(**IDENTITY, genuine=False, version="0.1")  # type: ignore[arg-type]  # by name
        self.findings: tuple[Finding, ...] = (
            Finding("memfd_secret", "ok", "available", ""),
            Finding("ublk", "missing", "no module", "modprobe ublk_drv"),
        )

    def format_volume(
        self, request: FormatRequest, passphrase: PassphraseSource, report: Reporter
    ) -> FormatResult:
        passphrase.read("New passphrase: ", confirm=True).erase()
        report.progress("key derivation", 1, 2)
        report.progress("key derivation", 2, 2)
        if request.recovery_fd is not None:
            os.write(request.recovery_fd, RECOVERY_KEY)
        self._fail()
        self.formatted = request
        return FormatResult(
            image=str(request.image.path),
            uuid=UUID,
            cipher="aes-xts-plain64",
            key_bits=request.key_bits,
            sector_size_bytes=request.sector_size_bytes or 4096,
            data_offset_bytes=16 << 20,
            data_size_bytes=(request.size_bytes or 1 << 30) - (16 << 20),
            keyslots=(0,) if request.recovery_fd is None else (0, 1),
            recovery_keyslot=None if request.recovery_fd is None else 1,
            kdf={"algorithm": request.kdf.algorithm, "iterations": 4},
            factors=request.factors,
            enrolment=Enrolment(request.seal_policy, IDENTITY)
            if "enclave" in request.factors
            else None,
            epoch=1 if "enclave" in request.factors else 0,
        )

    def open_volume(
        self,
        request: OpenRequest,
        passphrase: PassphraseSource,
        report: Reporter,
        *,
        how: Unlocking,
    ) -> OpenResult:
        self.how = how
        self._must_exist(request.image)
        if request.name in self.opened:
            raise AlreadyOpenError(f"{request.name} is open already")
        self._unlock(passphrase)
        self._fail()
        for notice in self.open_notices:
            report.notice(notice)
        self.opened[request.name] = request
        return self._open_result(request)

    def serve_volume(
        self,
        request: OpenRequest,
        report: Reporter,
        *,
        wait_for_key: bool,
        key_command: tuple[str, ...] | None,
    ) -> int:
        del report
        assert (key_command is None) == wait_for_key
        self._must_exist(request.image)
        self._fail()
        self.served = (request, wait_for_key, key_command)
        return self.serve_code

    def set_key(
        self, name: str, passphrase: PassphraseSource, how: Unlocking, report: Reporter
    ) -> OpenResult:
        del report
        self.how = how
        request = self._request(name)
        self._unlock(passphrase)
        self._fail()
        return self._open_result(request)

    def close_volume(self, name: str, *, force: bool, report: Reporter) -> None:
        del report
        self._request(name)
        self._fail()
        self.closed_with_force = force
        del self.opened[name]

    def list_volumes(self, report: Reporter) -> tuple[ListedVolume, ...]:
        del report
        self._fail()
        return tuple(
            ListedVolume(name, str(request.image.path), "open", None, 11, 12)
            for name, request in self.opened.items()
        )

    def status(self, name: str, report: Reporter) -> StatusResult:
        del report
        request = self._request(name)
        self._fail()
        return StatusResult(
            name=name,
            image=str(request.image.path),
            state="open",
            problems=(),
            uuid=UUID,
            socket=f"/run/strongroom/{name}/nbd.sock",
            uri=f"nbd+unix:///?socket=/run/strongroom/{name}/nbd.sock",
            device=None,
            attach="none",
            read_only=request.read_only,
            discard=request.discard,
            direct=request.direct,
            host_pid=11,
            enclave_pid=12,
            size_bytes=1 << 30,
            sector_size_bytes=4096,
            cipher="aes-xts-plain64",
            cipher_backend="aes-ni",
            opened_at="2026-01-02T03:04:05Z",
            uptime_seconds=61.4,
            tee="process",
            simulated=True,
            identity=IDENTITY,
            transport="unix",
            authentication=self.authentication,
            enrolment=self.enrolment,
            epoch=7,
            confinement=(
                MeasureResult("seccomp", active=True, detail="42 calls allowed"),
                MeasureResult("landlock", active=False, detail="the kernel has none"),
            ),
            counters={"read_bytes": 4096, "errors": 0},
            rates={"read_bytes_per_second": 12.25},
        )

    def dump(
        self, image: ImageReference, report: Reporter, *, tee: TeeName
    ) -> Mapping[str, JsonValue]:
        del report
        self.asked = {"tee": tee}
        self._must_exist(image)
        self._fail()
        return {
            "uuid": UUID,
            "label": self.label,
            "keyslots": {"0": {"kind": "luks2", "key_bits": 512}},
            "requirements": [],
            "segments": [{"offset_bytes": 16777216, "encrypted": True}],
        }

    def list_keyslots(
        self, image: ImageReference, report: Reporter, *, tee: TeeName
    ) -> tuple[KeyslotResult, ...]:
        self._look(report, tee)
        self._must_exist(image)
        return tuple(self._keyslot(number) for number in sorted(self.slots))

    def add_keyslot(
        self,
        image: ImageReference,
        existing: PassphraseSource,
        new: PassphraseSource | None,
        report: Reporter,
        *,
        how: Unlocking,
        kdf: KdfChoice,
        factors: tuple[str, ...] | None,
        keyslot: int | None,
        recovery_fd: int | None,
    ) -> KeyslotResult:
        del report
        self._must_exist(image)
        self._unlock(existing)
        number = max(self.slots) + 1 if keyslot is None else keyslot
        if number in self.slots:
            raise KeyslotStateError(f"keyslot {number} is in use")
        assert (new is None) == (recovery_fd is not None)
        if new is not None:
            self.new_passphrase = new.read("New passphrase", confirm=True)
        elif recovery_fd is not None:
            os.write(recovery_fd, RECOVERY_KEY)
        self._fail()
        self.kdf, self.how, self.asked = kdf, how, {"factors": factors}
        self.slots[number] = "passphrase" if recovery_fd is None else "recovery"
        return self._keyslot(number)

    def change_keyslot(
        self,
        image: ImageReference,
        existing: PassphraseSource,
        new: PassphraseSource,
        report: Reporter,
        *,
        how: Unlocking,
        kdf: KdfChoice,
        keyslot: int | None,
    ) -> KeyslotResult:
        del report
        self._must_exist(image)
        self._unlock(existing)
        self.new_passphrase = new.read("New passphrase", confirm=True)
        self.kdf, self.how = kdf, how
        return self._keyslot(0 if keyslot is None else keyslot)

    def remove_keyslot(
        self,
        image: ImageReference,
        existing: PassphraseSource,
        report: Reporter,
        *,
        how: Unlocking,
        keyslot: int,
    ) -> None:
        del report
        self.how = how
        self._must_exist(image)
        self._unlock(existing)
        if len(self.slots) == 1:
            raise LastWayInError("keyslot 0 is the last way in")
        del self.slots[keyslot]

    def identity(
        self, report: Reporter, *, tee: TeeName, python: Path | None, expect: Path | None
    ) -> IdentityResult:
        del report
        self.asked = {"tee": tee, "python": python, "expect": expect}
        self._fail()
        if expect is not None and expect not in self.existing:
            raise IdentityError(f"the enclave is not the one of {expect}")
        return self.identified

    def forget(
        self,
        volume: str,
        report: Reporter,
        /,
        *,
        header: Path | None,
        tee: TeeName,
        everything: bool,
    ) -> ForgetResult:
        del report, header, tee
        if volume == "unknown.img":
            raise NotFoundError("nothing is known of it")
        enclave = Enrolment("signer", IDENTITY)
        return ForgetResult(UUID, f"/srv/{volume}", enclave, 4, epoch_kept=not everything)

    def reseal(
        self,
        image: ImageReference,
        passphrase: PassphraseSource,
        report: Reporter,
        *,
        how: Unlocking,
        policy: SealPolicy | None,
        successor: Path | None,
        adopt: bool,
    ) -> ResealResult:
        del report
        self._must_exist(image)
        self._unlock(passphrase)
        self._fail()
        self.how = how
        self.asked = {"policy": policy, "successor": successor, "adopt": adopt}
        before = Enrolment("signer", {**IDENTITY, "security_version": 2})
        return ResealResult(
            image=str(image.path),
            uuid=UUID,
            before=before,
            after=Enrolment(before.policy if policy is None else policy, IDENTITY),
            removed_keyslots=(0, 3) if adopt else (),
            epoch=8,
        )

    def backup_header(
        self, image: ImageReference, file: Path, report: Reporter, *, tee: TeeName
    ) -> Mapping[str, JsonValue]:
        self._look(report, tee)
        self._must_exist(image)
        return {"image": str(image.path), "file": str(file), "size_bytes": 16 << 20}

    def restore_header(
        self, image: ImageReference, file: Path, report: Reporter, *, tee: TeeName, force: bool
    ) -> Mapping[str, JsonValue]:
        self._look(report, tee)
        self._must_exist(image)
        self.restored_with_force = force
        return {"image": str(image.path), "file": str(file), "sequence": 9}

    def selftest(self, *, tee: TeeName) -> tuple[tuple[str, bool], ...]:
        self.asked = {"tee": tee}
        return self.tests

    def doctor(self, python: Path | None, report: Reporter) -> tuple[Finding, ...]:
        del report
        self.asked = {"python": python}
        return self.findings

    def _look(self, report: Reporter, tee: TeeName) -> None:
        self.asked = {"tee": tee}
        if self.authentication == "tampered":
            report.notice("the header was tampered with")

    def _fail(self) -> None:
        failure, self.fails_with = self.fails_with, None
        if failure is not None:
            raise failure

    def _must_exist(self, image: ImageReference) -> None:
        if image.path not in self.existing:
            raise NotFoundError(f"no such image: {image.path}")

    def _request(self, name: str) -> OpenRequest:
        assert NAME.fullmatch(name), "the command line let a bad name through"
        if name not in self.opened:
            raise NotOpenError(f"{name} is not open")
        return self.opened[name]

    def _unlock(self, passphrase: PassphraseSource) -> None:
        for _ in range(passphrase.attempts):
            self.attempts += 1
            if passphrase.read("Passphrase: ", confirm=False).equals(secret_of(self.passphrase)):
                return
        raise WrongPassphraseError("no keyslot opens with this passphrase")

    def _open_result(self, request: OpenRequest) -> OpenResult:
        return OpenResult(
            name=request.name,
            image=str(request.image.path),
            socket=f"/run/strongroom/{request.name}/nbd.sock",
            uri=f"nbd+unix:///?socket=/run/strongroom/{request.name}/nbd.sock",
            device=None,
            attach="none",
            attach_reason="asked for",
            read_only=request.read_only,
            host_pid=11,
            enclave_pid=12,
            size_bytes=1 << 30,
            sector_size_bytes=4096,
            keyslot=0,
            authenticated=self.enrolment is not None,
            epoch=0 if self.enrolment is None else 7,
            notices=self.open_notices,
        )

    def _keyslot(self, number: int) -> KeyslotResult:
        return KeyslotResult(
            keyslot=number,
            kind=self.slots[number],
            factors=() if self.slots[number] == "recovery" else ("enclave", "passphrase"),
            priority="normal",
            kdf={"algorithm": "argon2id", "iterations": 4, "memory_kib": 1024},
            cipher="aes-xts-plain64",
            key_bits=512,
            area_offset_bytes=32768 + number * 258048,
            area_size_bytes=258048,
        )

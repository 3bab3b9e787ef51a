# SPDX-License-Identifier: Apache-2.0
"""What this machine gives and lacks, each with what mends it.

The enclave's part is not guessed: an enclave is started and reports its own confinement.
"""

import os
import platform
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.boundary import calls
from strongroom.errors import StrongroomError, TeeError
from strongroom.host import promises, runtime
from strongroom.host.attach.stale import lost_mounts
from strongroom.host.contracts import Finding, Reporter
from strongroom.host.identity import CHALLENGE_BYTES
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.runtime.place import opened
from strongroom.host.silence import Silent
from strongroom.host.state import state_directory
from strongroom.host.tpm.address import DEFAULT_ADDRESS
from strongroom.host.tpm.record import record_path
from strongroom.host.upgrade import upgrade_findings
from strongroom.values import dataclass

_TOOLS: Final = (
    ("nbdfuse", "attaching by FUSE with --boundary stdio or tcp", "apt install libnbd-bin"),
    ("wipefs", "seeing what a target holds before formatting it", "apt install util-linux"),
    ("cryptsetup", "opening volumes without Strongroom", "apt install cryptsetup-bin"),
)


_SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Where root's programs are as well, which are not on everyone's path."""


def doctor(python: Path | None, report: Reporter) -> tuple[Finding, ...]:
    """Look at everything that Strongroom needs or can use here.

    Args:
        python: The interpreter of the next Strongroom: will it open the volumes of this one?
        report: Where is said what a crash had left.
    """
    runtime.sweep(report)
    looked = _look()
    return (
        *_enclave_findings(looked),
        *_attach_findings(),
        *_lost_findings(),
        _tpm_finding(),
        *_tool_findings(),
        *_place_findings(),
        *upgrade_findings(python),
        *_threats(looked),
    )


@dataclass(frozen=True, slots=True)
class _Enclave:
    """An enclave of this machine: what it says of itself, its tests, and what its keys lack."""

    description: calls.Description
    tests: tuple[calls.TestResult, ...]
    lack: TeeError | None


def _look() -> _Enclave | StrongroomError:
    """Start an enclave and ask it, or return why it does not start."""
    try:
        with launch(Silent(), look_only=True) as enclave:
            description = enclave.call(calls.Describe())
            tests = enclave.call(calls.RunSelftest()).results
            return _Enclave(description, tests, _lack_of_keys(enclave))
    except StrongroomError as err:
        return err


def _enclave_findings(looked: _Enclave | StrongroomError) -> Iterator[Finding]:
    if isinstance(looked, StrongroomError):
        yield Finding("enclave", "missing", f"does not start: {looked.message}", looked.hint)
        return
    own = looked.description.identity
    kind = "simulated, no hardware vouches for it" if own.simulated else "attested"
    yield Finding("enclave", "ok", f"starts; provider {own.tee} ({kind})", "")
    yield _identity_finding(looked.lack)
    failed = [test.name for test in looked.tests if not test.passed]
    if failed:
        yield Finding("self test", "missing", f"failed: {', '.join(failed)}", "do not use it here")
    else:
        yield Finding("self test", "ok", f"{len(looked.tests)} known-answer tests pass", "")
    for measure in looked.description.confinement:
        yield Finding(
            measure.name,
            "ok" if measure.active else "warning",
            measure.detail,
            "" if measure.active else _mend(measure, looked.description.confinement),
        )
    yield _cipher_finding(looked.description)


def _lack_of_keys(enclave: EnclaveProcess) -> TeeError | None:
    try:
        enclave.call(calls.ProveIdentity(bytes(CHALLENGE_BYTES)))
    except TeeError as err:
        return err
    return None


def _identity_finding(lack: TeeError | None) -> Finding:
    place = state_directory()
    if lack is None:
        return Finding("identity", "ok", f"that of this account, in {place}", "")
    if not (place / "process").exists():
        found = f"none yet: the first format, open or identity makes it in {place}"
        return Finding("identity", "ok", found, "")
    return Finding("identity", "missing", lack.message, lack.hint)


_USER_NAMESPACE: Final = "user namespace"
_MEND: Final = {
    _USER_NAMESPACE: "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=1024",
    "landlock": "boot with lsm=landlock,... on Linux 5.13 or newer",
    "secret memory": "use Linux 5.14 or newer (before 6.5: boot with secretmem.enable=1)",
}


def _mend(measure: calls.Confinement, others: tuple[calls.Confinement, ...]) -> str:
    lacking = {other.name for other in others if not other.active}
    if measure.name.endswith("namespace") and _USER_NAMESPACE in lacking:
        return _MEND[_USER_NAMESPACE]  # the others are made inside of it
    if "limit of locked memory" in measure.detail:
        return "ulimit -l 8192, or LimitMEMLOCK=8M in the unit"
    return _MEND.get(measure.name, "use a newer kernel")


def _cipher_finding(description: calls.Description) -> Finding:
    backend = description.cipher_backend
    if backend == "portable":
        return Finding(
            "AES",
            "warning",
            "no AES instructions: slow, and round keys pass through ordinary registers",
            "use a processor with AES-NI",
        )
    if promises.SECRET_MEMORY in promises.missing(description.confinement):
        found = f"{backend}, round keys in the same memory as all keys: see secret memory"
        return Finding("AES", "warning", found, "")
    return Finding("AES", "ok", f"{backend}, round keys only ever in secret memory", "")


def _attach_findings() -> Iterator[Finding]:
    yield _device_finding("/dev/fuse", "FUSE", _load("fuse"))
    yield _device_finding("/dev/loop-control", "loop devices", _load("loop"))
    if Path("/sys/module/nbd").exists() or Path("/dev/nbd0").exists():
        yield Finding("kernel nbd", "ok", "the kernel has an NBD client", "")
    else:
        found = "not loaded; FUSE is used instead"
        yield Finding("kernel nbd", "warning", found, _load("nbd"))


def _load(module: str) -> str:
    """Return how a kernel module is loaded here, as far as it can be."""
    if not Path("/lib/modules", platform.release()).exists():
        return f"its module {module} is not here: load it where the kernel was started, or build it"
    if shutil.which("modprobe", path=_SYSTEM_PATH) is None:
        return f"apt install kmod, then modprobe {module}"
    return f"modprobe {module}"


def _tpm_finding() -> Finding:
    device = Path(DEFAULT_ADDRESS.path)
    if not device.exists():
        return Finding(
            "TPM", "warning", f"there is no {device}", "enable the TPM in the firmware setup"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding("TPM", "warning", f"{device} is not accessible", "join the group tss")
    if not record_path().exists():
        return Finding("TPM", "warning", f"{device} is not enrolled", "strongroom tpm enrol")
    return Finding("TPM", "ok", f"{device} is there, and a TPM is enrolled", "")


def _lost_findings() -> Iterator[Finding]:
    for point in lost_mounts():
        yield Finding(
            "mount",
            "warning",
            f"the file system at {point} gives errors: its volume has ended",
            f"umount {shlex.quote(point)}",
        )


def _device_finding(path: str, what: str, mend: str) -> Finding:
    if not Path(path).exists():
        return Finding(what, "missing", f"{path} does not exist", mend)
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding(what, "missing", f"{path} is not accessible", "run as root")
    return Finding(what, "ok", f"{path} is accessible", "")


def _tool_findings() -> Iterator[Finding]:
    for tool, purpose, mend in _TOOLS:
        found = shutil.which(tool, path=_SYSTEM_PATH)
        if found:
            yield Finding(tool, "ok", found, "")
        else:
            yield Finding(tool, "warning", f"not installed; needed for {purpose}", mend)


def _place_findings() -> Iterator[Finding]:
    yield Finding("kernel", "ok", f"Linux {platform.release()} on {platform.machine()}", "")
    yield _runtime_finding()
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        yield Finding(
            "swap",
            "warning",
            "plaintext of files that programs hold in memory can be swapped out; keys cannot",
            "encrypt the swap, or swapoff -a",
        )


def _runtime_finding() -> Finding:
    try:
        place = runtime.root()
        with opened() as fd:
            # Before the first volume it is not there, and is made where it can be.
            there = next(path for path in (place, *place.parents) if path.exists())
    except StrongroomError as err:
        return Finding("runtime directory", "missing", err.message, err.hint)
    if os.access(there, os.W_OK):
        state = "can be made" if fd is None else "is writable, and by no other user"
        return Finding("runtime directory", "ok", f"{place} {state}", "")
    return Finding("runtime directory", "missing", f"{there} is not writable", "run as root")


def _threats(looked: _Enclave | StrongroomError) -> Iterator[Finding]:
    if isinstance(looked, StrongroomError):
        yield Finding("threats", "missing", "not known, as no enclave starts here", "")
        return
    lacking = promises.missing(looked.description.confinement)
    for row in promises.ROWS:
        outcome = row.on(lacking)
        name = f"threat: {row.attacker}"
        yield Finding(name, "warning" if "NOT" in outcome else "ok", outcome, "")

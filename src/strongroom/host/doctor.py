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
from strongroom.host import runtime
from strongroom.host.attach.stale import lost_mounts
from strongroom.host.contracts import Finding
from strongroom.host.identity import CHALLENGE_BYTES
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.runtime.place import opened
from strongroom.host.silence import Silent
from strongroom.host.state import state_directory
from strongroom.host.tpm.address import DEFAULT_ADDRESS
from strongroom.host.tpm.record import record_path
from strongroom.host.upgrade import upgrade_findings

_PROMISE: Final = (
    ("stolen disk, copied image", "safe"),
    ("other users, other processes", "safe"),
    ("root reading memory, core dumps, swap", "keys are not found"),
    ("root changing the enclave's code, or tracing it, at any time", "NOT SAFE"),
    ("copied image and stolen passphrase, another machine or another program", "safe"),
    ("malicious disk: null cipher, malformed header", "detected"),
    ("malicious disk: changed header", "detected"),
    ("malicious disk: old header", "detected on a machine that saw a newer one"),
    ("malicious disk: old sectors, changed sectors", "NOT DETECTED in this version"),
    (
        "the TPM's wire: reads, changes, replays, answers for it",
        "safe: nothing learned, nothing believed",
    ),
    ("another TPM, a cleared one", "detected"),
    ("cold boot, DMA", "NOT SAFE"),
)
"""The ``process`` column of ``spec/threat-model.md``; a test holds the two together."""

_TOOLS: Final = (
    ("nbdfuse", "attaching by FUSE with --boundary stdio or tcp", "apt install libnbd-bin"),
    ("wipefs", "seeing what a target holds before formatting it", "apt install util-linux"),
    ("cryptsetup", "opening volumes without Strongroom", "apt install cryptsetup-bin"),
)


_SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Where root's programs are as well, which are not on everyone's path."""


def doctor(python: Path | None) -> tuple[Finding, ...]:
    """Look at everything that Strongroom needs or can use here.

    Args:
        python: The interpreter of the next Strongroom: will it open the volumes of this one?
    """
    runtime.sweep()
    return (
        *_enclave_findings(),
        *_attach_findings(),
        *_lost_findings(),
        _tpm_finding(),
        *_tool_findings(),
        *_place_findings(),
        *upgrade_findings(python),
        *_promise(),
    )


def _enclave_findings() -> Iterator[Finding]:
    try:
        with launch(Silent(), look_only=True) as enclave:
            description = enclave.call(calls.Describe())
            tests = enclave.call(calls.RunSelftest()).results
            lack = _lack_of_keys(enclave)
    except StrongroomError as err:
        yield Finding("enclave", "missing", f"does not start: {err.message}", err.hint)
        return
    own = description.identity
    kind = "simulated, no hardware vouches for it" if own.simulated else "attested"
    yield Finding("enclave", "ok", f"starts; provider {own.tee} ({kind})", "")
    yield _identity_finding(lack)
    failed = [test.name for test in tests if not test.passed]
    if failed:
        yield Finding("self test", "missing", f"failed: {', '.join(failed)}", "do not use it here")
    else:
        yield Finding("self test", "ok", f"{len(tests)} known-answer tests pass", "")
    for measure in description.confinement:
        yield Finding(
            measure.name,
            "ok" if measure.active else "warning",
            measure.detail,
            "" if measure.active else _mend(measure, description.confinement),
        )
    yield _cipher_finding(description.cipher_backend)


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


def _cipher_finding(backend: str) -> Finding:
    if backend == "portable":
        return Finding(
            "AES",
            "warning",
            "no AES instructions: slow, and round keys pass through ordinary registers",
            "use a processor with AES-NI",
        )
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


def _promise() -> Iterator[Finding]:
    for attacker, outcome in _PROMISE:
        yield Finding(f"threat: {attacker}", "warning" if "NOT" in outcome else "ok", outcome, "")

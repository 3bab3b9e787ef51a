# SPDX-License-Identifier: Apache-2.0
"""Boot the guest, run one command in it, and return its output and exit status."""

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.guest.initramfs import build_initramfs
from tests.system.guest.kernel import GuestKernelMissingError, find_kernel

_QEMU = "qemu-system-x86_64"
_BUSYBOX = Path("/bin/busybox")
_PASSED_ON = ("PATH", "HOME", "LANG", "CI", "VIRTUAL_ENV", "PYTHONPATH")


class GuestError(Exception):
    """The guest did not run the command to its end; the message ends with its console."""


@dataclass(frozen=True, slots=True)
class GuestResult:
    """What the command did. ``output`` holds standard output and error, in order."""

    status: int
    output: str
    console: str


def require_guest() -> None:
    """Skip the test, or fail it in CI, when no guest can be booted here."""
    missing = _missing()
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def run_in_guest(
    command: list[str],
    *,
    modules: tuple[str, ...] = (),
    timeout: float = 300,
    memory_mib: int = 1024,
    environment: dict[str, str] | None = None,
) -> GuestResult:
    """Run ``command`` as root inside a fresh guest, in the caller's working directory.

    Args:
        command: Program and arguments, as the host's file system has them.
        modules: Kernel modules to load first, with all that they need.
        timeout: Seconds for boot and command together; then the guest is ended.
        memory_mib: The guest's memory, which also holds all that the command writes.
        environment: Variables to set besides those that are passed on from the host.

    Raises:
        GuestKernelMissingError: QEMU, busybox, the kernel or a module is missing.
        GuestError: The guest did not boot, crashed, or the time was up.
    """
    missing = _missing()
    if missing:
        raise GuestKernelMissingError(missing)
    kernel = find_kernel()
    with tempfile.TemporaryDirectory(prefix="strongroom-guest-") as name:
        directory = Path(name)
        exchange = directory / "exchange"
        exchange.mkdir()
        (exchange / "command").write_text(_script(command, environment or {}))
        (directory / "initramfs").write_bytes(build_initramfs(kernel, modules, _BUSYBOX))
        arguments = _arguments(directory, kernel.image, memory_mib)
        try:
            subprocess.run(arguments, check=True, timeout=timeout, stdin=subprocess.DEVNULL)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as err:
            raise GuestError(f"{err}\n{_tail(exchange / 'output')}\n{_console(directory)}") from err
        status = exchange / "status"
        if not status.exists():
            raise GuestError(f"the command did not end\n{_console(directory)}")
        output = (exchange / "output").read_text(errors="replace")
        return GuestResult(int(status.read_text()), output, _console(directory))


def _missing() -> str:
    if shutil.which(_QEMU) is None:
        return f"{_QEMU} is not installed: apt-get install qemu-system-x86"
    if not _BUSYBOX.exists():
        return "busybox is not installed: apt-get install busybox-static"
    try:
        find_kernel()
    except GuestKernelMissingError as err:
        return str(err)
    return ""


def _arguments(directory: Path, image: Path, memory_mib: int) -> list[str]:
    share = "security_model=none,multidevs=remap"
    return [
        *(_QEMU, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2"),
        *("-m", str(memory_mib), "-nodefaults", "-no-user-config", "-no-reboot", "-nographic"),
        *("-kernel", str(image), "-initrd", str(directory / "initramfs")),
        *("-append", "console=ttyS0 panic=-1 oops=panic loglevel=5 mitigations=off"),
        *("-serial", f"file:{directory / 'console'}"),
        *("-virtfs", f"local,path=/,mount_tag=host,readonly=on,{share}"),
        *("-virtfs", f"local,path={directory / 'exchange'},mount_tag=exchange,{share}"),
    ]


def _script(command: list[str], environment: dict[str, str]) -> str:
    variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | environment
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return f"{exports}cd {shlex.quote(str(Path.cwd()))} || exit 125\nexec {shlex.join(command)}\n"


def _console(directory: Path) -> str:
    return _tail(directory / "console")


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-8000:] if path.exists() else f"(no {path.name})"

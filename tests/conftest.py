# SPDX-License-Identifier: Apache-2.0
"""What every test may ask for: tools, rights, and a Strongroom of its own."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from strongroom._override import override
from tests.harness import Operator

_OF_THE_MACHINE: Final = (
    "tests/system/",
    "tests/hostile/bad_input/test_machine.py",
    "tests/hostile/confinement/test_break_out.py",
    "tests/hostile/confinement/test_measures.py",
    "tests/unit/tee/test_gramine.py",
)
"""Tests that mount, or keep a mount namespace for a while."""
_OF_A_TPM: Final = "tests/system/tpm/"
"""Each has a TPM of its own."""
_OF_A_GUEST: Final = "tests/system/tpm/test_device_in_guest.py"
"""But a machine that is emulated needs this one to itself."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the tests independent of who starts them.

    ``nohup`` and ``&`` start programs with signals ignored, for good. Strongroom honours that, so
    tests started in the background would test something else. And of several workers, each has a
    directory of its own: its name is part of the paths of sockets, which hold 107 bytes. How long
    one generated example takes says more about who else is at work.
    """
    settings.register_profile("strongroom", deadline=None)
    settings.load_profile("strongroom")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        own = Path(config.option.basetemp)
        config.option.basetemp = str(own.with_name(own.name.replace("popen-gw", "w")))


class SideBySide(LoadScopeScheduling):  # type: ignore[misc] # the plugin has no types
    """Keeps together what must not run side by side: a file, and all that changes the machine.

    Who mounts a file system, and who makes a mount namespace, which begins with a copy of all
    mounts, would find each other's device in use.
    """

    @override
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        is_apart = path.startswith(_OF_A_TPM) and path != _OF_A_GUEST
        return "machine" if path.startswith(_OF_THE_MACHINE) and not is_apart else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide:
    """Share the tests out between workers."""
    return SideBySide(config, log)


def in_ci() -> bool:
    """Tell whether a missing prerequisite must fail instead of skip."""
    return os.environ.get("CI", "") not in ("", "0", "false")


def require(*, condition: bool, reason: str) -> None:
    """Skip with a reason on a developer's machine, fail in CI."""
    if condition:
        return
    if in_ci():
        pytest.fail(f"missing in CI: {reason}")
    pytest.skip(reason)


def require_tools(*names: str) -> None:
    """Require programs on PATH or in the system directories."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in names if shutil.which(name, path=path) is None]
    require(condition=not missing, reason=f"not installed: {', '.join(missing)}")


def require_root() -> None:
    """Require root."""
    require(condition=os.geteuid() == 0, reason="needs root")


def require_fuse() -> None:
    """Require FUSE and loop devices."""
    require_root()
    require(
        condition=Path("/dev/fuse").exists() and Path("/dev/loop-control").exists(),
        reason="no /dev/fuse or no /dev/loop-control",
    )


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The machine's part of every enclave, apart from that of the machine that tests."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRONGROOM_STATE_DIR", str(state))
        yield state


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator with a runtime directory of its own."""
    return Operator(tmp_path)

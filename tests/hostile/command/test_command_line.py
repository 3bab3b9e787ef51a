# SPDX-License-Identifier: Apache-2.0
"""The process that reads a passphrase: who may look into it, and what gets into it.

The attacker is another program of the same user. Here both are root without any capability, which
the kernel's rules for tracing treat as any other user.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import CancelledError
from tests.conftest import require_root, require_tools
from tests.harness import STRONGROOM, SYSTEM_PATH, Operator
from tests.system.crash.remains import await_true, descendants

pytestmark = pytest.mark.hostile

ORDINARY: Final = (
    *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"),
    "--no-new-privs",
)
TRACE: Final = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
seized = libc.ptrace(ctypes.c_long(0x4206), int(sys.argv[1]), None, None) == 0
try:
    open(f"/proc/{sys.argv[1]}/mem", "rb").close()
    read = True
except PermissionError:
    read = False
print(seized, read)
"""
"""Try PTRACE_SEIZE and to open the memory of a process."""
MARKING: Final = 'open({mark!r}, "a").write("ran")\n'
EARLY_MILLISECONDS: Final = (0, 5, 10, 15, 20, 30, 40, 60, 80, 100, 120, 150)


def environment(operator: Operator, **more: str) -> dict[str, str]:
    own = {"PATH": SYSTEM_PATH, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)}
    return {**os.environ, **own, **more}


def attack(pid: int) -> str:
    """Return what an ordinary process of the same user gets of another: traced, memory opened."""
    command = [*ORDINARY, sys.executable, "-I", "-c", TRACE, str(pid)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def limits(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Max core file size")]
    return line.split()[4:6]


def is_waiting(pid: int) -> bool:
    """Tell whether a command line waits for what it is to read."""
    return "poll" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.fixture
def image(operator: Operator) -> Path:
    require_root()
    require_tools("setpriv")
    operator.format(operator.place / "image")
    return operator.place / "image"


@pytest.fixture
def waiting(operator: Operator, image: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that waits for the passphrase on standard input."""
    new = ("--new-passphrase-file", operator.passphrase_file)
    with subprocess.Popen(
        [*ORDINARY, STRONGROOM, "slot", "add", image, "--passphrase-file", "-", *new],
        stdin=subprocess.PIPE,
        env=environment(operator),
    ) as command:
        try:
            await_true(lambda: is_waiting(command.pid), "waiting for the passphrase")
            yield command
        finally:
            command.kill()


def test_the_attack_succeeds_on_another_program(image: Path) -> None:
    del image
    with subprocess.Popen([*ORDINARY, "sleep", "60"]) as victim:
        await_true(lambda: b"sleep" in Path(f"/proc/{victim.pid}/comm").read_bytes(), "starting")
        try:
            assert attack(victim.pid) == "True True"
        finally:
            victim.kill()


def test_a_command_that_reads_a_passphrase_cannot_be_traced(
    waiting: subprocess.Popen[bytes],
) -> None:
    assert attack(waiting.pid) == "False False"
    assert limits(waiting.pid) == ["0", "0"]


def test_nor_the_one_that_reads_it_for_serve(operator: Operator, image: Path) -> None:
    options = ("--attach", "none", "--passphrase-file", "-")
    with subprocess.Popen(
        [*ORDINARY, STRONGROOM, "serve", image, "traced", *options],
        stdin=subprocess.PIPE,
        env=environment(operator),
    ) as serve:
        try:
            await_true(lambda: len(setkeys(serve.pid)) == 1, "asking for the passphrase")
            (reader,) = setkeys(serve.pid)
            await_true(lambda: is_waiting(reader), "waiting for the passphrase")
            assert attack(reader) == "False False"
            assert limits(reader) == limits(serve.pid) == ["0", "0"]
        finally:
            serve.terminate()


def setkeys(pid: int) -> list[int]:
    return [child.pid for child in descendants(pid) if "setkey" in child.command]


# --- what gets into it ---------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path]:
    """A directory of modules that tell when they are loaded, and the file in which they do."""
    mark, place = tmp_path / "mark", tmp_path / "modules"
    (place / "strongroom").mkdir(parents=True)
    code = MARKING.format(mark=str(mark))
    for name in ("click", "rich", "json", "sitecustomize", "usercustomize", "startup"):
        (place / f"{name}.py").write_text(code)
    (place / "strongroom" / "__init__.py").write_text(code)
    return place, mark


def python_variables(place: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(place),
        "PYTHONSTARTUP": str(place / "startup.py"),
        "PYTHONHOME": str(place),
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(place),
    }


def test_no_variable_of_pythons_reaches_the_command(
    operator: Operator, planted: tuple[Path, Path]
) -> None:
    place, mark = planted
    more = {"PYTHONPATH": str(place)}
    control = [sys.executable, "-c", "import click"]
    subprocess.run(control, env=environment(operator, **more), check=True)
    assert mark.exists()
    mark.unlink()
    subprocess.run(
        [STRONGROOM, "list"], env=environment(operator, **python_variables(place)), check=True
    )
    assert not mark.exists()


def test_python_m_starts_itself_again_without_them(
    operator: Operator, planted: tuple[Path, Path]
) -> None:
    """What chooses ``strongroom`` itself, or runs before any module, is beyond its reach."""
    place, mark = planted
    for name in ("sitecustomize.py", "usercustomize.py", "strongroom/__init__.py"):
        (place / name).unlink()
    (place / "strongroom").rmdir()
    command = [sys.executable, "-m", "strongroom", "list"]
    more = environment(operator, PYTHONPATH=str(place))
    subprocess.run(command, env=more, cwd=place, check=True)
    assert not mark.exists()


@pytest.mark.parametrize("relative", [False, True])
def test_a_link_to_the_program_runs_it(
    operator: Operator, tmp_path: Path, *, relative: bool
) -> None:
    link = tmp_path / "linked"
    link.symlink_to(os.path.relpath(STRONGROOM, tmp_path) if relative else STRONGROOM)
    operator.run(link, "--version")


# --- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", EARLY_MILLISECONDS)
def test_an_early_interrupt_shows_no_traceback(operator: Operator, after: int) -> None:
    with subprocess.Popen(
        [STRONGROOM, "selftest"],
        env=environment(operator),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as command:
        time.sleep(after / 1000)
        os.killpg(command.pid, signal.SIGINT)
        errors = command.communicate(timeout=60)[1].decode()
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors
    assert command.returncode in {0, -signal.SIGINT, CancelledError.exit_code}, errors


def test_a_command_in_the_background_ignores_interrupts(operator: Operator, image: Path) -> None:
    """As ``nohup`` and ``&`` ask for."""
    ignoring = ("sh", "-c", 'trap "" INT; exec "$0" "$@"')
    new = ("--new-passphrase-file", operator.passphrase_file)
    with subprocess.Popen(
        [*ignoring, STRONGROOM, "slot", "add", image, "--passphrase-file", "-", *new],
        stdin=subprocess.PIPE,
        env=environment(operator),
    ) as command:
        try:
            await_true(lambda: is_waiting(command.pid), "waiting for the passphrase")
            command.send_signal(signal.SIGINT)
            time.sleep(0.2)
            assert command.poll() is None
        finally:
            command.kill()

# SPDX-License-Identifier: Apache-2.0
"""The promise about root and memory: true where it is printed, and not printed where it is not.

Tried on this kernel, on this kernel without ``memfd_secret``, and on Debian 12's stock kernel.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.conftest import require_root, require_tools
from tests.hostile.memory.root_reads import FACTS
from tests.system.guest import require_guest, run_in_guest

pytestmark = pytest.mark.hostile

ROOT: Final = Path(__file__).parents[3]
GUEST_SECONDS: Final = 900
PROGRAM: Final = (sys.executable, "-m", "tests.hostile.memory.root_reads")
MEMORY: Final = "threat: root reading memory, core dumps, swap"
SENTENCE: Final = "root finds the keys in the enclave's memory"
Facts: TypeAlias = dict[str, Any]


def here(tmp_path: Path) -> Facts:
    """Look on this kernel."""
    return facts_of(run((*PROGRAM, str(tmp_path))))


def without_calls(tmp_path: Path) -> Facts:
    """Look on this kernel with ``memfd_secret`` refused, and all else that confines."""
    wrapper = ROOT / "tests" / "system" / "transports" / "without_calls.py"
    return facts_of(run((*PROGRAM, str(tmp_path), sys.executable, "-I", str(wrapper))))


def stock_kernel(tmp_path: Path) -> Facts:
    """Look on the stock kernel of Debian 12, in a guest."""
    del tmp_path
    require_guest()
    result = run_in_guest(
        ["sh", "-c", f"mkdir /run/look && {' '.join(PROGRAM)} /run/look"],
        modules=("loop", "fuse"),
        timeout=GUEST_SECONDS,
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    )
    assert result.status == 0, result.output + result.console
    return facts_of(result.output)


def run(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=GUEST_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def facts_of(output: str) -> Facts:
    line = next(line for line in output.splitlines() if line.startswith(FACTS))
    found: Facts = json.loads(line.removeprefix(FACTS))
    return found


@pytest.mark.parametrize(
    "look",
    [
        here,
        without_calls,
        pytest.param(
            stock_kernel, marks=[pytest.mark.slow, pytest.mark.timeout(GUEST_SECONDS + 60)]
        ),
    ],
)
def test_what_root_finds_is_what_is_said(tmp_path: Path, look: Callable[[Path], Facts]) -> None:
    require_root()
    require_tools("cryptsetup")
    facts = look(tmp_path)
    print(facts["kernel"], facts["found"], facts["doctor"][MEMORY])
    is_secret = facts["levels"]["secret memory"] == "ok"
    assert facts["found"] == [not is_secret] * 2
    if is_secret:
        assert facts["doctor"][MEMORY] == "keys are not found"
        assert facts["levels"][MEMORY] == facts["levels"]["AES"] == "ok"
    else:
        assert facts["doctor"][MEMORY].startswith("NOT SAFE here")
        assert facts["levels"][MEMORY] == facts["levels"]["AES"] == "warning"
        assert "secret memory" not in facts["doctor"]["AES"].partition(": see")[0]
    for command in ("format", "open"):
        said = [note for note in facts[command] if SENTENCE in note]
        assert len(said) == (0 if is_secret else 1), (command, facts[command])
    if look is not here:
        assert not is_secret, "this kernel is one without secret memory"
    others = "threat: other users, other processes"
    assert facts["doctor"][others].startswith("NOT SAFE" if look is without_calls else "safe")
    named = [note for note in facts["open"] if "measures of confinement are missing" in note]
    assert len(named) == (0 if is_secret else 1)

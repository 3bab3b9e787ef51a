# SPDX-License-Identifier: Apache-2.0
"""The installed ``strongroom`` does what the transcripts of this folder show."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.transcript import check, matches, read_transcript, replay
from tests.conftest import require

pytestmark = pytest.mark.interop

PROGRAM = Path(sys.executable).parent / "strongroom"
TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.fixture(scope="module")
def program() -> Path:
    """Return the installed program, which must be able to import the core."""
    require(condition=PROGRAM.exists(), reason=f"{PROGRAM.name} is not installed: make setup")
    core = subprocess.run(
        [sys.executable, "-c", "import strongroom._core"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    require(condition=core.returncode == 0, reason=f"the core is not built: {core.stderr[-200:]}")
    return PROGRAM


@pytest.fixture
def environment(program: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return an environment of its own, in which nothing is open at the end."""
    for folder in ("work", "run", "state"):
        (tmp_path / folder).mkdir()
    values = {
        "PATH": f"{program.parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "STRONGROOM_RUNTIME_DIR": str(tmp_path / "run"),
        "STRONGROOM_STATE_DIR": str(tmp_path / "state"),
    }
    yield values
    listed = subprocess.run(
        [program, "list", "--json"], env=values, check=True, capture_output=True, timeout=60
    )
    for volume in json.loads(listed.stdout):
        subprocess.run(
            [program, "close", "--force", volume["name"]], env=values, check=True, timeout=60
        )


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    for step in read_transcript(transcript.read_text(encoding="utf-8")):
        check(step, replay(step, tmp_path / "work", environment))


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 8


@pytest.mark.parametrize(
    ("expected", "text", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a", "b"], "a\n", False),
        (["a...c"], "abbc\n", True),
        (["a...c"], "ab\nc\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["(a)"], "a\n", False),
        ([], "", True),
        ([], "a\n", False),
    ],
)
def test_the_comparison_can_fail(expected: list[str], text: str, *, same: bool) -> None:
    assert matches(expected, text) is same

# SPDX-License-Identifier: Apache-2.0
"""The recovery key reaches a new file or the terminal, and only if the volume exists."""

import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.cli import recovery
from strongroom.errors import DiskError
from tests.fakes.host_volumes import RECOVERY_KEY, FakeVolumes
from tests.unit.cli.conftest import Run

pytestmark = pytest.mark.unit


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the far side of a terminal."""
    side, line = os.openpty()
    monkeypatch.setattr(recovery, "TERMINAL", os.ttyname(line))
    yield side
    os.close(side)
    os.close(line)


def shown_on(screen: int) -> bytes:
    text = b""
    while select.select([screen], [], [], 0.05)[0]:
        text += os.read(screen, 4096)
    return text.replace(b"\r\n", b"\n")


def test_a_file_is_private_and_holds_the_key(
    run: Run, passphrase_file: str, tmp_path: Path
) -> None:
    previous = os.umask(0)
    try:
        outcome = run(
            *("format", "x", "--recovery-key-file", "key", "--passphrase-file", passphrase_file)
        )
    finally:
        os.umask(previous)
    assert outcome.code == 0, outcome.err
    key = tmp_path / "key"
    assert key.read_bytes() == RECOVERY_KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert RECOVERY_KEY.decode().strip() not in outcome.out + outcome.err


@pytest.mark.parametrize("link", [False, True])
def test_an_existing_file_is_never_overwritten(  # noqa: PLR0917 - fixtures
    run: Run,
    volumes: FakeVolumes,
    passphrase_file: str,
    tmp_path: Path,
    link: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"precious")
    if link:
        (tmp_path / "key").symlink_to(tmp_path / "new")
    else:
        old.rename(tmp_path / "key")
    outcome = run(
        *("format", "x", "--recovery-key-file", "key", "--passphrase-file", passphrase_file),
        "--force",
    )
    assert outcome.code == 2
    assert "the recovery key file exists: key" in outcome.err
    assert volumes.formatted is None
    assert not (tmp_path / "new").exists()
    assert link or (tmp_path / "key").read_bytes() == b"precious"


@pytest.mark.parametrize("failure", [DiskError("broken"), KeyboardInterrupt()])
def test_the_file_goes_when_the_format_fails(  # noqa: PLR0917 - fixtures
    run: Run, volumes: FakeVolumes, passphrase_file: str, tmp_path: Path, failure: BaseException
) -> None:
    volumes.fails_with = failure
    outcome = run(
        *("format", "x", "--recovery-key-file", "key", "--passphrase-file", passphrase_file)
    )
    assert outcome.code in {51, 130}
    assert not (tmp_path / "key").exists()


def test_a_missing_directory_is_not_found(run: Run, passphrase_file: str) -> None:
    outcome = run(
        *("format", "x", "--recovery-key-file", "no/key", "--passphrase-file", passphrase_file)
    )
    assert outcome.code == 3


def test_the_terminal_shows_the_key_below_its_instructions(
    run: Run, passphrase_file: str, screen: int
) -> None:
    outcome = run("format", "x", "--passphrase-file", passphrase_file, "--json")
    assert outcome.code == 0, outcome.err
    before, instructions, after = shown_on(screen).partition(b"\nThis is the recovery key.")
    assert before.endswith(b"have pen and paper.\n")
    assert instructions
    assert after.endswith(b"it is not shown again.\n\n    " + RECOVERY_KEY + b"\n")
    assert RECOVERY_KEY.decode().strip() not in outcome.out + outcome.err


def test_the_terminal_shows_no_key_of_a_volume_that_failed(
    run: Run, volumes: FakeVolumes, passphrase_file: str, screen: int
) -> None:
    volumes.fails_with = DiskError("broken")
    assert run("format", "x", "--passphrase-file", passphrase_file).code == 51
    assert RECOVERY_KEY.strip() not in shown_on(screen)


def test_neither_terminal_nor_file_is_refused_before_anything_is_asked(
    run: Run, volumes: FakeVolumes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recovery, "TERMINAL", str(tmp_path / "no-terminal"))
    outcome = run("format", "x", "--passphrase-file", "does-not-exist")
    assert outcome.code == 2
    assert "--recovery-key-file FILE, or --no-recovery" in outcome.err
    assert volumes.formatted is None


def test_a_recovery_key_can_be_added(
    run: Run, volumes: FakeVolumes, passphrase_file: str, tmp_path: Path
) -> None:
    outcome = run(
        *("slot", "add", "vault.img", "--recovery", "--recovery-key-file", "key"),
        *("--passphrase-file", passphrase_file),
    )
    assert outcome.code == 0, outcome.err
    assert volumes.slots[2] == "recovery"
    assert (tmp_path / "key").read_bytes() == RECOVERY_KEY

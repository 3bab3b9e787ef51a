# SPDX-License-Identifier: Apache-2.0
"""A header that its operator puts back: refused when older, unless the operator insists."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.hostile.enrolled.scene import both_resummed, rewritten, tree_of

pytestmark = pytest.mark.system

BOTH_COPIES: Final = 32 << 10


@pytest.fixture
def volume(operator: Operator, tmp_path: Path) -> Path:
    """A volume at epoch 2 whose backup is of epoch 1."""
    image = tmp_path / "volume.img"
    operator.format(image, size="20M")
    operator.strongroom("header", "backup", image, tmp_path / "backup")
    shutil.copy(image, tmp_path / "older.img")
    new = tmp_path / "new"
    new.write_text("another passphrase")
    key = ("--passphrase-file", operator.passphrase_file, "--new-passphrase-file", new)
    operator.strongroom("slot", "add", image, *key, *CHEAP_KDF)
    return image


def test_an_older_backup_comes_back_only_by_force(volume: Path, operator: Operator) -> None:
    backup = volume.parent / "backup"
    refused = operator.strongroom("header", "restore", volume, backup, check=False)
    assert refused.returncode == 20
    operator.strongroom("header", "restore", volume, backup, "--force")
    with operator.opened(volume, "restored") as opened:
        assert (opened["authenticated"], opened["epoch"]) == (True, 1)


def test_an_older_image_is_refused_and_a_forced_restore_settles_it(
    volume: Path, operator: Operator
) -> None:
    older = volume.parent / "older.img"
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    refused = operator.strongroom("open", older, "older", *key, check=False)
    assert refused.returncode == 20
    assert "epoch 1" in refused.stderr
    assert "epoch 2" in refused.stderr
    operator.strongroom("header", "restore", older, volume.parent / "backup", "--force")
    with operator.opened(older, "older") as opened:
        assert opened["epoch"] == 1


@pytest.mark.parametrize("what", ["ext4", "dos"])
def test_what_lies_in_a_wrong_target_is_not_overwritten(
    what: str, volume: Path, operator: Operator
) -> None:
    wrong = volume.parent / "wrong"
    with wrong.open("wb") as file:
        file.truncate(64 << 20)
    if what == "ext4":
        require_tools("mkfs.ext4")
        operator.run("mkfs.ext4", "-q", wrong)
    else:
        require_tools("sfdisk")
        operator.run("sfdisk", "-q", wrong, stdin="label: dos\n,\n")
    before = wrong.read_bytes()
    restoring = ("header", "restore", wrong, volume.parent / "backup")
    refused = operator.strongroom(*restoring, check=False)
    assert (refused.returncode, f"holds {what}" in refused.stderr) == (41, True), refused.stderr
    assert "--force puts the backup back" in refused.stderr
    assert wrong.read_bytes() == before
    operator.strongroom(*restoring, "--force")
    assert wrong.read_bytes()[:4] == b"LUKS"


def test_a_header_that_a_file_system_overwrote_comes_back(volume: Path, operator: Operator) -> None:
    require_tools("mkfs.ext4")
    operator.strongroom("header", "backup", volume, volume.parent / "newest")
    operator.run("mkfs.ext4", "-q", "-F", volume)
    operator.strongroom("header", "restore", volume, volume.parent / "newest", "--force")
    with operator.opened(volume, "overwritten") as opened:
        assert opened["authenticated"]


def wipe(image: Path) -> None:
    """Leave no header."""
    with image.open("r+b") as file:
        file.write(bytes(BOTH_COPIES))


def spoil_token(image: Path) -> None:
    """Give the token an epoch that no token has, and the header a right checksum."""
    whole = image.read_bytes()
    tree = tree_of(whole)
    token = next(value for value in tree["tokens"].values() if value["type"] == "strongroom")
    token["epoch"] = 0
    image.write_bytes(rewritten(whole, tree))


@pytest.mark.parametrize("damage", [wipe, spoil_token])
def test_what_was_seen_here_outlives_the_header(
    volume: Path, operator: Operator, damage: Callable[[Path], None]
) -> None:
    operator.strongroom("header", "backup", volume, volume.parent / "newer")
    damage(volume)
    damaged = volume.read_bytes()
    refused = operator.strongroom(
        "header", "restore", volume, volume.parent / "backup", check=False
    )
    assert refused.returncode == 20, refused.stderr
    assert "of epoch 1" in refused.stderr
    assert "epoch 2 was seen" in refused.stderr
    assert volume.read_bytes() == damaged
    operator.strongroom("header", "restore", volume, volume.parent / "newer")
    with operator.opened(volume, "restored") as opened:
        assert opened["epoch"] == 2


def claim_to_be_newer(image: Path) -> None:
    """Write a header that whoever has the disk can write: of a far epoch, with no right code."""
    whole = image.read_bytes()
    tree = tree_of(whole)
    token = next(value for value in tree["tokens"].values() if value["type"] == "strongroom")
    token["epoch"] = 1000
    forged = bytearray(rewritten(whole, tree))
    for copy in (0, BOTH_COPIES // 2):
        forged[copy + 16 : copy + 24] = (1000).to_bytes(8, "big")
    image.write_bytes(both_resummed(bytes(forged)))


def test_what_a_forged_header_says_of_its_age_does_not_stop_the_restore(
    volume: Path, operator: Operator
) -> None:
    operator.strongroom("header", "backup", volume, volume.parent / "newer")
    claim_to_be_newer(volume)
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    assert operator.strongroom("open", volume, "v", *key, check=False).returncode == 21
    # What was seen here still decides.
    older = operator.strongroom("header", "restore", volume, volume.parent / "backup", check=False)
    assert older.returncode == 20
    assert "epoch 2 was seen here" in older.stderr
    operator.strongroom("header", "restore", volume, volume.parent / "newer")
    with operator.opened(volume, "restored") as opened:
        assert opened["epoch"] == 2


def test_a_forged_header_is_not_replaced_by_that_of_another_volume(
    volume: Path, operator: Operator
) -> None:
    foreign = volume.parent / "foreign.img"
    operator.format(foreign, size="20M")
    operator.strongroom("header", "backup", foreign, volume.parent / "foreign")
    claim_to_be_newer(volume)
    before = volume.read_bytes()
    refused = operator.strongroom(
        "header", "restore", volume, volume.parent / "foreign", check=False
    )
    assert refused.returncode == 20
    assert volume.read_bytes() == before


def test_force_is_remembered(volume: Path, operator: Operator) -> None:
    wipe(volume)
    operator.strongroom("header", "restore", volume, volume.parent / "backup", "--force")
    with operator.opened(volume, "restored") as opened:
        assert opened["epoch"] == 1


def test_a_header_without_codes_does_not_take_the_place_of_one(
    volume: Path, operator: Operator
) -> None:
    whole = volume.read_bytes()
    tree = tree_of(whole)
    tree["tokens"] = {}
    stripped = volume.parent / "stripped.img"
    stripped.write_bytes(rewritten(whole, tree))
    operator.strongroom("header", "backup", stripped, volume.parent / "stripped")
    wipe(volume)
    refused = operator.strongroom(
        "header", "restore", volume, volume.parent / "stripped", check=False
    )
    assert refused.returncode == 20, refused.stderr
    assert "no authentication" in refused.stderr


def test_a_machine_that_never_saw_the_volume_restores_it(
    volume: Path, operator: Operator, tmp_path: Path
) -> None:
    stranger = Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(tmp_path / "other")})
    wipe(volume)
    restored = stranger.facts("header", "restore", volume, volume.parent / "backup")
    assert restored["uuid"] == operator.facts("dump", volume)["uuid"]


def test_a_malformed_token_says_what_mends_it(volume: Path, operator: Operator) -> None:
    spoil_token(volume)
    key = ("--attach", "none", "--passphrase-file", operator.passphrase_file)
    refused = operator.strongroom("open", volume, "v", *key, "--json", check=False)
    assert refused.returncode == 10, refused.stderr
    assert "backup of the header" in refused.stdout


def strip(image: Path) -> None:
    """Take the token out."""
    whole = image.read_bytes()
    tree = tree_of(whole)
    tree["tokens"] = {}
    image.write_bytes(rewritten(whole, tree))


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        (lambda image: shutil.copy(image.parent / "older.img", image), "older", "epoch 1, and"),
        (strip, "bare", "it has no authentication, and had"),
    ],
    ids=["older", "bare"],
)
def test_a_header_from_before_is_shown_as_one(
    volume: Path, operator: Operator, *, change: Callable[[Path], None], state: str, words: str
) -> None:
    assert operator.facts("dump", volume)["authentication"]["state"] == "verified"
    change(volume)
    shown = operator.facts("dump", volume)["authentication"]
    assert shown["state"] == state
    assert words in shown["findings"][-1]
    listed = operator.strongroom("slot", "list", volume)
    assert f"the header is not the one that was last seen: {shown['findings'][-1]}" in listed.stderr
    saved = operator.strongroom("header", "backup", volume, volume.parent / "copy", "--json")
    assert words in saved.stderr
    assert json.loads(saved.stdout)["authentication"] == shown


def relabel(image: Path) -> None:
    """Change a label as its owner could: what another program may do."""
    whole = bytearray(image.read_bytes())
    for copy in (0, BOTH_COPIES // 2):
        whole[copy + 24 : copy + 30] = b"label\0"
    image.write_bytes(both_resummed(bytes(whole)))


def move_data(image: Path) -> None:
    """Let every sector decrypt with another IV."""
    whole = image.read_bytes()
    tree = tree_of(whole)
    tree["segments"]["0"]["iv_tweak"] = "8"
    image.write_bytes(rewritten(whole, tree))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabel, ("changed", "another program changed the header")),
        (move_data, ("tampered", "the header was tampered with")),
    ],
)
def test_a_header_that_was_changed_is_shown_with_a_warning(
    volume: Path, operator: Operator, change: Callable[[Path], None], said: tuple[str, str]
) -> None:
    (state, words), copy = said, volume.parent / "copy"
    sound = operator.strongroom("slot", "list", volume)
    assert sound.stderr == ""
    change(volume)
    listed = operator.strongroom("slot", "list", volume, "--json")
    assert words in listed.stderr
    assert len(json.loads(listed.stdout)) == 2
    saved = operator.strongroom("header", "backup", volume, copy, "--json")
    assert words in saved.stderr
    authentication = json.loads(saved.stdout)["authentication"]
    assert authentication["state"] == state
    assert authentication["findings"]
    restored = operator.strongroom("header", "restore", volume, copy, check=False)
    assert restored.returncode == (21 if state == "tampered" else 0)

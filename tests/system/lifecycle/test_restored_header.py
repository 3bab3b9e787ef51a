# SPDX-License-Identifier: Apache-2.0
"""A header that its operator puts back: refused when older, unless the operator insists."""

import shutil
from pathlib import Path

import pytest

from tests.harness import CHEAP_KDF, Operator

pytestmark = pytest.mark.system


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

# SPDX-License-Identifier: Apache-2.0
"""Key files whose last byte is a newline, as one random file in 256, in both directions."""

from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import WrongPassphraseError
from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, STOCK, Operator

pytestmark = pytest.mark.interop

KEY: Final = b"k" * 31 + b"\n"
PBKDF2: Final = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    require_tools("cryptsetup")
    file = tmp_path / "kf"
    file.write_bytes(KEY)
    return file


def stock_opens(operator: Operator, image: Path, key: Path) -> bool:
    command = ("cryptsetup", "open", "--test-passphrase", "--key-file", key, image)
    return operator.run(*command, check=False).returncode == 0


def test_a_volume_of_theirs_opens_with_the_same_file(
    operator: Operator, tmp_path: Path, key: Path
) -> None:
    image = tmp_path / "theirs.img"
    with image.open("wb") as file:
        file.truncate(20 << 20)
    operator.run("cryptsetup", "luksFormat", "-q", *PBKDF2, "--key-file", key, image)
    opened = ("open", image, "keyfile", "--attach", "none", "--key-file", key)
    first = operator.strongroom(*opened)
    operator.close("keyfile")
    assert "first use of this volume here: it is sealed to no enclave" in first.stderr
    assert "trusting" not in first.stderr
    refused = operator.strongroom(
        *("open", image, "keyfile", "--attach", "none", "--passphrase-file", key), check=False
    )
    assert refused.returncode == WrongPassphraseError.exit_code
    assert "a trailing newline was dropped, which --key-file keeps" in refused.stderr
    assert "keyboard" not in refused.stderr


def test_a_keyslot_of_ours_opens_with_the_same_file(
    operator: Operator, tmp_path: Path, key: Path
) -> None:
    image = tmp_path / "ours.img"
    operator.format(image, *STOCK, size="20M")
    known = ("--passphrase-file", operator.passphrase_file)
    added = operator.strongroom("slot", "add", image, *CHEAP_KDF, *known, "--new-key-file", key)
    assert not added.stderr
    assert stock_opens(operator, image, key)
    with operator.opened(image, "keyfile", "--key-file", key):
        pass


@pytest.mark.parametrize("change", ["add", "change"])
def test_a_dropped_newline_is_noted_where_stock_tools_would_keep_it(
    operator: Operator, tmp_path: Path, key: Path, change: str
) -> None:
    image = tmp_path / "ours.img"
    operator.format(image, *STOCK, size="20M")
    known = ("--passphrase-file", operator.passphrase_file)
    new = ("--new-passphrase-file", key)
    noted = operator.strongroom("slot", change, image, *CHEAP_KDF, *known, *new).stderr
    assert "without the trailing newline of its file" in noted
    assert not stock_opens(operator, image, key)


def test_a_whole_volume_is_made_with_a_key_file(
    operator: Operator, tmp_path: Path, key: Path
) -> None:
    image = tmp_path / "ours.img"
    made = ("format", image, "--size", "20M", "--no-recovery", *CHEAP_KDF, *STOCK)
    operator.strongroom(*made, "--key-file", key)
    assert stock_opens(operator, image, key)

# SPDX-License-Identifier: Apache-2.0
"""4 KiB of noise in the area of one keyslot: the others open the volume, and mend it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator

pytestmark = pytest.mark.system

SEALED, RECOVERY = 0, 1
TAMPERED = 21


@dataclass(frozen=True, slots=True)
class Damaged:
    """A volume with a sealed keyslot and a recovery key, of which one keyslot is damaged."""

    operator: Operator
    image: Path
    recovery_key: Path
    backup: Path
    keyslot: int

    @property
    def sound_key(self) -> Path:
        """What the keyslot opens with that is not damaged."""
        return self.recovery_key if self.keyslot == SEALED else self.operator.passphrase_file

    @property
    def lost_key(self) -> Path:
        return self.operator.passphrase_file if self.keyslot == SEALED else self.recovery_key

    def tries(self, key: Path, *options: str) -> tuple[int, str]:
        """Open the volume and close it; return the exit code and what was said."""
        done = self.operator.strongroom(
            *("open", self.image, "damaged", "--attach", "none", "--passphrase-file", key),
            *options,
            check=False,
        )
        self.operator.close("damaged", "--force", check=False)
        return done.returncode, done.stderr

    def opens(self, key: Path, *options: str) -> dict[str, Any]:
        with self.operator.opened(
            self.image, "damaged", "--passphrase-file", key, *options
        ) as facts:
            return facts

    def state(self) -> str:
        state: str = self.operator.facts("dump", self.image)["authentication"]["state"]
        return state


@pytest.fixture(params=[SEALED, RECOVERY], ids=["sealed keyslot", "recovery keyslot"])
def volume(request: pytest.FixtureRequest, operator: Operator, tmp_path: Path) -> Damaged:
    image, key, backup = tmp_path / "image", tmp_path / "recovery", tmp_path / "backup"
    operator.format(image, "--recovery-key-file", key, size="24M")
    operator.strongroom("header", "backup", image, backup)
    keyslot: int = request.param
    area = operator.facts("dump", image)["keyslots"][str(keyslot)]
    with image.open("r+b") as file:
        file.seek(area["area_offset_bytes"] + 3 * 4096)
        file.write(bytes(range(256)) * 16)
    return Damaged(operator, image, key, backup, keyslot)


def test_another_keyslot_opens_it_for_reading_and_the_damaged_one_is_named(
    volume: Damaged,
) -> None:
    before = volume.image.read_bytes()
    facts = volume.opens(volume.sound_key)
    assert facts["read_only"]
    assert facts["authenticated"]
    notices = " ".join(facts["notices"])
    assert f"keyslot {volume.keyslot} is damaged" in notices
    assert "header restore" in notices
    assert (" slot change " in notices) == (volume.keyslot == SEALED)
    assert (" --recovery" in notices) == (volume.keyslot == RECOVERY)
    assert volume.state() == "damaged"
    assert volume.image.read_bytes() == before


def test_it_is_written_once_that_is_accepted_and_stays_named(volume: Damaged) -> None:
    facts = volume.opens(volume.sound_key, "--accept-header-change")
    assert not facts["read_only"]
    assert f"keyslot {volume.keyslot} is damaged" in " ".join(facts["notices"])
    assert volume.opens(volume.sound_key)["read_only"]


def test_its_own_key_is_told_that_it_is_damaged(volume: Damaged) -> None:
    code, said = volume.tries(volume.lost_key)
    assert code == TAMPERED
    assert f"keyslot {volume.keyslot} is damaged" in said
    assert f"header restore {volume.image} FILE" in said


def test_the_recovery_key_opens_it_on_another_machine(volume: Damaged, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Operator(elsewhere, environment={"STRONGROOM_STATE_DIR": str(elsewhere / "state")})
    there = Damaged(other, volume.image, volume.recovery_key, volume.backup, volume.keyslot)
    if volume.keyslot == SEALED:
        assert there.opens(volume.recovery_key)["read_only"]
    else:
        code, _ = there.tries(volume.recovery_key)
        assert code == 34, "nothing is left but the keyslot that is sealed"


@pytest.mark.parametrize("way", ["change", "remove", "restore"])
def test_it_is_mended_with_another_key(volume: Damaged, tmp_path: Path, way: str) -> None:
    new = tmp_path / "new"
    new.write_text("another passphrase")
    slot = ("--keyslot", str(volume.keyslot), "--passphrase-file", volume.sound_key)
    if way == "restore":
        volume.operator.strongroom("header", "restore", volume.image, volume.backup)
        assert not volume.opens(volume.lost_key)["read_only"]
    elif way == "remove":
        volume.operator.strongroom("slot", "remove", volume.image, *slot)
        assert str(volume.keyslot) not in volume.operator.facts("dump", volume.image)["keyslots"]
    elif volume.keyslot == SEALED:
        changed = volume.operator.facts(
            "slot", "change", volume.image, *slot, "--new-passphrase-file", new, *CHEAP_KDF
        )
        assert changed["factors"] == ["enclave", "passphrase"]
        assert not volume.opens(new)["read_only"]
    else:
        done = volume.operator.strongroom(
            *("slot", "change", volume.image, *slot, "--new-passphrase-file", new), check=False
        )
        assert done.returncode == 5
        assert "is for a recovery key" in done.stderr
        assert f"slot remove {volume.image} --keyslot {RECOVERY}" in done.stderr
        volume.operator.strongroom("slot", "remove", volume.image, *slot)
        key = ("--passphrase-file", volume.sound_key, "--recovery-key-file", tmp_path / "again")
        volume.operator.strongroom("slot", "add", volume.image, "--recovery", *key)
        assert not volume.opens(tmp_path / "again")["read_only"]
    assert volume.state() == "verified"
    assert not volume.opens(volume.sound_key)["read_only"]


def test_no_change_makes_the_damage_authentic(volume: Damaged, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("another passphrase")
    area = volume.operator.facts("dump", volume.image)["keyslots"][str(volume.keyslot)]
    start, size = area["area_offset_bytes"], area["area_size_bytes"]
    noise = volume.image.read_bytes()[start : start + size]
    keys = ("--passphrase-file", volume.sound_key, "--new-passphrase-file", new)
    volume.operator.strongroom("slot", "add", volume.image, *keys, *CHEAP_KDF)
    volume.operator.strongroom("reseal", volume.image, "--passphrase-file", volume.sound_key)
    assert volume.state() == "damaged"
    assert volume.image.read_bytes()[start : start + size] == noise
    # What was unreadable, and can be read again, is whole again.
    with volume.image.open("r+b") as file:
        file.seek(start)
        file.write(volume.backup.read_bytes()[start : start + size])
    assert volume.state() == "verified"
    assert not volume.opens(volume.lost_key)["read_only"]
    assert not volume.opens(new)["read_only"]


def test_a_backup_with_a_damaged_keyslot_needs_force(volume: Damaged, tmp_path: Path) -> None:
    spoiled, target = tmp_path / "spoiled", tmp_path / "target"
    volume.operator.strongroom("header", "backup", volume.image, spoiled)
    shutil.copy(volume.image, target)
    volume.operator.strongroom("header", "restore", target, volume.backup)
    done = volume.operator.strongroom("header", "restore", target, spoiled, check=False)
    assert done.returncode == TAMPERED
    assert f"keyslot {volume.keyslot} is damaged" in done.stderr
    volume.operator.strongroom("header", "restore", target, spoiled, "--force")


def test_stock_tools_open_it_as_well(volume: Damaged) -> None:
    require_tools("cryptsetup")
    if volume.keyslot == SEALED:
        key = volume.image.with_name("stripped")
        key.write_text(volume.recovery_key.read_text().strip())
        test = ("cryptsetup", "open", "--test-passphrase", "--key-file", key)
        volume.operator.run(*test, volume.image)

# SPDX-License-Identifier: Apache-2.0
"""Two versions of one signer and one of another, side by side: who opens what, where it moves.

The tables of ``spec/unlock.md`` with installed programs; ``tests/unit/enclave/test_handover.py``
has the same without processes, and more of each cell.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.tee.identity import SealPolicy
from tests.harness import CHEAP_KDF
from tests.interop.cryptsetup.foreign import sha256
from tests.system.identity.conftest import Installations, Kept
from tests.system.identity.machines import (
    ENCLAVE_FACTOR,
    IDENTITY,
    SECURITY_VERSION,
    Machine,
    as_key_file,
    machine,
    said,
)
from tests.system.identity.truth_table import COLUMNS, YES, Cell, cells, shown

pytestmark = [pytest.mark.system, pytest.mark.slow]

Volumes = dict[tuple[SealPolicy, str], Kept]


@pytest.fixture
def by(home: Machine, installations: Installations) -> dict[str, Machine]:
    """The home machine with each of its installations; its operator has seen no volume yet."""
    home.forget()
    return {name: home.with_python(installations.pythons[name]) for name in COLUMNS}


def reseal(where: Machine, image: Path, *options: str | Path) -> tuple[int, dict[str, Any]]:
    """Reseal; return the exit code, and what was said."""
    key = () if "--passphrase-file" in options else ("--passphrase-file", where.passphrase_file)
    done = where.strongroom("reseal", image, "--json", *key, *options, check=False)
    return done.returncode, json.loads(done.stdout or "{}") | {"said": said(done)}


def test_who_opens(kept: Volumes, by: dict[str, Machine]) -> None:
    found: dict[Cell, int] = {}
    for cell in cells("opens"):
        by[cell.enclave].forget()
        found[cell], message = by[cell.enclave].try_open(kept[cell.policy, cell.sealed_by].image)
        assert ("the enclave factor failed" in message) == (found[cell] != YES), message
    print("\n" + shown("opens", found))
    assert {cell: cell.exit_code for cell in found} == found


def test_where_it_moves(kept: Volumes, by: dict[str, Machine], tmp_path: Path) -> None:
    found: dict[Cell, int] = {}
    for cell in cells("moves"):
        old, following = by[cell.sealed_by], by[cell.enclave]
        old.forget()
        made = kept[cell.policy, cell.sealed_by]
        image = made.copy(tmp_path)
        found[cell], facts = reseal(old, image, "--next", following.python)
        if found[cell]:
            assert sha256(image) == sha256(made.image)
            continue
        assert facts["epoch"] == 2
        assert facts["before"]["policy"] == facts["after"]["policy"] == cell.policy
        assert facts["after"]["identity"]["security_version"] == (1 if cell.enclave == "1" else 2)
    print("\n" + shown("moves", found))
    assert {cell: cell.exit_code for cell in found} == found


def test_an_upgrade(kept: Volumes, by: dict[str, Machine], tmp_path: Path) -> None:
    """Strictly sealed, moved to the next version, and never back."""
    volume = kept["measurement", "1"]
    image, (one, two) = volume.copy(tmp_path), (by["1"], by["2"])
    second = tmp_path / "second passphrase"
    second.write_text("another passphrase")
    new = ("--new-passphrase-file", second, *CHEAP_KDF)
    one.strongroom("slot", "add", image, "--passphrase-file", one.passphrase_file, *new)
    code, facts = reseal(one, image, "--next", two.python, "--seal-policy", "signer")
    assert code == YES
    assert (facts["epoch"], facts["removed_keyslots"]) == (3, [])
    assert (facts["before"]["policy"], facts["after"]["policy"]) == ("measurement", "signer")
    assert two.reads(image, second) == volume.content
    one.run(
        "cryptsetup", "open", "--test-passphrase", "--key-file", as_key_file(volume.recovery), image
    )

    # The operator has seen version 2; another operator's version 1 is told by the enclave.
    code, message = one.try_open(image)
    assert code == IDENTITY
    assert "security version is 1, expected 2 or later" in message
    code, facts = reseal(two, image, "--next", one.python)
    assert code == SECURITY_VERSION
    assert "a downgrade is refused" in facts["said"]
    one.forget()
    assert one.try_open(image)[0] == SECURITY_VERSION
    code, facts = reseal(one, image, "--next", two.python)
    assert code == SECURITY_VERSION
    assert "cannot change the header" in facts["said"]
    assert one.try_open(image, volume.recovery)[0] == YES
    assert two.try_open(image) == (YES, "")


def test_a_lost_enclave(kept: Volumes, by: dict[str, Machine], tmp_path: Path) -> None:
    """Adopted on another machine with the recovery key; the passphrase is set anew there."""
    volume, home = kept["signer", "1"], by["1"]
    image = volume.copy(tmp_path)
    recovery = ("--passphrase-file", volume.recovery)
    code, facts = reseal(home, image, "--adopt", *recovery)
    assert (code, "not lost" in facts["said"]) == (5, True)

    other = machine(tmp_path, "other", home.python)
    assert reseal(other, image, "--adopt")[0] == ENCLAVE_FACTOR
    code, facts = reseal(other, image, *recovery)
    assert (code, "--adopt" in facts["said"]) == (ENCLAVE_FACTOR, True)
    assert sha256(image) == sha256(volume.image)
    code, facts = reseal(other, image, "--adopt", *recovery)
    assert (code, facts["removed_keyslots"], facts["epoch"]) == (YES, [0], 2)
    new = ("--new-passphrase-file", other.passphrase_file, *CHEAP_KDF)
    other.strongroom("slot", "add", image, *recovery, *new)
    assert other.reads(image, other.passphrase_file) == volume.content
    assert home.try_open(image)[0] == ENCLAVE_FACTOR
    assert home.try_open(image, volume.recovery)[0] == YES


def test_a_changed_header_moves_when_that_is_accepted(
    kept: Volumes, by: dict[str, Machine], tmp_path: Path
) -> None:
    image, one = kept["signer", "1"].copy(tmp_path), by["1"]
    one.run("cryptsetup", "config", "--label", "theirs", image)
    before = sha256(image)
    code, facts = reseal(one, image, "--next", by["2"].python)
    assert (code, "label" in facts["said"]) == (22, True)
    assert sha256(image) == before
    code, facts = reseal(one, image, "--next", by["2"].python, "--accept-header-change")
    # Authenticated by the one enclave, then moved to the other.
    assert (code, facts.get("epoch")) == (YES, 3), facts["said"]
    assert by["2"].try_open(image) == (YES, "")

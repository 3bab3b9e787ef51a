# SPDX-License-Identifier: Apache-2.0
"""What opens where: the sentences on copies of an image, of a header and of the state directory."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, STOCK, Operator

pytestmark = pytest.mark.system

ENCLAVE_FACTOR: Final = 34
ROLLBACK: Final = 20
SIZE: Final = "17M"


@pytest.fixture
def home(tmp_path: Path) -> Operator:
    """The account that makes the volume."""
    return account(tmp_path, "home")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Operator:
    """Another one, which has seen nothing."""
    return account(tmp_path, "elsewhere")


def account(place: Path, name: str) -> Operator:
    """Return an operator with a state directory of its own."""
    return Operator(place, environment={"STRONGROOM_STATE_DIR": str(place / name)})


def state_of(operator: Operator) -> Path:
    """Return the state directory of an account."""
    return Path(operator.environment["STRONGROOM_STATE_DIR"])


def code_of_open(
    operator: Operator, image: Path, key: Path | None = None
) -> tuple[int, subprocess.CompletedProcess[str]]:
    """Open a volume and close it; return the exit code and what was said."""
    given = ("--passphrase-file", key or operator.passphrase_file, "--attach", "none")
    done = operator.strongroom("open", image, "probe", "--read-only", *given, check=False)
    operator.close("probe", check=False)
    return done.returncode, done


def test_a_copied_image_needs_the_state_directory(home: Operator, elsewhere: Operator) -> None:
    image = home.place / "image"
    home.format(image, size=SIZE)
    assert code_of_open(home, image)[0] == 0
    code, done = code_of_open(elsewhere, image)
    assert code == ENCLAVE_FACTOR, done.stderr
    shutil.rmtree(state_of(elsewhere))
    shutil.copytree(state_of(home), state_of(elsewhere))
    assert code_of_open(elsewhere, image)[0] == 0


def test_an_older_header_is_refused_where_a_newer_one_was_seen(
    home: Operator, elsewhere: Operator
) -> None:
    image, older, recovery = (home.place / name for name in ("image", "older", "recovery"))
    home.format(image, "--recovery-key-file", recovery, size=SIZE)
    shutil.copy(image, older)
    known = state_of(home) / "known-enclaves"
    earlier = known.read_bytes()
    (new := home.place / "new").write_text("another passphrase")
    keys = ("--passphrase-file", home.passphrase_file, "--new-passphrase-file", new)
    home.strongroom("slot", "change", image, *keys, *CHEAP_KDF)
    for key in (home.passphrase_file, recovery):
        code, done = code_of_open(home, older, key)
        assert code == ROLLBACK, done.stderr
    # No other machine can know: what opens the volume there opens the older header too.
    assert code_of_open(elsewhere, older)[0] == ENCLAVE_FACTOR
    assert code_of_open(elsewhere, older, recovery)[0] == 0
    # Nor can this one, once its memory is as old.
    known.write_bytes(earlier)
    assert code_of_open(home, older)[0] == 0


def test_a_plain_volume_opens_anywhere_and_any_change_of_it_is_taken(
    home: Operator, elsewhere: Operator
) -> None:
    require_tools("cryptsetup")
    image = home.place / "image"
    home.format(image, *STOCK, size=SIZE)
    # What an attacker could write as well: the tool needs no passphrase for it.
    home.run("cryptsetup", "config", image, "--label", "changed")
    test = ("cryptsetup", "open", "--test-passphrase", "--key-file", home.key_file)
    home.run(*test, image)
    code, done = code_of_open(elsewhere, image)
    assert code == 0, done.stderr
    assert "header:  not authenticated\n" in done.stdout
    assert elsewhere.facts("dump", image)["authentication"]["state"] == "absent"
    with elsewhere.opened(image, "plain"):
        assert elsewhere.facts("status", "plain")["authentication"] == "absent"
        said = elsewhere.strongroom("status", "plain").stdout
    assert "header:      not authenticated\n" in said

# SPDX-License-Identifier: Apache-2.0
"""An upgrade for real: another Strongroom, with a change in it, and volumes that must survive."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

import strongroom
from strongroom.tee.process.signature import PRODUCT_ID, SECURITY_VERSION, sign
from tests.harness import Operator
from tests.unit.tee.scene import secret

pytestmark = pytest.mark.interop

PACKAGE: Final = Path(strongroom.__file__).parent


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator with a state directory of its own: the next enclave may be signed there."""
    return Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def following(tmp_path: Path) -> Path:
    """The Python of the next Strongroom: this one, with a comment more."""
    place = tmp_path / "next"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    (packages,) = place.glob("lib/python*/site-packages")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, packages / "strongroom", ignore=ignored)
    with (packages / "strongroom" / "errors.py").open("a") as file:
        file.write("# the next version\n")
    # Its dependencies are those of this one; a .pth file in there is not followed.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return place / "bin" / "python"


def findings(operator: Operator, *options: str | Path) -> dict[str, dict[str, str]]:
    done = operator.strongroom("doctor", "--json", *options)
    return {finding["topic"]: finding for finding in json.loads(done.stdout)}


def identity(operator: Operator, python: Path) -> dict[str, Any]:
    return operator.facts("identity", "--next", python)


def test_doctor_says_what_an_upgrade_locks(operator: Operator, following: Path) -> None:
    lenient = operator.place / "lenient.img"
    strict = operator.place / "strict.img"
    of_lenient = f"volume {operator.format(lenient)['uuid']}"
    of_strict = f"volume {operator.format(strict, '--seal-policy', 'measurement')['uuid']}"

    warned = findings(operator)
    assert of_lenient not in warned
    assert warned[of_strict]["level"] == "warning"

    same = findings(operator, "--next", sys.executable)
    assert same[of_lenient]["level"] == same[of_strict]["level"] == "ok"

    new = findings(operator, "--next", following)
    assert identity(operator, following)["measurement"] in new["next enclave"]["found"]
    assert new[of_lenient]["level"] == "ok"
    assert new[of_strict]["level"] == "warning"
    assert new[of_strict]["found"].startswith("LOCKED for the next enclave")

    # The verdict is true, and so is the advice.
    assert opens(operator, following, lenient) == 0
    assert opens(operator, following, strict) == 70
    (command,) = re.findall(r"strongroom (reseal .*)", new[of_strict]["mend"])
    words = command.replace("IMAGE", str(strict)).split()
    operator.strongroom(*words, "--passphrase-file", operator.passphrase_file)
    assert findings(operator, "--next", following)[of_strict]["level"] == "ok"
    assert opens(operator, following, strict) == 0


def test_doctor_sees_a_downgrade(operator: Operator, following: Path) -> None:
    image = operator.place / "vault.img"
    topic = f"volume {operator.format(image)['uuid']}"
    measurement = bytes.fromhex(identity(operator, following)["measurement"])
    process = operator.place / "state" / "process"
    seed = secret((process / "signer").read_bytes())
    older = sign(seed, measurement, PRODUCT_ID, SECURITY_VERSION - 1)
    (process / "signatures").mkdir(mode=0o700, exist_ok=True)
    (process / "signatures" / f"{measurement.hex()}.json").write_bytes(older.document())

    finding = findings(operator, "--next", following)[topic]
    assert finding["level"] == "warning"
    assert "downgrade" in finding["found"]
    assert "reseal" not in finding["mend"]
    assert opens(operator, following, image) == 70


def opens(operator: Operator, python: Path, image: Path) -> int:
    """Return the exit code of the next Strongroom, after the upgrade."""
    key = ("--passphrase-file", operator.passphrase_file)
    command = (python, "-I", "-m", "strongroom")
    done = operator.run(*command, "open", image, "v", "--attach", "none", *key, check=False)
    if done.returncode == 0:
        operator.run(*command, "close", "v")
    return done.returncode

# SPDX-License-Identifier: Apache-2.0
"""A volume whose enclave is started from Gramine's manifest, by a stand-in for Gramine.

What is shown: that the host starts what the manifest says and nothing else, that one stream is
enough, and that the enclave lives on a kernel which lacks what Gramine lacks. What is not: SGX.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_root, require_tools
from tests.harness import SYSTEM_PATH, Operator
from tests.interop.nbd import tools
from tests.system.crash.remains import end_all, remains

pytestmark = pytest.mark.system

REPOSITORY: Final = Path(__file__).parents[3]
SCRIPT: Final = REPOSITORY / "scripts/gramine_manifest.py"
MIB: Final = 1 << 20
USAGE, TEE, PLATFORM, ENCLAVE_FACTOR, SECURITY_VERSION = 2, 72, 40, 34, 35
GRAMINE: Final = ("--tee", "gramine")
NEW: Final = ("--size", "64M", "--no-recovery")
CONFINING: Final = {"pid namespace", "landlock", "seccomp", "secret memory", "no new privileges"}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """An operator of a machine of its own, on which Gramine is installed."""
    require_root()
    require_tools("unshare", "nbdcopy", "nbdinfo", "qemu-io", "cryptsetup")
    (tmp_path / "bin").mkdir()
    own = {
        "STRONGROOM_STATE_DIR": str(tmp_path / "state"),
        "PATH": f"{tmp_path / 'bin'}:{SYSTEM_PATH}",
    }
    operator = Operator(tmp_path, environment=own)
    install_gramine(operator)
    yield operator
    end_all(tmp_path)


@pytest.fixture
def image(operator: Operator) -> Path:
    """A blank image, with a manifest for it."""
    path = blank(operator.place / "image")
    install_manifest(operator, path)
    return path


def blank(path: Path) -> Path:
    with path.open("xb") as file:
        file.truncate(64 * MIB)
    return path


def install_gramine(operator: Operator, **facts: object) -> None:
    """Put a ``gramine-sgx`` on the operator's path, with a CPU that says these facts."""
    program = operator.place / "bin/gramine-sgx"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={REPOSITORY} "
        f"exec {sys.executable} -m tests.fakes.gramine_sgx '{json.dumps(facts)}' \"$@\"\n"
    )
    program.chmod(0o755)


def install_manifest(operator: Operator, image: Path, *options: str | Path) -> None:
    """Make a manifest, and let it pass for a signed one."""
    folder = operator.place / "state/gramine"
    command = [sys.executable, SCRIPT, "--image", image, "--output", folder, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    (folder / "strongroom.manifest").rename(folder / "strongroom.manifest.sgx")


def refusal(
    operator: Operator, command: str, *arguments: str | Path, key: bool = True
) -> tuple[int, str]:
    """Run a command that is to fail; return its exit code and what it said."""
    given = ("--passphrase-file", operator.passphrase_file) if key else ()
    done = operator.strongroom(command, *arguments, *given, *GRAMINE, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def format_under_gramine(operator: Operator, image: Path, *options: str | Path) -> None:
    operator.format(image, *GRAMINE, *options, size=None)


def test_a_volume_lives_under_gramine(operator: Operator, image: Path) -> None:
    format_under_gramine(operator, image)
    content = random.Random(7).randbytes(20 * MIB)
    source, back = operator.place / "source", operator.place / "back"
    source.write_bytes(content)
    with operator.opened(image, "v", *GRAMINE) as opened:
        tools.run("nbdcopy", "--connections=4", "--flush", source, opened["uri"])
        status = operator.facts("status", "v")
        assert status["transport"] == "stdio"
        assert status["tee"] == "gramine"
        lost = {item["name"] for item in status["confinement"] if not item["active"]}
        assert lost >= CONFINING
        assert status["counters"]["errors"] == 0
    assert remains(operator.place, "v") == []
    key = ("--passphrase-file", operator.passphrase_file)
    recovery = ("--recovery", "--recovery-key-file", operator.place / "another")
    operator.strongroom("slot", "add", image, *key, *recovery, *GRAMINE)
    with operator.opened(image, "v", *GRAMINE) as opened:
        tools.run("nbdcopy", "--connections=4", opened["uri"], back)
    assert back.read_bytes()[: len(content)] == content


def test_the_recovery_key_is_the_way_out(operator: Operator, image: Path) -> None:
    recovery = operator.place / "recovery"
    format_under_gramine(operator, image, "--recovery-key-file", recovery)
    key = operator.place / "recovery key"
    key.write_text(recovery.read_text().strip())
    operator.run("cryptsetup", "open", "--test-passphrase", "--key-file", key, image)
    forget(operator)
    simulated = ("open", image, "v", "--attach", "none")
    done = operator.strongroom(
        *simulated, "--passphrase-file", operator.passphrase_file, check=False
    )
    assert done.returncode == ENCLAVE_FACTOR, done.stderr
    operator.strongroom(*simulated, "--passphrase-file", recovery)
    operator.close("v")


def forget(operator: Operator) -> None:
    """Be an operator who has never seen a volume, and so does not check what it was sealed by."""
    (operator.place / "state/known-enclaves").unlink()


def test_the_cpu_gives_keys_of_the_present_version_only(operator: Operator, image: Path) -> None:
    install_gramine(operator, security_version=4)
    format_under_gramine(operator, image)
    forget(operator)
    for version in (3, 5):
        install_gramine(operator, security_version=version)
        code, said = refusal(operator, "open", image, "v", "--attach", "none")
        assert code == SECURITY_VERSION, said
    install_gramine(operator, security_version=4)
    with operator.opened(image, "v", *GRAMINE):
        pass


def test_a_detached_header_has_a_place_in_the_manifest(operator: Operator) -> None:
    image, header = (blank(operator.place / name) for name in ("image", "header"))
    install_manifest(operator, image, "--header", header)
    format_under_gramine(operator, image, "--header", header)
    with operator.opened(image, "v", *GRAMINE, "--header", header, "--read-only"):
        pass


def test_an_identity_without_a_volume(operator: Operator, image: Path) -> None:
    assert image.exists()
    facts = operator.facts("identity", *GRAMINE)
    assert (facts["tee"], facts["simulated"], facts["genuine"]) == ("gramine", False, False)


def test_what_gramine_cannot_do_is_said(operator: Operator, image: Path) -> None:
    neighbour = blank(operator.place / "neighbour")
    for expected, words, arguments in (
        (TEE, f"is for --image {image}, not for --image {neighbour}", ("open", neighbour, "v")),
        (USAGE, "make the file first", ("format", operator.place / "new", *NEW)),
        (USAGE, "--boundary tcp", ("open", image, "v", "--boundary", "tcp")),
    ):
        code, said = refusal(operator, *arguments)
        assert code == expected, said
        assert words in said
    code, said = refusal(operator, "identity", "--python", sys.executable, key=False)
    assert code == USAGE, said


def test_what_is_missing_is_said(operator: Operator, image: Path) -> None:
    install_gramine(operator, attestation=False)
    code, said = refusal(operator, "identity", key=False)
    assert code == TEE, said
    assert "/dev/attestation/attestation_type: No such file" in said
    (operator.place / "bin/gramine-sgx").unlink()
    code, said = refusal(operator, "identity", key=False)
    assert "gramine-sgx is not installed" in said
    assert code == PLATFORM, said
    manifest = operator.place / "state/gramine/strongroom.manifest.sgx"
    for content in (b"\xff", b"[loader]\nargv = 5\n", b"[sgx]\n"):
        manifest.write_bytes(content)
        code, said = refusal(operator, "identity", key=False)
        assert "is no manifest of Strongroom" in said
    manifest.unlink()
    code, said = refusal(operator, "open", image, "v", "--attach", "none")
    assert "make gramine-manifest IMAGE=" in said
    assert code == TEE, said


def test_it_looks_at_its_volume(operator: Operator, image: Path) -> None:
    operator.format(image, *GRAMINE, size=None)
    assert operator.facts("dump", image, *GRAMINE)["authentication"]["state"] == "verified"
    assert operator.facts("dump", image)["authentication"]["state"] == "unverified"
    assert (
        len(json.loads(operator.strongroom("slot", "list", image, *GRAMINE, "--json").stdout)) == 1
    )
    operator.strongroom("selftest", *GRAMINE)
    copy = operator.place / "copy"
    for command in ("backup", "restore"):
        code, said = refusal(operator, "header", command, image, copy, key=False)
        assert code == USAGE
        assert "hint: use --tee process" in said
    assert not copy.exists()
    operator.strongroom("header", "backup", image, copy)
    operator.strongroom("header", "restore", image, copy)

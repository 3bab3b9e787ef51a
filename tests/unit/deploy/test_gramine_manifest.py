# SPDX-License-Identifier: Apache-2.0
"""The manifest holds all that the enclave runs, and leaves the host nothing to choose."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import strongroom
from strongroom.tee.process.signature import PRODUCT_ID, SECURITY_VERSION

pytestmark = pytest.mark.unit

SCRIPT: Final = Path(__file__).parents[3] / "scripts/gramine_manifest.py"
RUNNING: Final = """
import json, strongroom.enclave.start, strongroom.enclave.entry, strongroom.enclave.running
from strongroom import tee
import strongroom.tee.gramine
from strongroom.tee.process.measure import measured_files
print(json.dumps([str(path) for path in measured_files().values()]))
"""
IMAGE: Final = Path("/srv/volumes/vault.img")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("gramine_manifest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script writes, read back."""
    output = tmp_path_factory.mktemp("gramine")
    subprocess.run(
        [sys.executable, SCRIPT, "--image", IMAGE, "--output", output],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    return tomllib.loads((output / "strongroom.manifest").read_text())


def paths_of(uris: list[str]) -> list[Path]:
    return [Path(uri.removeprefix("file:")) for uri in uris]


def covers(trusted: list[Path], path: Path) -> bool:
    return any(path == place or path.is_relative_to(place) for place in trusted)


def test_all_that_an_enclave_runs_is_trusted_and_mounted(manifest: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUNNING], check=True, capture_output=True, timeout=60
    )
    running = [Path(path).resolve() for path in json.loads(done.stdout)]
    assert len(running) > 100
    trusted = paths_of(manifest["sgx"]["trusted_files"])
    mounted = paths_of([mount["uri"] for mount in manifest["fs"]["mounts"]])
    for path in running:
        assert covers(trusted, path), path
        assert covers(mounted, path), path
    assert not covers(trusted, IMAGE)


def test_folders_are_told_from_files(manifest: dict[str, Any]) -> None:
    # The first two are Gramine's, which need not be here.
    for uri in manifest["sgx"]["trusted_files"][2:]:
        assert Path(uri.removeprefix("file:")).is_dir() == uri.endswith("/"), uri


def test_the_image_alone_is_the_hosts(manifest: dict[str, Any]) -> None:
    assert manifest["sgx"]["allowed_files"] == [f"file:{IMAGE}"]
    assert manifest["fs"]["mounts"][-1] == {"path": str(IMAGE), "uri": f"file:{IMAGE}"}


def test_the_host_chooses_neither_arguments_nor_environment(manifest: dict[str, Any]) -> None:
    loader = manifest["loader"]
    assert not [key for key in loader if key.startswith("insecure")]
    assert all(isinstance(value, str) for value in loader["env"].values())
    assert loader["argv"][1:3] == ["-I", "-S"]
    assert loader["argv"][3] == str(Path(strongroom.__file__).resolve().parent / "enclave/start.py")
    assert loader["argv"][4:6] == ["--tee", "gramine"]
    assert loader["argv"][-2:] == ["--image", str(IMAGE)]


def test_it_is_no_debug_enclave_of_our_product(manifest: dict[str, Any]) -> None:
    sgx = manifest["sgx"]
    assert sgx["debug"] is False
    assert (sgx["isvprodid"], sgx["isvsvn"]) == (PRODUCT_ID, SECURITY_VERSION)
    assert sgx["remote_attestation"] == "dcap"
    assert manifest["sys"]["disallow_subprocesses"] is True


def test_nothing_is_left_to_fill_in(manifest: dict[str, Any]) -> None:
    assert "{{" not in json.dumps(manifest)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a{b"])
def test_a_path_that_would_break_out_is_refused(script: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="quote"):
        script.render(Path("/srv") / name, attestation="none", enclave_size="1G")

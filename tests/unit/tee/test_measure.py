# SPDX-License-Identifier: Apache-2.0
"""What is measured: whatever runs, and nothing that only lies about."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.errors import TeeError
from strongroom.tee.process.measure import measurement_of
from tests.conftest import require
from tests.unit.tee.scene import SOURCES, run

pytestmark = pytest.mark.unit

MEASURE: Final = """
import json, sys
sys.path.insert(0, sys.argv[1])
from strongroom import tee
from strongroom.errors import StrongroomError
from strongroom.tee.process import measure
exec(sys.argv[2])
try:
    print(json.dumps({
        "files": {name: str(path) for name, path in measure.measured_files().items()},
        "opaque": measure.opaque_modules(),
        "measurement": measure.this_process().hex(),
    }))
except StrongroomError as err:
    print(json.dumps({"error": type(err).__name__, "message": err.message}))
"""

LAUNCH: Final[dict[str, object]] = {"flags": {"optimize": 0}, "python": "3.11"}


def measured(
    sources: Path = SOURCES, before: str = "", *, options: tuple[str, ...] = (), **environment: str
) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run(MEASURE, str(sources), before, options=options, **environment)
    )
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What the package in this tree measures."""
    return measured()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SOURCES / "strongroom", tmp_path / "strongroom", ignore=ignored)
    return tmp_path


def test_all_that_runs_is_measured(here: dict[str, Any]) -> None:
    files = here["files"]
    assert {
        "strongroom/__init__.py",
        "strongroom/_core.abi3.so",
        "strongroom/errors.py",
        "strongroom/tee/process/measure.py",
    } <= files.keys()
    assert str(Path(sys.executable).resolve()) in files
    assert json.__file__ in files
    assert any(name.rpartition("/")[2].startswith("libc.so") for name in files)
    assert not [name for name in files if name.startswith("strongroom/cli")]
    assert not [name for name in files if name.endswith(".pyc")]
    assert "sys" in here["opaque"]


def test_where_the_package_lies_does_not_matter(here: dict[str, Any], copy: Path) -> None:
    there = measured(copy)
    assert there["files"]["strongroom/errors.py"] == str(copy / "strongroom/errors.py")
    assert there["measurement"] == here["measurement"]


def test_a_changed_byte_of_any_file_of_the_package_is_seen(
    here: dict[str, Any], tmp_path: Path
) -> None:
    files = {n: Path(p) for n, p in here["files"].items() if n.startswith("strongroom/")}
    original = measurement_of(files, LAUNCH, ())
    changed = tmp_path / "changed"
    for name, path in files.items():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        changed.write_bytes(content)
        assert measurement_of({**files, name: changed}, LAUNCH, ()) != original, name


def test_a_changed_byte_of_any_file_at_all_is_seen(here: dict[str, Any], tmp_path: Path) -> None:
    # Small files stand for the large ones: a measurement of each change must not take all day.
    files = {name: tmp_path / str(at) for at, name in enumerate(here["files"])}
    for name, path in files.items():
        path.write_text(name)
    changed = tmp_path / "changed"
    seen = {measurement_of(files, LAUNCH, ())}
    for name in files:
        changed.write_text(name[:-1] + chr(ord(name[-1]) ^ 1))
        seen.add(measurement_of({**files, name: changed}, LAUNCH, ()))
    assert len(seen) == len(files) + 1


def test_names_and_launch_options_count(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    measurements = {
        measurement_of({"a": file}, LAUNCH, ()),
        measurement_of({"b": file}, LAUNCH, ()),
        measurement_of({"a": file, "b": file}, LAUNCH, ()),
        measurement_of({"a": file}, {**LAUNCH, "python": "3.12"}, ()),
        measurement_of({"a": file}, LAUNCH, ("a",)),
    }
    assert len(measurements) == 5


def test_a_changed_module_that_runs_is_seen(here: dict[str, Any], copy: Path) -> None:
    with (copy / "strongroom/errors.py").open("a") as source:
        source.write("# harmless\n")
    assert measured(copy)["measurement"] != here["measurement"]


def test_a_changed_module_that_does_not_run_is_not(here: dict[str, Any], copy: Path) -> None:
    with (copy / "strongroom/cli/main.py").open("a") as source:
        source.write("# harmless\n")
    assert measured(copy)["measurement"] == here["measurement"]


@pytest.mark.parametrize(
    "before", ["import wave", "import _lsprof", "sys.modules['new'] = type(sys)('new')"]
)
def test_one_more_module_is_seen(here: dict[str, Any], before: str) -> None:
    assert measured(before=before)["measurement"] != here["measurement"]


@pytest.mark.parametrize("option", ["-O", "-B", "-bb"])
def test_launch_options_are_seen(here: dict[str, Any], option: str) -> None:
    assert measured(options=(option,))["measurement"] != here["measurement"]


def test_a_preloaded_library_is_seen(here: dict[str, Any]) -> None:
    library = next(Path("/usr/lib").rglob("libBrokenLocale.so.1"), None)
    require(condition=library is not None, reason="no library to preload")
    preloaded = measured(LD_PRELOAD=str(library))
    assert preloaded["measurement"] != here["measurement"]
    (more,) = preloaded["files"].keys() - here["files"].keys()
    assert "libBrokenLocale" in more


def test_a_library_replaced_while_it_runs_is_refused(copy: Path) -> None:
    extension = copy / "strongroom/_core.abi3.so"
    replacement = copy / "replacement"
    shutil.copy(extension, replacement)
    found = measured(copy, f"import os; os.rename({str(replacement)!r}, {str(extension)!r})")
    assert found["error"] == "TeeError"
    assert "_core.abi3.so was replaced while it runs" in found["message"]


def test_a_module_that_is_gone_is_refused(copy: Path) -> None:
    gone = copy / "strongroom/errors.py"
    found = measured(copy, f"import os; os.unlink({str(gone)!r})")
    assert found["error"] == "TeeError"
    assert f"cannot measure {gone}" in found["message"]


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path(os.devnull) / "file"):
        with pytest.raises(TeeError, match="cannot measure"):
            measurement_of({"a": path}, LAUNCH, ())

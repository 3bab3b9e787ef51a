# SPDX-License-Identifier: Apache-2.0
"""Code that is planted where Python starts or imports: it does not run in an enclave unmeasured.

Each plant is made by an attacker who can write to the installation, and keeps every source as it
is. That it works at all is shown first, in a Python that is started as any other.
"""

import importlib.util
import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.system.identity.machines import IDENTITY, Machine, install, machine

pytestmark = pytest.mark.hostile

IN_ENCLAVE: Final = "enclave/start.py"
STRICT: Final = ("--seal-policy", "measurement")
PLANTED: Final = """import sys
if any({inside!r} in word for word in sys.orig_argv):
    open({mark!r}, "a").write("ran")
"""


@dataclass(frozen=True, slots=True)
class Place:
    """An installation and what is planted in it."""

    machine: Machine
    mark: Path

    @property
    def code(self) -> str:
        return PLANTED.format(inside=IN_ENCLAVE, mark=str(self.mark))

    @property
    def site(self) -> Path:
        (found,) = self.machine.python.parents[1].glob("lib/python*/site-packages")
        return found

    @property
    def package(self) -> Path:
        return self.machine.place / "lib" / "strongroom"

    def ran(self) -> bool:
        """Tell whether the planted code ran since it was last asked."""
        there = self.mark.exists()
        self.mark.unlink(missing_ok=True)
        return there

    def run_as_any_other(self) -> None:
        """Start Python with everything, as if it were the enclave, and import the package."""
        words = ("-I", "-c", "import strongroom.errors, typing", IN_ENCLAVE)
        subprocess.run([self.machine.python, *words], check=True, timeout=60)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    python = install(tmp_path, "an installation that is attacked")
    return Place(machine(tmp_path, "victim", python), tmp_path / "mark")


def inline_pth(place: Place) -> None:
    (place.site / "inline.pth").write_text(f"import sys; exec({place.code!r})\n")


def hiding_sitecustomize(place: Place) -> None:
    leave = 'import sys\nsys.modules.pop("sitecustomize", None)\n'
    (place.site / "sitecustomize.py").write_text(place.code + leave)


def pth_with_directory(place: Place) -> None:
    added = place.machine.place / "added"
    added.mkdir()
    (added / "sitecustomize.py").write_text(place.code)
    (place.site / "added.pth").write_text(f"{added}\n")


def poisoned_byte_code(place: Place) -> None:
    """The time stamp and the size are those of the source, which says something else."""
    poison(place, place.package / "errors.py")


def poison(place: Place, source: Path) -> None:
    code = compile(place.code + source.read_text(), str(source), "exec")
    facts = source.stat()
    stamp = (0, int(facts.st_mtime), facts.st_size)
    head = importlib.util.MAGIC_NUMBER + b"".join(
        (field & 0xFFFFFFFF).to_bytes(4, "little") for field in stamp
    )
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(head + marshal.dumps(code))


PLANTS: Final = (inline_pth, hiding_sitecustomize, pth_with_directory, poisoned_byte_code)


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_code_does_not_run_in_the_enclave(
    place: Place, plant: Callable[[Place], None]
) -> None:
    image = place.machine.place / "image"
    place.machine.format(image, *STRICT)
    before = place.machine.identity()["measurement"]
    plant(place)
    place.run_as_any_other()
    assert place.ran()
    assert place.machine.try_open(image) == (0, "")
    assert place.machine.identity()["measurement"] == before
    assert not place.ran()


@pytest.mark.parametrize("plant", PLANTS)
def test_nor_in_that_of_another_python(place: Place, plant: Callable[[Place], None]) -> None:
    """As ``reseal --next`` starts it, from a Strongroom that knows only the interpreter."""
    own = place.machine.with_python(Path(sys.executable))
    next_one = ("identity", "--next", place.machine.python)
    before = own.facts(*next_one)["measurement"]
    plant(place)
    place.run_as_any_other()
    assert place.ran()
    assert own.facts(*next_one)["measurement"] == before
    assert not place.ran()


def test_byte_code_of_the_library_is_not_used_either(place: Place) -> None:
    """In a prefix of its own, as the one of this machine is not to be harmed."""
    own = (
        place.machine.place
        / "prefix"
        / "lib"
        / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    own.mkdir(parents=True)
    library = Path(os.__file__).parent
    for entry in library.iterdir():
        if entry.name not in {"__pycache__", "typing.py", "site-packages"}:
            (own / entry.name).symlink_to(entry)
    shutil.copy2(library / "typing.py", own)
    program = own.parents[1] / "bin" / Path(sys.executable).resolve().name
    program.parent.mkdir()
    shutil.copy2(Path(sys.executable).resolve(), program)
    settings = place.machine.python.parents[1] / "pyvenv.cfg"
    settings.write_text(f"home = {program.parent}\n")
    for name in (place.machine.python.name, "python3", program.name):
        link = place.machine.python.with_name(name)
        link.unlink(missing_ok=True)
        link.symlink_to(program)
    before = place.machine.identity()["measurement"]
    poison(place, own / "typing.py")
    place.run_as_any_other()
    assert place.ran()
    assert place.machine.identity()["measurement"] == before
    assert not place.ran()


def test_a_source_that_was_changed_and_put_back_leaves_nothing(place: Place) -> None:
    """Time stamp and size are the same throughout; the changed source ran once, measured."""
    image, source = place.machine.place / "image", place.package / "errors.py"
    source.write_text(source.read_text() + "#" * len(place.code) + "\n")
    place.machine.format(image, *STRICT)
    facts, text = source.stat(), source.read_text()
    source.write_text(text[: -len(place.code) - 1] + place.code + "\n")
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert source.stat().st_size == facts.st_size
    assert place.machine.try_open(image)[0] == IDENTITY
    assert place.ran()
    source.write_text(text)
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert place.machine.try_open(image) == (0, "")
    assert not place.ran()


# --- the enclave's own byte code -----------------------------------------------------------------


def kept(place: Place) -> Path:
    (found,) = (place.machine.state / "process").glob("code.*")
    return found


def test_byte_code_is_kept_and_used(place: Place) -> None:
    place.machine.identity()
    place.machine.format(place.machine.place / "image")
    first = kept(place)
    assert first.stat().st_mode & 0o777 == 0o600
    written = first.stat().st_mtime_ns
    place.machine.identity()
    assert kept(place).stat().st_mtime_ns == written


@pytest.mark.parametrize("content", [b"", b"noise", None])
def test_byte_code_that_was_cut_or_overwritten_is_made_anew(
    place: Place, content: bytes | None
) -> None:
    place.machine.format(place.machine.place / "image")
    before = place.machine.identity()["measurement"]
    file = kept(place)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if content is None else content)
    assert place.machine.identity()["measurement"] == before
    assert len(kept(place).read_bytes()) >= len(whole) // 2


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640, 0o604])
def test_byte_code_that_others_may_touch_is_not_used(place: Place, mode: int) -> None:
    place.machine.format(place.machine.place / "image")
    kept(place).chmod(mode)
    place.machine.identity()
    assert kept(place).stat().st_mode & 0o777 == 0o600


def test_an_enclave_says_when_it_cannot_import(place: Place) -> None:
    """A broken source is an enclave that does not start, not one with older code."""
    place.machine.format(place.machine.place / "image")
    (place.package / "enclave" / "session.py").write_text("this is no Python\n")
    done = place.machine.strongroom("identity", check=False)
    assert done.returncode != 0
    assert "enclave" in done.stderr

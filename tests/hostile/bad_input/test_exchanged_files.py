# SPDX-License-Identifier: Apache-2.0
"""Another user owns the directory and exchanges the file between two looks of the program."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.host.contracts import ImageReference
from strongroom.host.files import opened_files
from strongroom.host.launch import launch
from strongroom.host.silence import Silent
from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, STOCK, Operator

from .exchanger import exchange

EXCHANGER: Final = Path(__file__).with_name("exchanger.py")
MIB: Final = 1 << 20
ATTEMPTS: Final = 4


@pytest.fixture
def mallory(operator: Operator) -> Path:
    """A directory in which another user puts what he likes."""
    directory = operator.place / "mallory"
    directory.mkdir()
    return directory


@pytest.fixture
def victim(operator: Operator) -> Path:
    """A file system of root's, which nothing may overwrite without ``--force``."""
    require_tools("mkfs.ext4")
    path = operator.place / "root.ext4"
    path.touch()
    os.truncate(path, 24 * MIB)
    operator.run("mkfs.ext4", "-q", path)
    return path


def blank(path: Path) -> Path:
    path.touch()
    os.truncate(path, 24 * MIB)
    return path


@contextlib.contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names as fast as possible for the block."""
    with subprocess.Popen([sys.executable, EXCHANGER, one, other]) as running:
        try:
            yield
        finally:
            running.kill()


def format_command(operator: Operator, *target: str | Path) -> tuple[str | Path, ...]:
    key = ("--passphrase-file", operator.passphrase_file)
    return ("format", *target, "--no-recovery", *CHEAP_KDF, *key)


def exchanging_wipefs(operator: Operator, one: Path, other: Path) -> Operator:
    """Return an operator whose wipefs exchanges two names when it has looked."""
    programs = operator.place / "programs"
    programs.mkdir()
    real = operator.run("sh", "-c", "command -v wipefs").stdout.strip()
    shim = programs / "wipefs"
    shim.write_text(
        f'#!/bin/sh\n"{real}" "$@"\ncode=$?\n'
        f'"{sys.executable}" "{EXCHANGER}" "{one}" "{other}" 1\nexit $code\n'
    )
    shim.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
    return Operator(operator.place, environment={"PATH": path})


@pytest.mark.parametrize("as_header", [False, True])
def test_format_writes_to_the_file_that_it_looked_at(
    operator: Operator, mallory: Path, victim: Path, *, as_header: bool
) -> None:
    target, link = blank(mallory / "target"), mallory / "link"
    link.symlink_to(victim)
    before = victim.read_bytes()
    attacked = exchanging_wipefs(operator, target, link)
    new = (operator.place / "image", "--size", "1M", "--header")
    image = (*new, target) if as_header else (target,)
    attacked.strongroom(*format_command(operator, *image))
    assert victim.read_bytes() == before
    assert target.is_symlink(), "the exchange took place"
    assert link.read_bytes()[:6] == b"LUKS\xba\xbe"


def test_format_under_constant_exchange(operator: Operator, mallory: Path, victim: Path) -> None:
    target, link = mallory / "target", mallory / "link"
    before = victim.read_bytes()
    link.symlink_to(victim)
    for _ in range(ATTEMPTS):
        (link if target.is_symlink() else target).unlink(missing_ok=True)
        blank(link if target.is_symlink() else target)
        with exchanging(target, link):
            done = operator.strongroom(*format_command(operator, target), check=False)
        assert done.returncode in {0, 41}, done.stderr
        assert victim.read_bytes() == before


@pytest.mark.parametrize("boundary", ["fd", "stdio", "tcp"])
def test_the_enclave_opens_the_file_that_the_host_opened(
    operator: Operator, mallory: Path, boundary: str
) -> None:
    one, other = mallory / "one", mallory / "other"
    for path in (one, other):
        operator.format(path, *STOCK, size="20M")
    ours = {one.stat().st_ino, other.stat().st_ino}
    for _ in range(ATTEMPTS):
        with (
            exchanging(one, other),
            operator.opened(one, "v", "--boundary", boundary) as facts,
        ):
            host, enclave = (used(facts[pid], ours) for pid in ("host_pid", "enclave_pid"))
            assert host == enclave
            assert len(host) == 1


def used(pid: int, inodes: set[int]) -> set[int]:
    """Return which of some files a process has open."""
    found = {entry.stat().st_ino for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()}
    return found & inodes


@pytest.mark.parametrize("boundary", ["stdio", "tcp"])
def test_an_enclave_that_is_passed_no_descriptors_inherits_its_files(
    operator: Operator, mallory: Path, boundary: str
) -> None:
    one, other = mallory / "one", mallory / "other"
    uuid = operator.format(one, *STOCK, size="20M")["uuid"]
    operator.format(other, *STOCK, size="20M")
    with opened_files(ImageReference(one), read_only=True) as files:
        exchange(str(one), str(other))
        with launch(Silent(), transport=boundary, disk=files.start_disk()) as enclave:  # type: ignore[arg-type]
            facts = enclave.call(calls.LoadDisk(None, None, read_only=True))
    assert facts.uuid == uuid

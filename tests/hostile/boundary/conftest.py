# SPDX-License-Identifier: Apache-2.0
"""Enclaves and volumes for the evil host."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.boundary.evil import Enclave, new_volume

Start = Callable[[], Enclave]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with one passphrase, made by an enclave; never changed."""
    place = tmp_path_factory.mktemp("pristine")
    maker = Enclave(place / "log")
    try:
        new_volume(maker, place / "image")
    finally:
        maker.close()
    return place / "image"


@pytest.fixture
def image(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the volume that a test may spoil."""
    return Path(shutil.copy(pristine, tmp_path / "image"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start as many enclaves as a test wants; all of them end with it."""
    running: list[Enclave] = []

    def one_more() -> Enclave:
        running.append(Enclave(tmp_path / f"log{len(running)}"))
        return running[-1]

    yield one_more
    for enclave in running:
        enclave.close()


@pytest.fixture
def enclave(start: Start) -> Enclave:
    """One enclave."""
    return start()

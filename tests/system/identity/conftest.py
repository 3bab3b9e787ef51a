# SPDX-License-Identifier: Apache-2.0
"""Installations beside the one that tests run in, and volumes to carry from machine to machine."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.tee.identity import SealPolicy
from tests.conftest import require_tools
from tests.interop.cryptsetup.foreign import DATA_BYTES, random_file, sha256
from tests.system.identity.machines import Machine, install, machine

IMAGE_SIZE: Final = str((16 << 20) + DATA_BYTES)
OWN: Final = b"own signer".ljust(32)
FOREIGN: Final = b"another signer".ljust(32)


@dataclass(frozen=True, slots=True)
class Installations:
    """Strongroom, installed three times; they differ by a comment."""

    pythons: dict[str, Path]
    """By name: ``1``, ``2`` and ``other``."""
    measurements: dict[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """A volume with content, never changed, with the file of its recovery key."""

    image: Path
    recovery: Path
    content: str

    def copy(self, place: Path) -> Path:
        """Return a copy to carry somewhere."""
        return Path(shutil.copy(self.image, place / "volume"))


@pytest.fixture(scope="session")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Installations:
    """Three installations."""
    place = tmp_path_factory.mktemp("installations")
    pythons = {name: install(place / name, f"number {name}") for name in ("1", "2", "other")}
    measurements: dict[str, str] = {
        name: machine(place, "nobody", python).identity()["measurement"]
        for name, python in pythons.items()
    }
    assert len(set(measurements.values())) == 3
    return Installations(pythons, measurements)


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory, installations: Installations) -> Machine:
    """A machine with versions 1 and 2 of one signer, and version 2 of another."""
    require_tools("cryptsetup", "nbdcopy")
    place = tmp_path_factory.mktemp("home")
    made = machine(place, "home", installations.pythons["1"])
    for name, seed, version in (("1", OWN, 1), ("2", OWN, 2), ("other", FOREIGN, 2)):
        made.sign(installations.measurements[name], seed, version)
    return made


@pytest.fixture(scope="session")
def kept(first_home: Machine, installations: Installations) -> dict[tuple[SealPolicy, str], Kept]:
    """Volumes with the default factors, by policy and by who made them."""
    content = random_file(first_home.place / "content")
    made: dict[tuple[SealPolicy, str], Kept] = {}
    # The default is the policy that is not named.
    for policy, options in (("signer", ()), ("measurement", ("--seal-policy", "measurement"))):
        for who in ("1", "2"):
            image = first_home.place / f"{policy}-{who}"
            home, recovery = (
                first_home.with_python(installations.pythons[who]),
                image.with_suffix(".recovery"),
            )
            facts = home.format(image, "--recovery-key-file", recovery, *options, size=IMAGE_SIZE)
            assert facts["factors"] == ["enclave", "passphrase"]
            assert facts["enrolment"]["policy"] == policy
            with home.opened(image, "filled") as volume:
                home.run("nbdcopy", "--flush", content, volume["uri"])
            made[policy, who] = Kept(image, recovery, sha256(content))  # type: ignore[index]  # a policy
    return made


@pytest.fixture
def home(first_home: Machine, kept: object, tmp_path: Path) -> Machine:
    """The machine on which the volumes were made, with what it knows of them: a copy of it."""
    assert kept
    state = tmp_path / "state of home"
    shutil.copytree(first_home.state, state)
    return dataclasses.replace(
        first_home, place=tmp_path, state=state, environment={"STRONGROOM_STATE_DIR": str(state)}
    )

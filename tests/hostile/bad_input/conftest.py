# SPDX-License-Identifier: Apache-2.0
"""A sound volume for each test, which then spoils it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Operator
from tests.hostile.bad_input.scene import Scene, adopt_orphans


@pytest.fixture(scope="session")
def sound_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of ours with a passphrase and a recovery key, made once."""
    operator = Operator(tmp_path_factory.mktemp("sound"))
    image = operator.place / "vault.img"
    operator.format(image, "--recovery-key-file", operator.place / "recovery", size="17M")
    return image


@pytest.fixture
def scene(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    state_directory: Path,
    sound_image: Path,
) -> Iterator[Scene]:
    """A watched directory that holds a copy of the volume, and a machine that has not seen it.

    Otherwise a test that changes its copy would make all others older than what was seen.
    """
    state = tmp_path_factory.mktemp("machine") / "state"
    forgetful = shutil.ignore_patterns("known-enclaves*")
    shutil.copytree(state_directory, state, ignore=forgetful, copy_function=shutil.copy2)
    scene = Scene(Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(state)}))
    shutil.copyfile(sound_image, scene.image)
    shutil.copyfile(sound_image.with_name("recovery"), scene.path("recovery"))
    assert scene.operator.passphrase_file.exists()
    adopt_orphans(active=True)
    try:
        yield scene
    finally:
        scene.end_what_is_left()
        adopt_orphans(active=False)


@pytest.fixture
def opening(scene: Scene) -> tuple[str | Path, ...]:
    """The arguments of an ``open`` that is right, but for what the test did to the image."""
    key = ("--passphrase-file", scene.operator.passphrase_file)
    return ("open", scene.image, "v", "--attach", "none", *key)

# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.host.target import image_state, open_image

NEEDED = 8192


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(NEEDED + 100))
    return path


@pytest.fixture
def opened(image: Path) -> Iterator[int]:
    descriptor = open_image(image, read_only=False)
    yield descriptor
    os.close(descriptor)


def condition(descriptor: int, path: Path) -> str:
    state = image_state(descriptor, path, needed_bytes=NEEDED)
    assert (state.words == "") == (state.condition == "in place")
    return state.condition


def test_an_image_in_place(opened: int, image: Path) -> None:
    assert condition(opened, image) == "in place"
    os.link(image, image.with_name("another name"))
    assert condition(opened, image) == "in place"
    with image.open("ab") as file:
        file.write(b"longer")
    assert condition(opened, image) == "in place"


def test_an_image_that_was_deleted(opened: int, image: Path) -> None:
    image.unlink()
    assert condition(opened, image) == "deleted"
    image.write_bytes(bytes(NEEDED))
    assert condition(opened, image) == "deleted", "the file that is there now is another one"


def test_an_image_that_was_replaced(opened: int, image: Path) -> None:
    os.link(image, image.with_name("kept"))
    image.unlink()
    image.write_bytes(bytes(NEEDED))
    assert condition(opened, image) == "replaced"


def test_an_image_that_was_renamed(opened: int, image: Path) -> None:
    image.rename(image.with_name("elsewhere"))
    assert condition(opened, image) == "moved"


def test_an_image_that_was_cut_short(opened: int, image: Path) -> None:
    os.truncate(image, NEEDED)
    assert condition(opened, image) == "in place"
    os.truncate(image, NEEDED - 1)
    assert condition(opened, image) == "cut short"


def test_a_directory_that_may_not_be_searched_is_no_verdict(opened: int, tmp_path: Path) -> None:
    unreachable = tmp_path / ("x" * 300)
    assert condition(opened, unreachable) == "unknown"

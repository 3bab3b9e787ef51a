# SPDX-License-Identifier: Apache-2.0
"""Passphrases that are wrong, empty, unreadable or missing; options that make no sense."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.harness import CHEAP_KDF, STRONGROOM
from tests.hostile.bad_input.scene import NONE, Scene

pytestmark = pytest.mark.hostile

NEEDS_ONE: Final[dict[str, tuple[str, ...]]] = {
    "open": ("open", "IMAGE", "v", *NONE),
    "slot add": ("slot", "add", "IMAGE", *CHEAP_KDF),
    "slot change": ("slot", "change", "IMAGE", *CHEAP_KDF),
    "slot remove": ("slot", "remove", "IMAGE", "--keyslot", "1"),
}


def command(scene: Scene, name: str) -> tuple[str | Path, ...]:
    """Return a command, with a new passphrase where it takes one."""
    words = tuple(scene.image if word == "IMAGE" else word for word in NEEDS_ONE[name])
    if name in {"slot add", "slot change"}:
        return (*words, "--new-passphrase-file", scene.path("new", b"the new one"))
    return words


@pytest.mark.parametrize("name", NEEDS_ONE)
def test_a_wrong_passphrase(scene: Scene, name: str) -> None:
    wrong = scene.path("wrong", b"not the passphrase\n")
    words = (*command(scene, name), "--passphrase-file", wrong)
    scene.refuses(*words, code=31, says="no keyslot opens with this passphrase")


WRONG: Final = {
    "another case": "Correct horse battery staple",
    "a space more": "correct horse battery staple ",
    "two newlines": "correct horse battery staple\n\n",
    "a carriage return": "correct horse battery staple\r\n",
    "a prefix": "correct horse battery stapl",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_almost_the_passphrase(scene: Scene, text: str) -> None:
    words = (*command(scene, "open"), "--passphrase-file", "-")
    scene.refuses(*words, code=31, says="no keyslot opens", stdin=text)


@pytest.mark.parametrize("name", NEEDS_ONE)
@pytest.mark.parametrize("content", [b"", b"\n"], ids=["empty", "only a newline"])
def test_an_empty_passphrase(scene: Scene, name: str, content: bytes) -> None:
    empty = scene.path("empty", content)
    words = (*command(scene, name), "--passphrase-file", empty)
    scene.refuses(*words, code=32, says="empty")


@pytest.mark.parametrize("name", ["slot add", "slot change"])
def test_an_empty_new_passphrase(scene: Scene, name: str) -> None:
    words = (*command(scene, name), "--passphrase-file", scene.operator.passphrase_file)
    scene.path("new", b"\n")
    scene.refuses(*words, code=32, says="empty")


def test_a_closed_pipe(scene: Scene) -> None:
    before = scene.state()
    reader, writer = os.pipe()
    os.close(writer)
    environment = {**os.environ, "STRONGROOM_RUNTIME_DIR": str(scene.operator.runtime)}
    try:
        done = subprocess.run(
            [str(STRONGROOM), *map(str, command(scene, "open")), "--passphrase-file", "-"],
            check=False,
            stdin=reader,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
    finally:
        os.close(reader)
    assert done.returncode == 33
    assert "the pipe was closed before the passphrase came" in done.stderr
    assert scene.state() == before
    scene.nothing_is_left()


UNREADABLE: Final = {
    "missing": (3, "no such passphrase file"),
    "directory": (33, "directory"),
    "too long": (33, "too long|longer"),
}


@pytest.mark.parametrize(("name", "expected"), UNREADABLE.items(), ids=UNREADABLE.keys())
def test_an_unreadable_passphrase_file(scene: Scene, name: str, expected: tuple[int, str]) -> None:
    file = scene.path("passphrase-file")
    if name == "directory":
        file.mkdir()
    elif name == "too long":
        file.write_bytes(b"x" * 9 * 1024 * 1024)
    code, says = expected
    scene.refuses(*command(scene, "open"), "--passphrase-file", file, code=code, says=says)


def test_no_terminal_to_ask(scene: Scene) -> None:
    wrapper = ("setsid", "--wait")
    says = "no terminal"
    scene.refuses(*command(scene, "open"), code=33, says=says, wrapper=wrapper)


def test_two_passphrases_from_one_input(scene: Scene) -> None:
    words = ("slot", "add", scene.image, "--passphrase-file", "-", "--new-passphrase-file", "-")
    scene.refuses(*words, code=2, says="only one passphrase can come from standard input")


def test_the_last_way_in_stays(scene: Scene) -> None:
    key = ("--passphrase-file", scene.operator.passphrase_file)
    slot = ("slot", "remove", scene.image, "--keyslot")
    scene.refuses(*slot, "0", *key, code=31, says="opens keyslot 0, which is the one to go")
    scene.operator.strongroom(*slot, "1", *key)
    scene.refuses(*slot, "0", *key, code=4, says="last way")
    scene.refuses(*slot, "1", *key, code=5, says="no keyslot 1")


NONSENSE: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "size without a unit that exists": (("--size", "1X"), "not a size"),
    "size with a fraction": (("--size", "1.5G"), "not a size"),
    "negative size": (("--size", "-1"), "not a size"),
    "size of zero": (("--size", "0"), "zero"),
    "size beyond Linux": (("--size", "9999999T"), "too large"),
    "size in words": (("--size", "large"), "not a size"),
    "sector of 8192": (("--size", "32M", "--sector-size", "8192"), "8192"),
    "key of 128 bits": (("--size", "32M", "--key-bits", "128"), "128"),
    "label too long": (("--size", "32M", "--label", "x" * 48), "label"),
    "unknown factor": (("--size", "32M", "--factors", "luck"), "luck"),
    "unknown KDF": (("--size", "32M", "--kdf", "md5"), "md5"),
    "no passes": (("--size", "32M", "--kdf-iterations", "0"), "0"),
}


@pytest.mark.parametrize(("options", "says"), NONSENSE.values(), ids=NONSENSE.keys())
def test_a_format_that_makes_no_sense(scene: Scene, options: tuple[str, ...], says: str) -> None:
    key = ("--no-recovery", "--passphrase-file", scene.operator.passphrase_file)
    scene.refuses("format", scene.path("new.img"), *options, *key, code=2, says=says)


@pytest.mark.parametrize("size", ["1", "4096", "16M"])
def test_a_size_that_holds_no_sector(scene: Scene, size: str) -> None:
    key = ("--no-recovery", "--passphrase-file", scene.operator.passphrase_file)
    words = ("format", scene.path("new.img"), "--size", size, *CHEAP_KDF, *key)
    scene.refuses(*words, code=44, says="needs at least")


def test_a_format_whose_passphrase_does_not_come_leaves_no_file(scene: Scene) -> None:
    words = ("format", scene.path("new.img"), "--size", "32M", "--no-recovery", *CHEAP_KDF)
    missing = ("--passphrase-file", scene.path("nowhere"))
    scene.refuses(*words, *missing, code=3, says="no such passphrase file")
    scene.refuses(*words, "--passphrase-file", "-", code=32, says="empty", stdin="\n")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "x" * 64, "a b", "v.lock", "\u00e9"])
def test_a_name_that_is_none(scene: Scene, name: str) -> None:
    key = ("--passphrase-file", scene.operator.passphrase_file)
    words = ("open", *NONE, *key, "--", scene.image, name)
    scene.refuses(*words, code=2, says="no volume name|name")

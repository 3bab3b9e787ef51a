# SPDX-License-Identifier: Apache-2.0
"""A change that cannot be remembered is not made; one that was made loses nothing by it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom._core import Secret, read_secret_file
from strongroom.errors import NoSpaceError
from strongroom.host import formatting, images, known_enclaves
from strongroom.host.contracts import FormatRequest, ImageReference, KdfChoice, Unlocking
from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, STRONGROOM, Operator

pytestmark = pytest.mark.system

PLATFORM: Final = 40
CHEAP: Final = KdfChoice("pbkdf2", iterations=1000)
HOW: Final = Unlocking()


class Passphrase:
    """The operator's, for everything."""

    attempts = 1

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        del prompt, confirm
        with self._file.open("rb") as file:
            return read_secret_file(file.fileno())


class Notices(list[str]):
    """What the operator is told."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Drop it."""

    def notice(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def machine(tmp_path: Path) -> Operator:
    """An operator with a state directory of its own."""
    return Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def volume(machine: Operator) -> Path:
    image = machine.place / "volume.img"
    machine.format(image, size="20M")
    return image


def fill(machine: Operator) -> None:
    """Let nothing be written any more, for root neither: no draft goes where a directory is."""
    (machine.place / "state/.known-enclaves.new/full").mkdir(parents=True)


def changes(machine: Operator) -> Iterator[tuple[str | Path, ...]]:
    key = ("--passphrase-file", machine.passphrase_file)
    new = ("--new-passphrase-file", machine.passphrase_file)
    image, recovery = machine.place / "volume.img", machine.place / "recovery"
    yield ("slot", "add", image, "--recovery", "--recovery-key-file", recovery, *key)
    yield ("slot", "add", image, *key, *new, *CHEAP_KDF)
    yield ("slot", "change", image, *key, *new, *CHEAP_KDF)
    yield ("slot", "remove", image, "--keyslot", "0", *key)
    yield ("reseal", image, *key)


def test_what_cannot_be_remembered_is_not_changed(machine: Operator, volume: Path) -> None:
    before = volume.read_bytes()
    fill(machine)
    for change in changes(machine):
        refused = machine.strongroom(*change, check=False)
        assert refused.returncode == PLATFORM, refused.stderr
        assert "known-enclaves" in refused.stderr
        assert volume.read_bytes() == before
    assert not (machine.place / "recovery").exists()
    with machine.opened(volume, "v") as opened:
        assert opened["epoch"] == 1


def test_what_cannot_be_remembered_is_not_made(machine: Operator) -> None:
    fill(machine)
    (machine.place / "state").chmod(0o700)
    new = machine.place / "new.img"
    key = ("--passphrase-file", machine.passphrase_file)
    refused = machine.strongroom("format", new, "--size", "20M", "--no-recovery", *key, check=False)
    assert refused.returncode == PLATFORM, refused.stderr
    assert not new.exists()


def test_a_plain_volume_that_is_known_needs_no_memory(machine: Operator) -> None:
    image = machine.place / "volume.img"
    machine.format(image, "--factors", "passphrase", size="20M")
    fill(machine)
    recovery, plain, *_ = changes(machine)
    for change in (recovery, plain):
        machine.strongroom(*change)


def test_a_volume_of_another_machine_is_remembered_as_such(
    machine: Operator, tmp_path: Path
) -> None:
    image, recovery = tmp_path / "volume.img", tmp_path / "recovery"
    uuid = machine.format(image, "--recovery-key-file", recovery, size="20M")["uuid"]
    with machine.opened(image, "v"):
        pass
    second = Operator(tmp_path, environment={"STRONGROOM_STATE_DIR": str(tmp_path / "second")})
    with second.opened(image, "v", "--passphrase-file", recovery) as opened:
        assert opened["authenticated"]

    def said_of_it(operator: Operator, *options: str) -> list[str]:
        findings = json.loads(operator.strongroom("doctor", *options, "--json").stdout)
        return [finding["found"] for finding in findings if finding["topic"] == f"volume {uuid}"]

    upgrade = ("--next", sys.executable)
    assert said_of_it(machine, *upgrade) == [f"the next enclave opens it; last used as {image}"]
    for options in ((), upgrade):
        (found,) = said_of_it(second, *options)
        assert "sealed to an enclave that is not here" in found
    second.strongroom("reseal", image, "--adopt", "--passphrase-file", recovery)
    assert said_of_it(second, *upgrade) == [f"the next enclave opens it; last used as {image}"]


# --- the last byte went between the look and the write --------------------------------------------


@pytest.fixture
def forgetful(machine: Operator, monkeypatch: pytest.MonkeyPatch) -> Notices:
    """Let every attempt to remember fail, though there was room a moment ago."""

    def remember(_: object) -> None:
        raise NoSpaceError("there is no room any more")

    monkeypatch.setenv("STRONGROOM_STATE_DIR", machine.environment["STRONGROOM_STATE_DIR"])
    monkeypatch.setenv("STRONGROOM_RUNTIME_DIR", str(machine.runtime))
    monkeypatch.setattr(known_enclaves, "remember", remember)
    return Notices()


def said(notices: Notices) -> None:
    (notice,) = (text for text in notices if "no room any more" in text)
    assert notice.startswith("the change was made")


def opens_with(machine: Operator, image: Path, key: Path) -> bool:
    options = ("--attach", "none", "--passphrase-file", key)
    done = machine.strongroom("open", image, "v", *options, check=False)
    machine.close("v", check=False)
    return done.returncode == 0


def test_a_recovery_key_is_delivered_first(
    machine: Operator, volume: Path, forgetful: Notices
) -> None:
    recovery = machine.place / "recovery"
    with recovery.open("wb") as file:
        added = images.add_keyslot(
            ImageReference(volume),
            Passphrase(machine.passphrase_file),
            None,
            forgetful,
            how=HOW,
            kdf=CHEAP,
            factors=None,
            keyslot=None,
            recovery_fd=file.fileno(),
        )
    assert added.kind == "recovery"
    said(forgetful)
    assert opens_with(machine, volume, recovery)


def test_a_recovery_key_that_is_lost_is_named(
    machine: Operator, volume: Path, forgetful: Notices
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(
        Exception, match="keyslot 1 was added, and its recovery key is lost"
    ) as lost:
        images.add_keyslot(
            ImageReference(volume),
            Passphrase(machine.passphrase_file),
            None,
            forgetful,
            how=HOW,
            kdf=CHEAP,
            factors=None,
            keyslot=None,
            recovery_fd=writer,
        )
    os.close(writer)
    assert "`strongroom slot remove IMAGE --keyslot 1`" in getattr(lost.value, "hint", "")
    said(forgetful)


def test_every_other_change_says_that_it_was_made(
    machine: Operator, volume: Path, forgetful: Notices
) -> None:
    key, image = Passphrase(machine.passphrase_file), ImageReference(volume)
    for _ in range(2):
        images.change_keyslot(image, key, key, forgetful, how=HOW, kdf=CHEAP, keyslot=None)
        said(forgetful)
        forgetful.clear()
    images.add_keyslot(
        image,
        key,
        key,
        forgetful,
        how=HOW,
        kdf=CHEAP,
        factors=None,
        keyslot=5,
        recovery_fd=None,
    )
    forgetful.clear()
    images.remove_keyslot(image, key, forgetful, how=HOW, keyslot=5)
    said(forgetful)


def test_a_volume_appears_and_so_does_its_recovery_key(
    machine: Operator, forgetful: Notices
) -> None:
    new, recovery = machine.place / "new.img", machine.place / "recovery"
    with recovery.open("wb") as file:
        formatting.format_volume(
            FormatRequest(
                ImageReference(new), CHEAP, size_bytes=20 << 20, recovery_fd=file.fileno()
            ),
            Passphrase(machine.passphrase_file),
            forgetful,
        )
    said(forgetful)
    assert opens_with(machine, new, recovery)


def test_a_header_is_durable_before_its_epoch_is_remembered(
    machine: Operator, volume: Path, tmp_path: Path
) -> None:
    """After a power cut an epoch that was remembered too early would refuse what is left."""
    require_tools("strace")
    trace = tmp_path / "trace"
    (machine.place / "state/known-enclaves").unlink()
    tracing: list[str | Path] = ["strace", "-f", "-y", "-o", trace, "-e"]
    opening = ("open", volume, "traced", "--attach", "none", "--read-only")
    key = ("--passphrase-file", machine.passphrase_file)
    with subprocess.Popen(
        [*tracing, "trace=fsync,fdatasync,/rename", STRONGROOM, *opening, *key],
        env={
            **os.environ,
            **machine.environment,
            "STRONGROOM_RUNTIME_DIR": str(machine.runtime),
        },
        stdout=subprocess.DEVNULL,
    ) as traced:
        try:
            deadline = time.monotonic() + 60
            while not (machine.place / "state/known-enclaves").exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            machine.close("traced", "--force", check=False)
            traced.wait(timeout=60)
    lines = trace.read_text().splitlines()
    synced = next(at for at, line in enumerate(lines) if f"<{volume}>) = 0" in line)
    remembered = next(at for at, line in enumerate(lines) if '"known-enclaves") = 0' in line)
    assert synced < remembered

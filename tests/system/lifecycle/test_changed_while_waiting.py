# SPDX-License-Identifier: Apache-2.0
"""A volume that waits for its key opens with the keyslots that are on the disk when it is given."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.errors import KeyslotStateError, WrongPassphraseError
from tests.harness import CHEAP_KDF, STOCK, Operator, has_ended
from tests.system.crash.remains import await_true, end_all, remains
from tests.system.crash.victims import started
from tests.system.lifecycle.test_waiting_prompts import Typed

pytestmark = pytest.mark.system

NEW: Final = "another passphrase"
NAME: Final = "waits"


@pytest.fixture(params=["stock", "enrolled"])
def image(operator: Operator, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = operator.place / "image"
    operator.format(path, *(STOCK if request.param == "stock" else ()), size="20M")
    yield path
    end_all(operator.place)


def change(operator: Operator, image: Path) -> Path:
    """Change the passphrase, and return a file with the new one."""
    new = operator.place / "new"
    new.write_text(NEW)
    old = ("--passphrase-file", operator.passphrase_file)
    operator.strongroom("slot", "change", image, *old, "--new-passphrase-file", new, *CHEAP_KDF)
    return new


def listed(operator: Operator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(operator.strongroom("list", "--json").stdout)
    return found


def give(operator: Operator, file: Path) -> subprocess.CompletedProcess[str]:
    return operator.strongroom("setkey", NAME, "--passphrase-file", file, check=False)


def await_waiting(operator: Operator) -> int:
    """Wait until the volume waits for its key, and return its enclave."""
    await_true(lambda: [item["state"] for item in listed(operator)] == ["waiting for key"], "")
    enclave: int = listed(operator)[0]["enclave_pid"]
    return enclave


def test_the_keyslots_of_now_open_it(operator: Operator, image: Path) -> None:
    with started(operator, "serve", image, NAME, "--wait-for-key", "--attach", "none") as process:
        first = await_waiting(operator)
        new = change(operator, image)
        gone = give(operator, operator.passphrase_file)
        assert gone.returncode == WrongPassphraseError.exit_code, gone.stderr
        second = await_waiting(operator)
        assert second != first
        assert has_ended(first)
        opened = give(operator, new)
        assert opened.returncode == 0, opened.stderr
        status = operator.facts("status", NAME)
        assert (status["state"], status["enclave_pid"]) == ("open", second)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert remains(operator.place, NAME) == []


def test_the_death_of_the_second_enclave_is_seen(operator: Operator, image: Path) -> None:
    with started(operator, "serve", image, NAME, "--wait-for-key", "--attach", "none") as process:
        first = await_waiting(operator)
        new = change(operator, image)
        give(operator, operator.passphrase_file)
        second = await_waiting(operator)
        assert give(operator, new).returncode == 0
        assert first != second
        os.kill(second, signal.SIGKILL)
        assert process.wait(60) != 0
    assert remains(operator.place, NAME) == []


def test_a_change_while_a_person_types(operator: Operator, image: Path) -> None:
    typed = Typed(operator, "open", image, NAME, "--attach", "none")
    typed.wait_for_prompt()
    change(operator, image)
    typed.answer(operator.passphrase)
    assert typed.ended() == KeyslotStateError.exit_code, typed.shown
    assert "has changed since it was read" in typed.shown
    assert listed(operator) == []
    assert remains(operator.place, NAME) == []

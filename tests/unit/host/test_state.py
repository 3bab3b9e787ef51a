# SPDX-License-Identifier: Apache-2.0
"""Where state is kept, for whom."""

import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from strongroom.errors import PlatformError
from strongroom.host.state import state_directory

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRONGROOM_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")


@pytest.mark.parametrize("chosen", [None, ""])
@pytest.mark.parametrize(
    ("user", "xdg", "expected"),
    [
        (0, None, "/var/lib/strongroom"),
        (0, "/x/state", "/var/lib/strongroom"),
        (1000, None, "/home/somebody/.local/state/strongroom"),
        (1000, "", "/home/somebody/.local/state/strongroom"),
        (1000, "state", "/home/somebody/.local/state/strongroom"),
        (1000, "./state", "/home/somebody/.local/state/strongroom"),
        (1000, "/x/state", "/x/state/strongroom"),
    ],
)
def test_each_user_has_a_place(
    monkeypatch: pytest.MonkeyPatch,
    *,
    chosen: str | None,
    user: int,
    xdg: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if xdg is not None:
        monkeypatch.setenv("XDG_STATE_HOME", xdg)
    if chosen is not None:
        monkeypatch.setenv("STRONGROOM_STATE_DIR", chosen)
    assert state_directory() == Path(expected)


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("chosen", ["/y/state", "state"])
def test_the_operator_may_choose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, chosen: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    monkeypatch.setenv("STRONGROOM_STATE_DIR", chosen)
    assert state_directory() == tmp_path / chosen
    assert list(tmp_path.iterdir()) == []


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(PlatformError, match="user 54321 has no home") as refusal:
        state_directory()
    assert "STRONGROOM_STATE_DIR" in refusal.value.hint
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    assert state_directory() == Path("/x/state/strongroom")

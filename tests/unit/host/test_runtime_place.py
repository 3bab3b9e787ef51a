# SPDX-License-Identifier: Apache-2.0
"""Where the runtime directory is, for whom, and what is said when it cannot be used."""

import errno
import os
from pathlib import Path

import pytest

from strongroom.errors import NoPermissionError, NoSpaceError, PlatformError, StrongroomError
from strongroom.host.runtime import place

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRONGROOM_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("user", "chosen", "xdg", "expected"),
    [
        (0, None, None, "/run/strongroom"),
        (0, "", "/run/user/0", "/run/strongroom"),
        (0, "/x/run", None, "/x/run"),
        (1000, None, "/run/user/1000", "/run/user/1000/strongroom"),
        (1000, "/x/run", "/run/user/1000", "/x/run"),
        (1000, "run", None, str(Path.cwd() / "run")),
    ],
)
def test_each_user_has_a_place(
    monkeypatch: pytest.MonkeyPatch,
    *,
    user: int,
    chosen: str | None,
    xdg: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name, value in (("STRONGROOM_RUNTIME_DIR", chosen), ("XDG_RUNTIME_DIR", xdg)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert place.root() == Path(expected)


@pytest.mark.parametrize("xdg", [None, "", "run/user/1000", "./run"])
def test_a_user_without_a_place_is_told(monkeypatch: pytest.MonkeyPatch, xdg: str | None) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if xdg is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    with pytest.raises(NoPermissionError, match="XDG_RUNTIME_DIR is not set") as refused:
        place.root()
    assert refused.value.hint == "export STRONGROOM_RUNTIME_DIR=~/.strongroom-run"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EROFS, NoPermissionError),
        (errno.EACCES, NoPermissionError),
        (errno.EIO, PlatformError),
    ],
)
def test_an_error_of_the_system_is_one_of_ours(number: int, kind: type[StrongroomError]) -> None:
    found = place.refused(OSError(number, os.strerror(number)), Path("/x/a b"))
    assert type(found) is kind
    assert os.strerror(number) in found.message
    if kind is NoSpaceError:
        assert found.hint.endswith("df '/x/a b'")


@pytest.mark.parametrize(
    ("user", "chosen", "hint"),
    [
        (0, None, "export STRONGROOM_RUNTIME_DIR=/root/strongroom-run"),
        # A host process is always told where, also where it would look by itself.
        (0, "/run/strongroom", "export STRONGROOM_RUNTIME_DIR=/root/strongroom-run"),
        (0, "/x", "unset STRONGROOM_RUNTIME_DIR"),
        (1000, "/x", "export STRONGROOM_RUNTIME_DIR=~/.strongroom-run"),
    ],
)
def test_the_hint_names_another_place(
    monkeypatch: pytest.MonkeyPatch, user: int, chosen: str | None, hint: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if chosen is not None:
        monkeypatch.setenv("STRONGROOM_RUNTIME_DIR", chosen)
    assert place.refused(OSError(errno.EROFS, "read-only"), Path("/x")).hint == hint

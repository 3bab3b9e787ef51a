# SPDX-License-Identifier: Apache-2.0
"""Directories come and go, programs that fail are said to, and nobody has to interrupt twice."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.bench.comparison import Comparison
from strongroom.bench.groups import Group
from strongroom.bench.measuring import Settings, measure
from strongroom.bench.place import (
    PACKAGES,
    CommandError,
    Place,
    interrupted_once,
    place_in,
    require,
)
from strongroom.bench.run import Run
from strongroom.bench.servers import (
    CONTESTANTS,
    OURS,
    Contestant,
    Server,
    make_plain,
    serve_by,
)
from strongroom.errors import DiskError, NoSpaceError, NotFoundError, UnavailableError
from strongroom.units import MIB

pytestmark = pytest.mark.unit


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.progressed: list[tuple[str, int, int]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.progressed.append((stage, done, total))

    def notice(self, text: str) -> None:
        self.told.append(text)


def run_in(place: Place, report: Notes) -> Run:
    return Run("group", place, 2, 0.05, MIB, report)


def test_nothing_of_a_place_stays(tmp_path: Path) -> None:
    with place_in(tmp_path) as place:
        (place.images / "image").write_bytes(b"x")
        assert place.images.parent == tmp_path
        assert place.key_file.stat().st_mode & 0o077 == 0
        root = place.root
    assert list(tmp_path.iterdir()) == []
    assert not root.exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError), place_in(tmp_path / "none"):
        pass


def test_programs_that_fail_say_why(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    with pytest.raises(CommandError, match="exited with 3: it broke"):
        place.run("sh", "-c", "echo it broke >&2; exit 3")
    with pytest.raises(CommandError, match="cannot run no-such-program"):
        place.run("no-such-program")
    assert place.run("sh", "-c", "exit 3", check=False).returncode == 3
    assert place.run("cat", given="told").stdout == "told"


def test_what_is_missing_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.bench.place.SYSTEM_PATH", "/nonexistent")
    with pytest.raises(UnavailableError) as caught:
        require("fio")
    assert caught.value.hint == "apt-get install fio"


def test_every_program_that_a_contestant_needs_has_a_package() -> None:
    assert {program for one in CONTESTANTS for program in one.needs} <= set(PACKAGES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_does_not_disturb_the_cleaning(number: signal.Signals) -> None:
    cleaned = False
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupted_once():  # noqa: PT012 - the inside is meant
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned = True
    assert cleaned
    assert signal.getsignal(number) is before


def test_a_contestant_that_does_not_start_is_left_out_and_ours_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, report = Place(tmp_path, tmp_path), Notes()
    broken = Contestant.by_command("broken", make_plain, ("sh",), "sh", "-c", "exit 1")
    absent = Contestant("absent", make_plain, broken.serve, ("no-such-program",))
    ours = Contestant(OURS, make_plain, serve_nothing)
    monkeypatch.setitem(PACKAGES, "no-such-program", "package")
    with run_in(place, report).serving((ours, broken, absent)) as servers:
        assert list(servers) == [OURS]
    assert report.told == [
        "absent is left out: no-such-program is not installed (apt-get install package)",
        "broken is left out: broken does not answer",
    ]
    with pytest.raises(CommandError), run_in(place, report).serving((broken,)):
        pass


def serve_nothing(place: Place, image: Path, size_bytes: int, /) -> contextlib.nullcontext[Server]:
    del place, image
    return contextlib.nullcontext(Server(OURS, "nbd://", (), size_bytes))


def test_what_was_measured_before_an_error_stays_and_the_next_group_follows(
    tmp_path: Path,
) -> None:
    report = Notes()

    def half(run: Run) -> Iterator[Comparison]:
        run.expect(2)
        yield Comparison(run.group, "first", "s", {OURS: [1.0]})
        raise DiskError("it broke", hint="mend it")

    def whole(run: Run) -> Iterator[Comparison]:
        yield Comparison(run.group, "second", "s", {OURS: [float(run.rounds), run.seconds]})

    groups = {"half": Group(half, ""), "curve": Group(whole, "", is_curve=True)}
    settings = Settings(5, 1.0, MIB, tmp_path)
    first, second = measure(tuple(groups), settings, report, groups)
    assert [one.measure for one in first.comparisons] == ["first"]
    assert first.left_out == ["half is left out: it broke"]
    assert second.comparisons[0].values == {OURS: [3.0, 0.3]}
    assert report.progressed == [("half", 0, 2)]
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_said_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(1, 0.1, 1 << 60, tmp_path)
    with pytest.raises(NoSpaceError, match="MiB are needed"):
        list(measure(("nbd",), settings, Notes()))


def test_a_server_that_ends_does_not_answer(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    command = (sys.executable, "-c", "raise SystemExit(1)")
    with (
        pytest.raises(CommandError, match="short does not answer"),
        serve_by(place, tmp_path / "x.img", MIB, name="short", command=command),
    ):
        pass

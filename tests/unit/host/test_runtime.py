# SPDX-License-Identifier: Apache-2.0
"""Names of volumes: one holder at a time, whatever races and whoever died."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom._override import override
from strongroom.errors import AlreadyOpenError, NotOpenError, UsageError
from strongroom.host import attach, control, runtime
from strongroom.host.attach.record import process_started
from strongroom.host.runtime import Record, VolumeDirectory, claim, is_alive, sweep, volumes
from strongroom.host.silence import Silent
from strongroom.host.volumes import list_volumes

pytestmark = pytest.mark.unit

RACERS: Final = 4
RACE_SECONDS: Final = 2.0


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of the test's own, on a machine without devices to look for."""
    monkeypatch.setenv("STRONGROOM_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(attach, "find_orphans", lambda *_, **__: ())
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["a", "0", "A-b_c.d", "x" * 63, "lock", "a.locked"])
def test_a_name_is_a_name(name: str) -> None:
    assert runtime.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "_a", "a/b", "/a", "a\n", "a\0", "é", "x" * 64, "a.lock", "a b"],
)
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        runtime.check_name(name)
    with pytest.raises(UsageError):
        claim(name)


def swept() -> tuple[str, ...]:
    """Clean up, and return what was said about it."""
    said: list[str] = []

    class Report(Silent):
        @override
        def notice(self, text: str) -> None:
            said.append(text)

    sweep(Report())
    return tuple(said)


def test_a_name_has_one_holder(root: Path) -> None:
    with claim("one") as held:
        assert held.directory.path.stat().st_mode & 0o777 == 0o700
        assert is_alive(held.directory)
        assert [directory.name for directory in volumes()] == ["one"]
        with pytest.raises(AlreadyOpenError):
            claim("one")
        with claim("two"):
            assert [directory.name for directory in volumes()] == ["one", "two"]
        assert swept() == ()
        assert held.directory.path.is_dir()

    assert list(root.iterdir()) == []
    assert not is_alive(VolumeDirectory("one"))
    with claim("one"):
        pass


def test_a_refused_claim_keeps_no_descriptor() -> None:
    with claim("one"):
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            with pytest.raises(AlreadyOpenError):
                claim("one")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("with_lock", [False, True])
@pytest.mark.parametrize("clean", [swept, lambda: claim("dead").release()])
def test_what_a_dead_host_left_is_removed(
    root: Path, clean: Callable[[], object], *, with_lock: bool
) -> None:
    directory = VolumeDirectory("dead")
    directory.path.mkdir(parents=True)
    (directory.path / "control.sock").touch()
    (directory.path / "record.json").write_text('{"open": true}')
    if with_lock:
        directory.lock.touch()
    assert not is_alive(directory)
    assert volumes() == ()

    clean()

    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "7", "\udcff", "[" * 100_000, "1" * 70_000),
        *('{"enclave_pid": "x"}', '{"enclave_pid": -1}', '{"enclave_pid": true}'),
        '{"enclave_pid": 1e400, "enclave_started": 1}',
        '{"enclave_pid": 99999999999999999999, "enclave_started": 1}',
        '{"kind": "fuse", "fuse_directory": "/", "device": "/dev/null", "tag": 7, "link": "/"}',
        '{"kind": "nbd", "index": 99999999999999999999, "tag": "strongroom:a:b:c"}',
        '{"kind": "fuse", "helper_pid": 99999999999999999999, "helper_started": 1}',
        json.dumps({"kind": "fuse", "fuse_directory": f"/{'x' * 5000}/fuse/a"}),
        json.dumps({"kind": "fuse", "device": f"/{'x' * 5000}", "link": f"/{'x' * 5000}"}),
    ],
)
def test_a_broken_record_is_removed_like_any_other(root: Path, text: str) -> None:
    directory = VolumeDirectory("dead")
    directory.path.mkdir(parents=True)
    (directory.path / "record.json").write_text(text, errors="surrogateescape")

    swept()

    assert list(root.iterdir()) == []


def write_record(directory: VolumeDirectory, record: Record) -> None:
    (directory.path / "record.json").write_text(json.dumps(record))


def test_a_kept_log_is_named_until_the_name_is_closed_in_order(root: Path) -> None:
    directory = VolumeDirectory("dead")
    directory.path.mkdir(parents=True)
    directory.log.write_text("last words\n")
    words = f"dead ended without being closed; its log is kept in {root / '.dead.log'}"
    assert swept() == (words,)
    assert swept() == ()
    assert directory.kept_log.read_text() == "last words\n"
    assert runtime.kept_logs() == (directory,)
    with pytest.raises(NotOpenError) as caught, control.reached(directory):
        pass
    assert caught.value.hint == words
    with claim("dead") as held:
        assert runtime.kept_logs() == (directory,)
        held.forget_log()
    assert runtime.kept_logs() == ()


def test_a_process_that_only_has_the_pid_of_a_dead_enclave_lives_on() -> None:
    directory = VolumeDirectory("dead")
    directory.path.mkdir(parents=True)
    started = process_started(os.getpid())
    write_record(directory, {"enclave_pid": os.getpid(), "enclave_started": started + 1})

    assert swept() == ()
    assert not directory.path.exists()


def test_an_enclave_without_its_host_is_ended() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    directory = VolumeDirectory("dead")
    directory.path.mkdir(parents=True)
    write_record(directory, {"enclave_pid": child, "enclave_started": process_started(child)})

    assert swept() == (f"cleaned up after a crash of dead: enclave process {child}",)
    assert os.waitpid(child, 0)[1] == 9


def test_a_record_is_replaced_whole() -> None:
    with claim("one") as held:
        for number in range(3):
            held.write_record({"number": number})
            assert held.directory.read_record() == {
                "number": number,
                "host_pid": os.getpid(),
                "host_started": process_started(os.getpid()),
            }
        assert {path.name for path in held.directory.path.iterdir()} == {"record.json"}


def test_a_lock_on_a_file_that_was_unlinked_is_no_lock(root: Path) -> None:
    root.mkdir(parents=True)
    directory = VolumeDirectory("one")
    old = os.open(directory.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(old, fcntl.LOCK_EX)
    directory.lock.unlink()

    with claim("one"):
        with pytest.raises(AlreadyOpenError):
            claim("one")
        assert is_alive(directory)
    os.close(old)


@pytest.mark.usefixtures("root")
def test_a_volume_whose_processes_have_not_said_is_starting() -> None:
    with claim("one") as held:
        assert listing() == [("one", "starting", "", 0)]
        record: Record = {"image": "/srv/v"}
        held.write_record(record)
        own = os.getpid()
        assert listing() == [("one", "starting", "/srv/v", own)]
        # From then on it is asked, and this process does not answer.
        held.write_record({**record, "open": False, "enclave_pid": 8})
        assert listing() == [("one", "not answering", "/srv/v", own)]
        held.write_record({**record, "state": "enclave ended", "enclave_pid": 8})
        assert listing() == [("one", "enclave ended", "/srv/v", own)]


def listing() -> list[tuple[str, str, str, int]]:
    return [(item.name, item.state, item.image, item.host_pid) for item in list_volumes(Silent())]


def test_a_path_too_long_for_a_socket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(UsageError, match="too long"):
        claim("one")
    assert not (tmp_path / ("x" * 100)).exists()


def test_never_two_holders(tmp_path: Path) -> None:
    """Claim, release and sweep from several processes at once; each holder looks for another."""
    witness = tmp_path / "witness"
    children = [_race(witness, number) for number in range(RACERS)]
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    counts = [json.loads((tmp_path / f"witness.{n}").read_text()) for n in range(RACERS)]
    assert sum(counts) > RACERS


def _race(witness: Path, number: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        witness.with_suffix(f".{number}").write_text(json.dumps(_claim_often(witness)))
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


def _claim_often(witness: Path) -> int:
    held = 0
    deadline = time.monotonic() + RACE_SECONDS
    while time.monotonic() < deadline:
        if held % 7 == 3:
            swept()
            volumes()
        try:
            with claim("contested"):
                # Fails if somebody else is between these two lines.
                witness.mkdir()
                witness.rmdir()
                held += 1
        except AlreadyOpenError:
            continue
    return held

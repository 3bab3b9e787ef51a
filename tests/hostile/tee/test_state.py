# SPDX-License-Identifier: Apache-2.0
"""A state directory that others touched, or that two enclaves make at once."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest

from strongroom import tee
from strongroom._core import Secret
from strongroom.errors import TeeError
from strongroom.tee.process import platform, store
from strongroom.tee.process.signature import sign
from strongroom.tee.process.store import Store
from tests.conftest import require_root
from tests.unit.tee.scene import ROOT, SOURCES, START, secret, start

pytestmark = pytest.mark.hostile

MAKERS: Final = 8
ROUNDS: Final = 20
STARTS: Final = 4
NOBODY: Final = 65534


def make(state: Path, content: bytes = ROOT) -> Path:
    """Make a state directory with a root secret as it must be."""
    (state / "process").mkdir(mode=0o700, parents=True)
    root = state / "process/root"
    root.write_bytes(content)
    root.chmod(0o600)
    return root


def read(state: Path) -> Secret:
    with Store(state, create=False) as store:
        return platform.root_secret(store, create=False)


def test_a_good_one_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    assert read(tmp_path).equals(secret(ROOT))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_another_size_is_refused(tmp_path: Path, size: int) -> None:
    make(tmp_path, bytes(size))
    with pytest.raises(TeeError, match=f"has {size} bytes instead of 32") as refusal:
        read(tmp_path)
    assert refusal.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
def test_what_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    make(tmp_path).chmod(mode)
    with pytest.raises(TeeError, match=f"others may .*root: its mode is {mode:04o}") as refusal:
        read(tmp_path)
    assert "chmod" in refusal.value.hint


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o710])
def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    make(tmp_path).parent.chmod(mode)
    with pytest.raises(TeeError, match="others may"):
        read(tmp_path)


@pytest.mark.parametrize(("mode", "good"), [(0o755, True), (0o775, False), (0o757, False)])
def test_a_state_directory_that_others_may_change_is_refused(
    tmp_path: Path, mode: int, *, good: bool
) -> None:
    state = tmp_path / "state"
    make(state)
    state.chmod(mode)
    if good:
        assert read(state).equals(secret(ROOT))
    else:
        with pytest.raises(TeeError, match="others may change"):
            read(state)


@pytest.mark.parametrize("name", ["process/root", "process", "."])
def test_another_owner_is_refused(tmp_path: Path, name: str) -> None:
    require_root()
    state = tmp_path / "state"
    make(state)
    os.chown(state / name, NOBODY, NOBODY)
    with pytest.raises(TeeError, match=f"belongs to user {NOBODY}"):
        read(state)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_not_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    root = make(tmp_path)
    good = root.rename(tmp_path / "elsewhere")
    if kind == "link":
        root.symlink_to(good)
    elif kind == "fifo":
        os.mkfifo(root, 0o600)
    else:
        root.mkdir(mode=0o700)
    with pytest.raises(TeeError, match=r"cannot open|is not a regular file"):
        read(tmp_path)


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere")
    (tmp_path / "process").symlink_to(tmp_path / "elsewhere/process")
    with pytest.raises(TeeError, match="cannot use"):
        read(tmp_path)


def test_a_signed_identity_that_others_may_change_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        path = store.path / "document"
        path.write_bytes(b"signed")
        path.chmod(0o664)
        with pytest.raises(TeeError, match="others may change"):
            store.document("document", 10)
        path.chmod(0o644)
        assert store.document("document", 6) == b"signed"
        with pytest.raises(TeeError, match="longer than 5"):
            store.document("document", 5)


def test_a_client_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TeeError, match="cannot use"):
        tee.verify_report("process", bytes(193), tmp_path / "state")
    with Store(tmp_path, create=True):
        pass
    with pytest.raises(TeeError, match="there is no"):
        tee.verify_report("process", bytes(193), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "new/state"
    old = os.umask(0)
    try:
        start(state)
    finally:
        os.umask(old)
    found = {str(p.relative_to(state)): p.stat().st_mode & 0o7777 for p in state.rglob("*")}
    files = {f"process/{name}": 0o600 for name in ("root", "signer", "started")}
    assert found == {"process": 0o700, **files}
    assert state.stat().st_mode & 0o7777 == 0o700
    root, signer = (state / "process/root").read_bytes(), (state / "process/signer").read_bytes()
    assert len(root) == len(signer) == 32
    assert root != signer


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_of_several_makers_one_wins(tmp_path: Path, attempt: int) -> None:
    state = tmp_path / str(attempt)
    barrier = threading.Barrier(MAKERS)
    roots: list[Secret] = []

    def first_start() -> None:
        barrier.wait()
        with Store(state, create=True) as store:
            roots.append(platform.root_secret(store, create=True))

    makers = [threading.Thread(target=first_start) for _ in range(MAKERS)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(roots) == MAKERS
    assert all(root.equals(read(state)) for root in roots)
    assert [path.name for path in (state / "process").iterdir()] == ["root"]


def test_first_starts_at_once_agree(tmp_path: Path) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(SOURCES), str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for _ in range(STARTS)
    ]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in starting]
    assert all(one == said[0] for one in said)
    assert tee.verify_report("process", bytes.fromhex(said[0]["report"]), tmp_path).genuine
    assert {path.name for path in (tmp_path / "process").iterdir()} == {"root", "signer", "started"}


# --- what is made once ----------------------------------------------------------------------------


def refusal(state: Path) -> str:
    """Return why an enclave does not start."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", START, str(SOURCES), str(state)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    return done.stderr


def test_a_first_start_that_is_stopped_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.1)
    with Store(tmp_path, create=True) as stopped, Store(tmp_path, create=True) as other:
        fcntl.flock(stopped._fd, fcntl.LOCK_EX)
        with pytest.raises(TeeError, match="another process holds"), other.first_start():
            pass


@pytest.mark.parametrize("also", [(), ("started",), ("signer",)])
def test_a_lost_root_is_not_made_again(tmp_path: Path, also: tuple[str, ...]) -> None:
    first = start(tmp_path)
    process = tmp_path / "process"
    root = (process / "root").read_bytes()
    for name in ("root", *also):
        (process / name).unlink()
    for _ in range(2):
        assert "there is no" in refusal(tmp_path)
        assert not (process / "root").exists()
    with (
        pytest.raises(TeeError, match=r"there is no .*root") as lost,
        Store(tmp_path, create=True) as store,
        store.first_start() as is_first,
    ):
        platform.root_secret(store, create=is_first)
    assert "from a backup" in lost.value.hint
    if "signer" not in also:
        (process / "root").write_bytes(root)
        (process / "root").chmod(0o600)
        assert start(tmp_path) == first


def test_with_signatures_alone_a_machine_starts_for_the_first_time_once(tmp_path: Path) -> None:
    measurement = bytes.fromhex(start(tmp_path / "elsewhere")["measurement"])
    process = tmp_path / "process"
    (process / "signatures").mkdir(mode=0o700, parents=True)
    process.chmod(0o700)
    signed = sign(secret(ROOT), measurement, product_id=1, security_version=1)
    (process / "signatures" / f"{measurement.hex()}.json").write_bytes(signed.document())
    start(tmp_path)
    assert {path.name for path in process.iterdir()} == {"root", "signatures", "started"}
    (process / "root").unlink()
    assert "there is no" in refusal(tmp_path)


def cut_short(state: Path, cut_after: str) -> None:
    with Store(state, create=True) as store, store.first_start() as is_first:
        assert is_first
        if cut_after != "nothing":
            store.make_secret("root")
        if cut_after == "signer":
            store.make_secret("signer")
        raise KeyboardInterrupt


@pytest.mark.parametrize("cut_after", ["nothing", "root", "signer"])
def test_a_first_start_that_was_cut_short_is_repeated(tmp_path: Path, cut_after: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        cut_short(tmp_path, cut_after)
    made = {path.name: path.read_bytes() for path in (tmp_path / "process").iterdir()}
    assert start(tmp_path) == start(tmp_path)
    now = {path.name: path.read_bytes() for path in (tmp_path / "process").iterdir()}
    assert now.keys() == {"root", "signer", "started"}
    assert {name: now[name] for name in made if name != ".starting"} == {
        name: content for name, content in made.items() if name != ".starting"
    }


def test_a_machine_of_an_earlier_version_has_started(tmp_path: Path) -> None:
    first = start(tmp_path)
    mark = tmp_path / "process/started"
    mark.unlink()
    (tmp_path / "process/signer").rename(tmp_path / "signer")
    assert "nobody signed" in refusal(tmp_path)
    (tmp_path / "signer").rename(tmp_path / "process/signer")
    assert start(tmp_path) == first
    assert mark.exists()

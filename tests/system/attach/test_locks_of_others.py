# SPDX-License-Identifier: Apache-2.0
"""A program of another user that may read an image locks it: the refusal names that program."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import AlreadyOpenError
from strongroom.host.target import HeaderLock, Hold, open_image
from strongroom.host.target.hold import ensure_header_may_change
from tests.conftest import require_root

pytestmark = pytest.mark.system

PROGRAM: Final = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
start = int(sys.argv[3])
flock = struct.pack("hhqqi0q", fcntl.F_RDLCK, 0, start, 0, 0)
if sys.argv[2] == "flock":
    fcntl.flock(fd, fcntl.LOCK_SH)
else:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK if sys.argv[2] == "ofd" else fcntl.F_SETLK, flock)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    require_root()
    path = tmp_path / "image"
    path.touch(mode=0o644)
    os.truncate(path, 1 << 20)
    return path


@contextlib.contextmanager
def locked(image: Path, kind: str, start: int = 0) -> Iterator[int]:
    command = (sys.executable, "-I", "-c", PROGRAM, str(image), kind, str(start))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield other.pid
        other.stdin.close()


@pytest.mark.parametrize("kind", ["ofd", "posix"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_on_all_of_an_image(image: Path, kind: str, *, shared: bool) -> None:
    fd = open_image(image, read_only=shared)
    with locked(image, kind) as pid:
        if shared:
            with Hold(fd, path=image, shared=True):
                pass
        else:
            with pytest.raises(AlreadyOpenError) as caught:
                Hold(fd, path=image, shared=False)
            assert caught.value.message.startswith(f"{image} is locked by process {pid} (python")
            assert caught.value.message.endswith(" of user nobody")
            assert "strongroom list" not in caught.value.hint
        with pytest.raises(AlreadyOpenError, match=f"is locked by process {pid}"):
            ensure_header_may_change(fd, image)
    with Hold(fd, path=image, shared=shared):
        pass
    ensure_header_may_change(fd, image)


def test_a_lock_like_that_of_an_open_volume(image: Path) -> None:
    fd = open_image(image, read_only=False)
    with locked(image, "ofd", (1 << 62) + 0x5372) as pid, pytest.raises(AlreadyOpenError) as caught:
        Hold(fd, path=image, shared=False)
    assert caught.value.hint.startswith(f"not by this account: by process {pid} ")


def test_a_flock_of_a_header(image: Path) -> None:
    fd = open_image(image, read_only=False)
    with locked(image, "flock") as pid, pytest.raises(AlreadyOpenError) as caught:
        HeaderLock(fd, path=image, wait_seconds=0.1)
    assert f"the header of {image} is locked by process {pid} (python" in caught.value.message
    with HeaderLock(fd, path=image):
        pass

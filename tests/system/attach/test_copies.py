# SPDX-License-Identifier: Apache-2.0
"""A new mount namespace has copies of all mounts: they keep a device that nobody here uses."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import MountedError
from strongroom.host.attach import Attached, detach

from .conftest import Bench, require, run

pytestmark = pytest.mark.system


@contextlib.contextmanager
def namespace_for(seconds: float) -> Iterator[None]:
    """Keep copies of all mounts for a while, or until the end of the block."""
    script = f"echo copied && exec sleep {seconds}"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"copied\n"
        try:
            yield
        finally:
            other.kill()


def mounted(bench: Bench) -> tuple[Attached, Path]:
    require("unshare", "mkfs.ext4")
    bench.serve()
    attached = bench.attach()
    assert attached.backend is not None
    run("mkfs.ext4", "-q", attached.backend.block_device)
    return attached, bench.mount(attached)


def test_copies_that_go_soon_are_waited_for(bench: Bench) -> None:
    """As of a service or a container that is starting. An enclave empties its own at once."""
    attached, point = mounted(bench)
    with namespace_for(1.0):
        run("umount", point)
        detach(attached, force=False)
    assert bench.leftovers() == []


def test_copies_that_stay_are_said_to_be_there(bench: Bench) -> None:
    attached, point = mounted(bench)
    with namespace_for(60):
        run("umount", point)
        with pytest.raises(MountedError, match="another mount namespace"):
            detach(attached, force=False)
    detach(attached, force=False)
    assert bench.leftovers() == []

# SPDX-License-Identifier: Apache-2.0
"""A helper whose host dies before the helper could ask to be told must not live on."""

import os
import subprocess
import sys
from pathlib import Path

from strongroom.host.attach import nbdfuse
from tests.conftest import require_tools

ORPHANED = """
import os, sys, time
from strongroom.host.attach import nbdfuse
prefix = nbdfuse._ending_with_this_process()
if os.fork() == 0:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.01)
    os.execvp(prefix[0], [*prefix, "touch", sys.argv[1]])
"""
"""Start a helper whose parent, which it was told, is gone by the time it starts."""


def test_a_helper_whose_host_is_gone_does_not_start(tmp_path: Path) -> None:
    require_tools("setpriv")
    # The pipe is closed when the last of them has ended.
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-c", ORPHANED, str(tmp_path / "started")]
    subprocess.run(command, check=True, pass_fds=(writer,), timeout=30)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert not (tmp_path / "started").exists()


def test_a_helper_whose_host_lives_starts(tmp_path: Path) -> None:
    require_tools("setpriv")
    command = [*nbdfuse._ending_with_this_process(), "touch", str(tmp_path / "started")]
    subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "started").exists()

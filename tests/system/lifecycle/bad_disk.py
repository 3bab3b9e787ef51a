# SPDX-License-Identifier: Apache-2.0
"""A disk below an image that stops answering, or whose flushes fail: nbdkit, mounted by nbdfuse."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import require_fuse, require_tools
from tests.harness import SYSTEM_PATH
from tests.system.crash.remains import await_true

_SCRIPTS: Final = {
    "get_size": 'stat -c %s "$BACKING"',
    "pread": 'dd if="$BACKING" skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none',
    "pwrite": 'dd of="$BACKING" seek=$4 oflag=seek_bytes conv=notrunc status=none',
    "flush": 'if [ -e "$BACKING.bad" ]; then echo EIO bad disk >&2; exit 1; fi',
    "can_write": "exit 0",
    "can_flush": "exit 0",
    "thread_model": "echo serialize_requests",
}


@dataclass(frozen=True, slots=True)
class BadDisk:
    """A mounted disk that is good until it is told otherwise."""

    image: Path
    backing: Path
    server: subprocess.Popen[bytes]

    def hang(self) -> None:
        """Answer nothing any more."""
        self.server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self.server.send_signal(signal.SIGCONT)

    def fail_flushes(self) -> None:
        """Have every flush fail."""
        Path(f"{self.backing}.bad").touch()


@contextlib.contextmanager
def bad_disk(place: Path, content: Path) -> Iterator[BadDisk]:
    """Mount a disk with the content of a file, for the length of a block."""
    require_fuse()
    require_tools("nbdkit", "nbdfuse", "fusermount3")
    point, socket = place / "disk", place / "d.sock"
    point.mkdir()
    image = point / "image"
    image_arguments = [f"{name}={script}" for name, script in _SCRIPTS.items()]
    environment = {**os.environ, "PATH": SYSTEM_PATH, "BACKING": str(content)}
    server = subprocess.Popen(
        ["nbdkit", "--foreground", "--unix", str(socket), "eval", *image_arguments],
        env=environment,
    )
    try:
        await_true(socket.exists, "nbdkit")
        mounted = subprocess.Popen(
            ["nbdfuse", str(image), f"nbd+unix:///?socket={socket}"], env=environment
        )
        try:
            # Opening it makes the mount visible.
            await_true(lambda: os.path.ismount(point) or image.is_file(), "nbdfuse")
            yield BadDisk(image, content, server)
        finally:
            server.send_signal(signal.SIGCONT)
            subprocess.run(["umount", "--lazy", str(image)], check=False, capture_output=True)
            subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)
            mounted.terminate()
            mounted.wait(10)
    finally:
        server.kill()
        server.wait(10)

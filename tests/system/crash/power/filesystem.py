# SPDX-License-Identifier: Apache-2.0
"""A FUSE file system that passes everything on to a directory and records what changes it.

``python -m tests.system.crash.power.filesystem MOUNT_POINT DIRECTORY RECORD`` stays in the
foreground until it is unmounted. One thread answers, so the record has the order of the calls, and
a call is in the record before its caller has the answer. Syncs are recorded and not carried out.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import mfusepy  # type: ignore[import-untyped] # it has no types
from cbor2 import dump

_libc = ctypes.CDLL(None, use_errno=True)


class Recording(mfusepy.Operations):  # type: ignore[misc] # the library has no types
    """Passes on and records. Paths are absolute in the mounted file system."""

    use_ns = True

    def __init__(self, below: Path, record: IO[bytes]) -> None:
        self._below = below
        self._record = record

    def _note(self, *event: str | int | bytes) -> None:
        dump(list(event), self._record)
        self._record.flush()

    def _real(self, path: str) -> Path:
        return self._below / path.lstrip("/")

    def _number(self, fd: int) -> int:
        return os.fstat(fd).st_ino

    # --- what changes something -------------------------------------------------------------------

    def create(self, path: str, mode: int, fi: object = None) -> int:
        del fi
        fd = os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self._note("name", path, self._number(fd))
        return fd

    def mkdir(self, path: str, mode: int) -> int:
        self._real(path).mkdir(mode)
        self._note("directory", path)
        return 0

    def link(self, target: str, source: str) -> int:
        os.link(self._real(source), self._real(target))
        self._note("name", target, self._real(target).stat().st_ino)
        return 0

    def unlink(self, path: str) -> int:
        self._real(path).unlink()
        self._note("unname", path)
        return 0

    def rmdir(self, path: str) -> int:
        self._real(path).rmdir()
        self._note("unname", path)
        return 0

    def rename(self, old: str, new: str) -> int:
        self._real(old).rename(self._real(new))
        self._note("rename", old, new)
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        del path
        done = os.pwrite(fh, data, offset)
        self._note("write", self._number(fh), offset, data[:done])
        return done

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._real(path) if fh is None else fh, length)
        self._note(
            "size", self._real(path).stat().st_ino if fh is None else self._number(fh), length
        )
        return 0

    def fallocate(  # noqa: PLR0917 - the library's
        self, path: str, mode: int, offset: int, size: int, fh: int
    ) -> int:
        del path
        if _libc.fallocate(fh, mode, ctypes.c_int64(offset), ctypes.c_int64(size)):
            raise mfusepy.FuseOSError(ctypes.get_errno())
        self._note("allocate", self._number(fh), mode, offset, size)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        del path, datasync
        self._note("sync", self._number(fh))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        del datasync, fh
        self._note("sync names", path)
        return 0

    # --- what does not ----------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        # Direct transfers end here: the buffers below are Python's, of no alignment.
        return os.open(self._real(path), flags & (os.O_ACCMODE | os.O_TRUNC))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        del path
        os.close(fh)
        return 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        try:
            found = self._real(path).lstat() if fh is None else os.fstat(fh)
        except FileNotFoundError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None
        names = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        times = {
            f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")
        }
        return {**{name: getattr(found, name) for name in names}, **times}

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        del fh
        yield from (".", "..", *sorted(entry.name for entry in self._real(path).iterdir()))

    def chmod(self, path: str, mode: int) -> int:
        self._real(path).chmod(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self._real(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        if times is None:
            os.utime(self._real(path))
        else:
            os.utime(self._real(path), ns=times)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real(path))
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
        return {name: getattr(found, name) for name in (*names, "f_namemax")}


def main() -> None:
    point, below, record = sys.argv[1:]
    with Path(record).open("ab") as file:
        mfusepy.FUSE(
            Recording(Path(below), file),
            point,
            foreground=True,
            nothreads=True,
            use_ino=True,
            allow_other=True,
            default_permissions=True,
            attr_timeout=0,
            entry_timeout=0,
        )


if __name__ == "__main__":
    main()

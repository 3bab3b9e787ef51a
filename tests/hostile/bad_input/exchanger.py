# SPDX-License-Identifier: Apache-2.0
"""Exchanges two directory entries in one step: ``exchanger.py ONE OTHER [TIMES]``, else for ever.

What another user can do in a directory of his own, at any moment, to names that root uses.
"""

import ctypes
import itertools
import os
import sys

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: str, other: str) -> None:
    """Exchange what two names lead to."""
    first, second = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), one)


if __name__ == "__main__":
    one, other, *times = sys.argv[1:]
    for _ in range(int(times[0])) if times else itertools.count():
        exchange(one, other)

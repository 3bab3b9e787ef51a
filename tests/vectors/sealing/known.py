# SPDX-License-Identifier: Apache-2.0
"""Secrets with known bytes, as no program but a test may have them."""

import os

from strongroom import _core


def known(data: bytes) -> _core.Secret:
    """Return a secret with exactly these bytes, one at least, read from a file in memory."""
    fd = os.memfd_create("known")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return _core.read_secret_exactly(fd, len(data))
    finally:
        os.close(fd)

# SPDX-License-Identifier: Apache-2.0
"""One Argon2id derivation in a process of its own, as libargon2's program does one; prints seconds.

Arguments: salt, passes, memory in KiB, lanes.
"""

import os
import sys
import time

from strongroom._core import argon2, read_secret_file


def main() -> None:
    """Derive a key from a passphrase that is no secret, and print how long it took."""
    salt = sys.argv[1].encode()
    passes, memory_kib, lanes = map(int, sys.argv[2:])
    reader, writer = os.pipe()
    os.write(writer, b"bench")
    os.close(writer)
    secret = read_secret_file(reader)
    start = time.perf_counter()
    argon2(
        secret,
        salt,
        variant="argon2id",
        memory_kib=memory_kib,
        iterations=passes,
        lanes=lanes,
        length_bytes=32,
    )
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()

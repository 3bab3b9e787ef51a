# SPDX-License-Identifier: Apache-2.0
"""Decrypt a LUKS2 volume with dissect.fve, a reader that shares no code with the product.

``python decrypt.py IMAGE KEYFILE [--header FILE] [--keyslot N]`` writes the plaintext of the whole
data segment to standard output. It is run as a program of its own, and imported by nothing.
"""

import argparse
import sys
from pathlib import Path

from dissect.fve.crypto.dmcrypt import CryptStream
from dissect.fve.luks.luks import LUKS

_CHUNK_BYTES = 256 * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("--header", type=Path)
    parser.add_argument("--keyslot", type=int)
    options = parser.parse_args()
    header: Path = options.header or options.image
    with header.open("rb") as header_file, options.image.open("rb") as image_file:
        luks = LUKS(header_file)
        luks.unlock_with_passphrase(options.key.read_bytes(), options.keyslot)
        keyslot = luks._active_keyslot_id
        segment = luks.find_segment(keyslot)
        stream = CryptStream(
            image_file,
            segment.encryption,
            luks._active_volume_key,
            luks.keyslots[keyslot].key_size * 8,
            segment.offset,
            segment.size,
            segment.iv_tweak,
            segment.sector_size,
        )
        while chunk := stream.read(_CHUNK_BYTES):
            sys.stdout.buffer.write(chunk)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Holds the exclusive-or of two values in a vector register and nowhere else, until it is killed.

Usage: ``register_holder.py HEX HEX``, 64 bytes each. Prints how many bytes the register holds.
"""

import ctypes
import mmap
import platform
import sys
from pathlib import Path
from typing import Final

ZMM17: Final = bytes.fromhex(
    "62e1fe486f0f"  # vmovdqu64 zmm17, [rdi]
    "62e1f540ef0e"  # vpxorq zmm17, zmm17, [rsi]
    "ebfe"  # jmp .
)
XMM7: Final = bytes.fromhex(
    "f30f6f3f"  # movdqu xmm7, [rdi]
    "f30f6f36"  # movdqu xmm6, [rsi]
    "660feffe"  # pxor xmm7, xmm6
    "ebfe"  # jmp .
)


def main() -> None:
    """Load, say so, and stay."""
    if platform.machine() != "x86_64":
        sys.exit("only x86-64 is known")
    # Before version 14, gdb expects the upper registers where Intel's processors save them.
    processor = Path("/proc/cpuinfo").read_text()
    wide = "avx512f" in processor and "GenuineIntel" in processor
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(ZMM17 if wide else XMM7)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    function = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p)(address)
    print(64 if wide else 16, flush=True)
    function(*map(bytes.fromhex, sys.argv[1:3]))


if __name__ == "__main__":
    main()

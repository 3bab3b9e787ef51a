# SPDX-License-Identifier: Apache-2.0
"""Search core dumps of ``residue`` for the secrets that it handles.

Makes a LUKS2 volume with cryptsetup, so that all secrets are known here, lets the program open its
keyslot, dumps it with gcore and searches the dump. A second process that holds the same secrets in
ordinary memory must be found out by the same search, or the search is worth nothing.

Usage: ``residue.py PROGRAM [DUMPS]``. Needs cryptsetup, gdb, root for gcore,
and the Python package cryptography.
"""

import base64
import json
import re
import secrets
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB: Final = 65536
ITERATIONS: Final = 4
LANES: Final = 2
KEY_BYTES: Final = 64
AES_BLOCK: Final = 16


def run(*command: str, stdin: bytes = b"") -> bytes:
    """Run a command and return its output."""
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def sbox() -> bytes:
    """Return the S-box of AES, computed from its definition."""
    box = bytearray(256)
    p = q = 1
    while True:
        p = p ^ ((p << 1) & 0xFF) ^ (0x1B if p & 0x80 else 0)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        rotations = (((q << n) | (q >> (8 - n))) & 0xFF for n in range(1, 5))
        value = q
        for rotation in rotations:
            value ^= rotation
        box[p] = value ^ 0x63
        if p == 1:
            box[0] = 0x63
            return bytes(box)


def round_keys(key: bytes) -> list[bytes]:
    """Return the round keys of AES-256. Spec: FIPS 197, 5.2."""
    box = sbox()
    words = [key[at : at + 4] for at in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        word = words[-1]
        if len(words) % 8 == 0:
            word = bytes(box[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant <<= 1
        elif len(words) % 8 == 4:
            word = bytes(box[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(word, words[-8], strict=True)))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def needles(name: str, secret: bytes) -> dict[str, bytes]:
    """Return a secret in the forms in which it might lie in memory."""
    forms = {f"{name} raw": secret, f"{name} hex": secret.hex().encode()}
    forms[f"{name} HEX"] = secret.hex().upper().encode()
    for shift in range(3):
        # Three alignments; the ends depend on the neighbours, so they are cut off.
        encoded = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 :]
        forms[f"{name} base64+{shift}"] = encoded[:-4]
    return forms


def key_needles(name: str, key: bytes) -> dict[str, bytes]:
    """Return a XTS key, its two halves, and every round key."""
    found = needles(name, key)
    for half in (key[:32], key[32:]):
        label = f"{name} half {1 if half == key[:32] else 2}"
        found |= needles(label, half)
        for number, round_key in enumerate(round_keys(half)):
            found[f"{label} round key {number}"] = round_key
    return found


def hits(dump: Path, wanted: dict[str, bytes]) -> list[str]:
    """Return the names of the needles that are in the file."""
    # Gaps of zeros, most of the file, only cost time.
    content = re.sub(rb"\0{4096,}", bytes(64), dump.read_bytes())
    notes = registers(dump)
    return [
        f"{name} (registers)" if needle in notes else name
        for name, needle in wanted.items()
        if needle in content
    ]


def registers(dump: Path) -> bytes:
    """Return the notes of a dump, where the registers of all threads are. Spec: ELF-64, 5."""
    content = dump.read_bytes()
    (headers,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    notes = b""
    for at in range(headers, headers + size * count, size):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", content, at)
        if kind == 4:
            notes += content[start : start + length]
    return notes


def dump_of(pid: int, directory: Path) -> Path:
    """Dump a live process."""
    run("gcore", "-o", str(directory / "core"), str(pid))
    return directory / f"core.{pid}"


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block, once it has said that it is ready."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            stdout = process.stdout
            line = stdout.readline() if stdout else b""
            if not line.startswith(b"ready"):
                message = f"{command[0]} did not start"
                raise RuntimeError(message)
            sys.stdout.write(line.decode())
            yield process
        finally:
            process.kill()


def make_volume(directory: Path) -> tuple[list[str], dict[str, bytes]]:
    """Make a volume; return the program's arguments and the needles."""
    passphrase = base64.b85encode(secrets.token_bytes(24))
    volume_key = secrets.token_bytes(KEY_BYTES)
    (directory / "passphrase").write_bytes(passphrase)
    (directory / "key").write_bytes(volume_key)
    image = directory / "image"
    run("truncate", "-s", "20M", str(image))
    run(
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "argon2id"),
        *("--pbkdf-memory", str(MEMORY_KIB), "--pbkdf-force-iterations", str(ITERATIONS)),
        *("--pbkdf-parallel", str(LANES), "--key-size", str(KEY_BYTES * 8)),
        *("--volume-key-file", str(directory / "key")),
        *("--key-file", str(directory / "passphrase"), str(image)),
    )
    header = json.loads(run("cryptsetup", "luksDump", "--dump-json-metadata", str(image)))
    slot = header["keyslots"]["0"]
    salt = base64.b64decode(slot["kdf"]["salt"])
    start, lanes = int(slot["area"]["offset"]), slot["kdf"]["cpus"]
    area = image.read_bytes()[start : start + KEY_BYTES * 4000]
    (directory / "area").write_bytes(area)
    arguments = [str(directory / "passphrase"), str(directory / "area"), salt.hex()]
    arguments += [str(MEMORY_KIB), str(ITERATIONS), str(lanes)]
    slot_key = Argon2id(
        salt=salt, length=KEY_BYTES, iterations=ITERATIONS, lanes=lanes, memory_cost=MEMORY_KIB
    ).derive(passphrase)
    wanted = needles("passphrase", passphrase)
    wanted |= key_needles("volume key", volume_key) | key_needles("slot key", slot_key)
    return arguments, wanted


def count_hits(
    program: tuple[str, ...], wanted: dict[str, bytes], dumps: int, directory: Path
) -> int:
    """Dump a program some times, print what was found, and return in how many dumps."""
    found = 0
    with started(*program) as process:
        for number in range(dumps):
            time.sleep(secrets.randbelow(200) / 1000)
            dump = dump_of(process.pid, directory)
            names = hits(dump, wanted)
            print(f"  dump {number}: {len(names)} hits")
            found += bool(names)
            if names:
                print(f"  dump {number}, {dump.stat().st_size} bytes:", ", ".join(sorted(names)[:6]))
            dump.unlink()
    return found


def main() -> int:
    """Dump after the work and during it; return 1 if anything was found, or the search is blind."""
    program, dumps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        arguments, wanted = make_volume(directory)
        naive = "import sys; x = [open(a, 'rb').read() for a in sys.argv[1:]]; print('ready', flush=True); input()"
        control = (sys.executable, "-c", naive, str(directory / "passphrase"), str(directory / "key"))
        blind = count_hits(control, wanted, 1, directory) == 0
        at_rest = count_hits((program, *arguments, "once"), wanted, 1, directory)
        at_work = count_hits((program, *arguments, "loop"), wanted, dumps, directory)
    print(f"needles {len(wanted)}, control found {not blind}")
    print(f"dumps with hits: at rest {at_rest} of 1, at work {at_work} of {dumps}")
    return int(blind or at_rest + at_work > 0)


if __name__ == "__main__":
    sys.exit(main())

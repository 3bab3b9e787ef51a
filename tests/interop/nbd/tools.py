# SPDX-License-Identifier: Apache-2.0
"""Checks of an NBD export with the tools that people use, each a function of its URI.

All but :func:`check_information` overwrite the export. A check raises when the tool fails or its
answer is wrong. Exports must be at least 64 MiB.
"""

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"  # libnbd's module is installed for this one
PROGRAM = Path(__file__).with_name("libnbd_program.py")
LIBNBD_PROGRAMS = (
    ("odd",),
    ("limits",),
    ("pipelined", "1"),
    ("shared-sector",),
    ("model", "1", "10000"),
)
TIMEOUT_SECONDS = 300
MIB = 1024 * 1024


def run(*command: str | Path) -> str:
    """Run a tool and return what it printed; an error carries its last words."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} gave {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_libnbd(uri: str, name: str, *arguments: str) -> None:
    """Run one of :data:`LIBNBD_PROGRAMS`, or ``read-only`` or ``trim``."""
    run(SYSTEM_PYTHON, PROGRAM, name, uri, *arguments)


def check_information(uri: str, *, size_bytes: int, read_only: bool, structured: bool) -> None:
    """Compare every fact that nbdinfo prints about the export."""
    export = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
    expected = {
        "export-size": size_bytes,
        "contexts": ["base:allocation"] if structured else [],
        "is_rotational": False,
        "is_read_only": read_only,
        "can_cache": True,
        "can_df": structured,
        "can_fast_zero": not read_only,
        "can_flush": True,
        "can_fua": not read_only,
        "can_multi_conn": True,
        "can_trim": False,
        "can_zero": not read_only,
        "block_size_minimum": 1,
        "block_size_preferred": 4096,
        "block_size_maximum": 32 * MIB,
    }
    assert {"contexts": [], **export}.items() >= expected.items(), export
    if not structured:
        return
    extents = json.loads(run("nbdinfo", "--json", "--map", uri))
    assert [(extent["offset"], extent["length"], extent["type"]) for extent in extents] == [
        (0, size_bytes, 0)
    ]


def check_copy(uri: str, directory: Path, *, size_bytes: int) -> None:
    """Copy random and sparse data in and out with four connections."""
    source, back = directory / "source", directory / "back"
    source.write_bytes(random.Random(size_bytes).randbytes(size_bytes // 2))
    os.truncate(source, size_bytes)
    run("nbdcopy", "--connections=4", "--flush", source, uri)
    run("nbdcopy", "--connections=4", uri, back)
    assert sha256(source) == sha256(back)
    run("nbdcopy", "--synchronous", "--request-size=32768", uri, back)
    assert sha256(source) == sha256(back)


def check_qemu_img(uri: str, directory: Path, *, size_bytes: int) -> None:
    """Convert in and out, compare, and read the map."""
    source, back = directory / "source", directory / "back"
    source.write_bytes(random.Random(1).randbytes(size_bytes // 3))
    os.truncate(source, size_bytes)
    information = json.loads(run("qemu-img", "info", "--output=json", uri))
    assert information["virtual-size"] == size_bytes
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, back)
    assert sha256(source) == sha256(back)
    extents = json.loads(run("qemu-img", "map", "--output=json", uri))
    assert all(extent["data"] and not extent["zero"] for extent in extents)


def check_qemu_io(uri: str) -> None:
    """Write patterns at odd places, zero, discard, flush, and verify."""
    commands = (
        "write -P 0x11 0 1M",
        "write -P 0x22 4095 2",
        "read -P 0x11 0 4095",
        "read -P 0x22 4095 2",
        "read -P 0x11 4097 12k",
        "write -z 65536 100000",
        "read -P 0 65536 100000",
        "read -P 0x11 165536 1000",
        "discard 512k 64k",
        "aio_write -P 0x33 1M 8M",
        "aio_write -P 0x44 9M 8M",
        "aio_flush",
        "read -P 0x33 1M 8M",
        "read -P 0x44 9M 8M",
        "write -f -P 0x55 20M 31M",
        "read -P 0x55 20M 31M",
        "flush",
    )
    words = [word for command in commands for word in ("-c", command)]
    printed = run("qemu-io", "-f", "raw", *words, uri)
    assert "error" not in printed.lower(), printed
    assert "verification failed" not in printed, printed


def check_fio(uri: str, *, size_bytes: int, jobs: int = 4) -> None:
    """Verify random writes of mixed sizes with checksums, one connection and region a job."""
    run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--bs_unaligned=1",
        "--iodepth=16",
        f"--numjobs={jobs}",
        f"--size={size_bytes // jobs}",
        f"--offset_increment={size_bytes // jobs}",
        "--verify=crc32c",
        "--verify_state_save=0",
        "--verify_fatal=1",
        "--do_verify=1",
        "--fsync=64",
        "--group_reporting",
    )

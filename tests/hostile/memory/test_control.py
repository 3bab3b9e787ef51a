# SPDX-License-Identifier: Apache-2.0
"""The search that finds nothing in our processes finds the same things in others."""

import base64
import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_root, require_tools
from tests.harness import Operator
from tests.hostile.memory.enrolled import strongroom_token
from tests.hostile.memory.needles import PIECE_BYTES, Secrets
from tests.hostile.memory.processes import Witness, load, over_nbd
from tests.hostile.memory.search import PAGE, Dump, Part, Search, core_of, memory_of
from tests.hostile.memory.volume import (
    metadata_of,
    secrets_of,
    state_of,
    uuid_of,
    volume_key_of,
)

pytestmark = [pytest.mark.hostile, pytest.mark.slow]

HOLDER: Final = Path(__file__).with_name("register_holder.py")
REPOSITORY: Final = Path(__file__).parents[3]
NOT_HELD: Final = {
    "seal key, extracted",
    "header key",
    "header key of the enclave",
    "header mark key",
    "volume key, extracted",
}
"""What a program that stops at the keyslot's passphrase does not compute."""
START_SECONDS: Final = 20
LOAD_SECONDS: Final = 60


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    require_root()
    require_tools("gcore", "fio", "cryptsetup", "qemu-nbd", "qemu-img", "nbdkit")
    return Operator(tmp_path, passphrase=base64.b85encode(secrets.token_bytes(32)).decode())


@pytest.mark.parametrize("before", [0, 1, 7, PAGE - 5, PAGE - 1, PAGE, 3 * PAGE + 11])
def test_a_needle_is_found_at_any_offset(before: int) -> None:
    secret = secrets.token_bytes(32)
    search = Search(Secrets({}, {}, {"secret": secret}).needles())
    content = secrets.token_bytes(before) + secret + secrets.token_bytes(100)
    dump = Dump("test", "core", (Part("part", 0x1000, content),))
    assert {hit.place for hit in search.hits(dump)} == {
        f"part {0x1000 + before + at:#x}" for at in range(0, 32, PIECE_BYTES)
    }
    assert search.hits(Dump("test", "core", (Part("part", 0, content[:before]),))) == []


def test_a_value_that_is_only_in_a_register_is_found(tmp_path: Path) -> None:
    """In a core file: as the register of a vector unit, where the AES instructions have theirs."""
    require_root()
    require_tools("gcore")
    one, other = secrets.token_bytes(64), secrets.token_bytes(64)
    value = bytes(a ^ b for a, b in zip(one, other, strict=True))
    command = [sys.executable, str(HOLDER), one.hex(), other.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            width = int(process.stdout.readline())
            time.sleep(0.5)
            core = core_of(process.pid, "holder", tmp_path)
            memory = memory_of(process.pid, "holder", "running")
        finally:
            process.kill()
    assert core is not None
    assert memory is not None
    search = Search(Secrets({}, {}, {"value": value[:width]}).needles())
    assert [hit.place.split()[0] for hit in search.hits(core)] == ["notes"] * (width // PIECE_BYTES)
    assert search.hits(memory) == []


def test_shares_and_seal_keys_are_found_in_a_process_that_holds_them(operator: Operator) -> None:
    """A process that opens a sealed keyslot as any program would."""
    image, passphrase = operator.place / "image", operator.passphrase.encode()
    operator.format(image)
    token = strongroom_token(metadata_of(operator, image))
    wanted = secrets_of(operator, image, {0: passphrase})
    command = [
        *(sys.executable, "-m", "tests.hostile.memory.enrolled"),
        *(str(state_of(operator)), uuid_of(operator, image)),
    ]
    witness = Witness(operator.place)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            json.dump({"token": token, "passphrase": operator.passphrase}, process.stdin)
            process.stdin.close()
            assert process.stdout.readline()
            witness.keep(core_of(process.pid, "holder", operator.place, undumpable=False))
            witness.keep(memory_of(process.pid, "holder", "running"))
        finally:
            process.kill()
    for dump in witness.dumps:
        found = {hit.needle for hit in Search(wanted.needles()).hits(dump)}
        missing = wanted.keyed.keys() - found - NOT_HELD
        assert not missing, dump.kind
        assert {"signer", "passphrase 0", "slot passphrase 0"} <= found
        assert "platform root" in found


def test_keys_are_found_in_qemu_nbd(operator: Operator) -> None:
    image, secret = operator.place / "image", f"secret,id=key,file={operator.key_file}"
    options = ("-o", "key-secret=key,iter-time=10", image, "64M")
    operator.run("qemu-img", "create", "-q", "--object", secret, "-f", "luks", *options)
    disk = f"driver=luks,key-secret=key,file.filename={image}"
    check_control(
        operator,
        image,
        *("qemu-nbd", "--object", secret, "--image-opts", disk),
        *("--socket", str(operator.place / "socket"), "--shared=4", "--persistent"),
    )


def test_keys_are_found_in_nbdkit(operator: Operator) -> None:
    image = operator.place / "image"
    operator.run("truncate", "--size=64M", image)
    operator.run(
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--key-size", "512"),
        *("--pbkdf-force-iterations", "1000", "--key-file", operator.key_file, image),
    )
    passphrase = f"passphrase=+{operator.key_file}"
    check_control(
        operator,
        image,
        *("nbdkit", "--foreground", "--unix", str(operator.place / "socket")),
        *("--filter=luks", "file", str(image), passphrase),
    )


def check_control(operator: Operator, image: Path, *server: str) -> None:
    """Check that a server under load gives away its passphrase, volume key and round keys."""
    passphrase = operator.passphrase.encode()
    volume_key = volume_key_of(operator, image, passphrase)
    wanted = Secrets({"passphrase": passphrase}, {"volume key": volume_key}, {})
    witness = Witness(operator.place)
    socket = operator.place / "socket"
    with serving(server, socket) as pid, load(LOAD_SECONDS, *over_nbd(socket)):
        witness.keep(core_of(pid, server[0], operator.place, undumpable=False))
        witness.keep(memory_of(pid, server[0], "running"))
    found = {hit.needle for hit in witness.hits("control", wanted)}
    print("    ", ", ".join(sorted(found)))
    assert "passphrase" in found
    assert "volume key" in found or "volume key, half 1, round key 0" in found
    assert any("round key 7" in needle for needle in found)


@contextlib.contextmanager
def serving(command: tuple[str, ...], socket: Path) -> Iterator[int]:
    """Run a server until the end of the block; yield its pid once it listens."""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while not socket.exists() and time.monotonic() < end:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()

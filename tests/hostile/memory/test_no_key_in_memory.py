# SPDX-License-Identifier: Apache-2.0
"""No passphrase, share, key or round key is found in the memory of any of our processes.

Volumes are sealed to the enclave, as they are by default, unless a test says otherwise; what is
looked for includes the platform's root secret and all that comes from it. Root reads memory with
gcore and through /proc/PID/mem: registers, all mappings, running and stopped.
The last tests let the same search find the same things in other programs.
"""

import base64
import os
import pty
import random
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from tests.conftest import require_fuse, require_root, require_tools
from tests.harness import STRONGROOM, SYSTEM_PATH, Operator
from tests.hostile.boundary.evil import Enclave
from tests.hostile.memory.processes import CONNECTIONS, IO_PATTERN, Witness, load, over_nbd
from tests.hostile.memory.volume import secrets_of

pytestmark = [pytest.mark.hostile, pytest.mark.slow]

PBKDF2: Final = ("--kdf", "pbkdf2", "--kdf-iterations", "3000000")
ARGON2ID: Final = ("--kdf", "argon2id", "--kdf-memory", "7M", "--kdf-iterations", "215")
"""Seconds of work, but not much memory to search."""
SLOW_KDFS: Final = (pytest.param(PBKDF2, id="pbkdf2"), pytest.param(ARGON2ID, id="argon2id"))
LOAD_SECONDS: Final = 120
COMMAND_SECONDS: Final = 120
NAME: Final = "memory-test"


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator with a passphrase that is in no other memory by chance."""
    require_root()
    require_tools("gcore", "fio", "cryptsetup")
    return Operator(tmp_path, passphrase=random_passphrase())


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path)


def random_passphrase() -> str:
    return base64.b85encode(secrets.token_bytes(32)).decode()


def start(operator: Operator, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start strongroom in the background."""
    return subprocess.Popen(
        [STRONGROOM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": SYSTEM_PATH, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)},
    )


def finish(command: subprocess.Popen[bytes]) -> None:
    """Wait for a command, which must have succeeded."""
    errors = command.communicate(timeout=COMMAND_SECONDS)[1]
    assert command.returncode == 0, errors.decode()


def check_witness(witness: Witness, cores: dict[str, int]) -> None:
    """Check that the dumps are of the right processes and hold their memory and registers."""
    marks = {
        "enclave": b"strongroom/enclave/start.py",
        "host": b"strongroom.host.daemon",
        "cli": b"-m\0strongroom\0",
    }
    for role, least in cores.items():
        for kind in ("core", "running", "stopped"):
            assert witness.count(role, kind) >= least, (role, kind)
        for dump in witness.of(role):
            assert dump.holds(marks[role]), (role, dump.kind)
            assert dump.threads > 0 or dump.kind != "core"


@pytest.mark.parametrize("kdf", SLOW_KDFS)
def test_open_and_under_load(operator: Operator, witness: Witness, kdf: tuple[str, ...]) -> None:
    image = operator.place / "v.img"
    operator.format(image, *kdf)
    wanted = secrets_of(operator, image, {0: operator.passphrase.encode()})
    with (
        operator.opened(image, NAME) as volume,
        load(LOAD_SECONDS, *over_nbd(volume["socket"])),
    ):
        for _ in range(3):
            time.sleep(random.random())
            witness.look(volume["host_pid"])
    check_witness(witness, {"enclave": 3, "host": 3})
    for dump in witness.of("enclave"):
        assert dump.threads > CONNECTIONS or dump.kind != "core"
    assert any(dump.holds(IO_PATTERN) for dump in witness.of("enclave"))
    assert witness.hits(f"under load, {kdf[1]}", wanted) == []


def test_as_a_device_under_load(operator: Operator, witness: Witness) -> None:
    """Of a volume without an enclave's factor."""
    require_fuse()
    image = operator.place / "v.img"
    operator.format(image, "--factors", "passphrase")
    wanted = secrets_of(operator, image, {0: operator.passphrase.encode()})
    name = f"{NAME}-{os.getpid()}"
    with (
        operator.opened(image, name, "--attach", "fuse") as volume,
        load(LOAD_SECONDS, f"--filename={volume['device']}", "--direct=1"),
    ):
        for _ in range(2):
            time.sleep(random.random())
            witness.look(volume["host_pid"])
    check_witness(witness, {"enclave": 2, "host": 2})
    assert any(dump.holds(IO_PATTERN) for dump in witness.of("enclave"))
    assert witness.hits("device under load", wanted) == []


@pytest.mark.parametrize(
    "kdf",
    [
        pytest.param((*PBKDF2, "--factors", "passphrase"), id="pbkdf2, passphrase alone"),
        pytest.param(ARGON2ID, id="argon2id"),
    ],
)
def test_while_opening(operator: Operator, witness: Witness, kdf: tuple[str, ...]) -> None:
    image = operator.place / "v.img"
    operator.format(image, *kdf)
    wanted = secrets_of(operator, image, {0: operator.passphrase.encode()})
    with start(
        operator,
        "open",
        image,
        NAME,
        "--attach",
        "none",
        "--passphrase-file",
        operator.passphrase_file,
    ) as command:
        try:
            witness.watch(command, rounds=4)
            finish(command)
        finally:
            operator.close(NAME, "--force", check=False)
    check_witness(witness, {"cli": 2, "host": 2, "enclave": 2})
    assert witness.hits(f"open, {kdf[1]}", wanted) == []


def test_while_a_key_is_handed_over(operator: Operator, witness: Witness) -> None:
    image = operator.place / "v.img"
    operator.format(image, *ARGON2ID)
    wanted = secrets_of(operator, image, {0: operator.passphrase.encode()})
    with start(operator, "serve", image, NAME, "--wait-for-key", "--attach", "none") as server:
        try:
            wait_for_name(operator)
            key = ("--passphrase-file", operator.passphrase_file)
            with start(operator, "setkey", NAME, *key) as command:
                for _ in range(2):
                    time.sleep(random.uniform(0.02, 0.2))
                    witness.look(command.pid)
                    witness.look(server.pid)
                finish(command)
            witness.look(server.pid)
        finally:
            server.terminate()
            server.communicate(timeout=COMMAND_SECONDS)
    check_witness(witness, {"cli": 3, "enclave": 2})
    assert witness.hits("serve and setkey", wanted) == []


def wait_for_name(operator: Operator) -> None:
    for _ in range(100):
        if operator.strongroom("status", NAME, check=False).returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail("serve did not come up")


def test_while_a_slot_is_added(operator: Operator, witness: Witness) -> None:
    image, added = operator.place / "v.img", random_passphrase()
    operator.format(image, *ARGON2ID)
    new_file = operator.place / "new passphrase"
    new_file.write_text(added)
    with start(
        operator,
        "slot",
        "add",
        image,
        *ARGON2ID,
        "--keyslot",
        "1",
        "--passphrase-file",
        operator.passphrase_file,
        "--new-passphrase-file",
        new_file,
    ) as command:
        witness.watch(command, rounds=4)
        finish(command)
    wanted = secrets_of(operator, image, {0: operator.passphrase.encode(), 1: added.encode()})
    check_witness(witness, {"cli": 2, "enclave": 2})
    assert witness.hits("slot add", wanted) == []


def test_while_a_volume_is_resealed(operator: Operator, witness: Witness) -> None:
    image = operator.place / "v.img"
    operator.format(image, *ARGON2ID)
    slots = {0: operator.passphrase.encode()}
    wanted = secrets_of(operator, image, slots)
    command = (
        *("reseal", image, "--next", sys.executable, "--seal-policy", "measurement"),
        *("--passphrase-file", operator.passphrase_file),
    )
    with start(operator, *command) as process:
        witness.watch(process, rounds=3)
        finish(process)
    wanted |= secrets_of(operator, image, slots)
    check_witness(witness, {"cli": 2, "enclave": 2})
    assert witness.hits("reseal", wanted) == []


def test_after_a_handover(operator: Operator, witness: Witness) -> None:
    """Both enclaves have had what they hand over in their hands, and are looked at before they end.

    Here the host is this test, which may know the passphrase.
    """
    image, passphrase = operator.place / "v.img", operator.passphrase.encode()
    operator.format(image)
    wanted = secrets_of(operator, image, {0: passphrase})
    old, new = (Enclave(operator.place / name) for name in ("old", "new"))
    try:
        old.load(image)
        existing = old.sealed("existing passphrase", passphrase)
        handover = old.call(calls.HandOver(existing, new.call(calls.BecomeSuccessor()), "signer"))
        witness.look(old.process.pid)
        new.load(image)
        assert new.call(calls.TakeOver(handover)).epoch == 2
        witness.look(new.process.pid)
        assert new.unlock(passphrase).keyslot == 0
        witness.look(new.process.pid)
    finally:
        for enclave in (old, new):
            enclave.close()
    wanted |= secrets_of(operator, image, {0: passphrase})
    check_witness(witness, {"enclave": 3})
    assert witness.hits("handover", wanted) == []


def test_while_a_person_formats(operator: Operator, witness: Witness) -> None:
    """The passphrase is typed twice; the recovery key goes to a file."""
    image, recovery = operator.place / "v.img", operator.place / "recovery"
    command = [
        *("format", image, "--size", "64M", "--recovery-key-file", recovery),
        *ARGON2ID,
    ]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PATH=SYSTEM_PATH, STRONGROOM_RUNTIME_DIR=str(operator.runtime))
        os.execv(STRONGROOM, [str(STRONGROOM), *map(str, command)])  # noqa: S606 - in a child
    try:
        read_until(terminal, b"assphrase")
        os.write(terminal, operator.passphrase.encode() + b"\n")
        read_until(terminal, b"The same again")
        witness.look(pid)
        os.write(terminal, operator.passphrase.encode() + b"\n")
        for _ in range(3):
            time.sleep(random.uniform(0.02, 0.2))
            witness.look(pid)
        read_until(terminal, None)
    finally:
        os.close(terminal)
        assert os.waitpid(pid, 0)[1] == 0
    slots = {0: operator.passphrase.encode(), 1: recovery.read_bytes().strip()}
    wanted = secrets_of(operator, image, slots)
    check_witness(witness, {"cli": 2, "enclave": 2})
    assert witness.hits("format, typed", wanted) == []


def read_until(terminal: int, text: bytes | None) -> None:
    """Read a terminal until a text comes, or until its other side is closed."""
    seen, end = b"", time.monotonic() + COMMAND_SECONDS
    while text is None or text not in seen:
        ready, _, _ = select.select([terminal], [], [], end - time.monotonic())
        assert ready, seen
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            # The other side of a terminal was closed.
            assert text is None, seen
            return

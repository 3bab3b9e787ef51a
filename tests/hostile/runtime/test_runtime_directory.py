# SPDX-License-Identifier: Apache-2.0
"""A user who can write to the runtime directory gains nothing: it is not used at all."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.host.attach.record import process_started
from tests.conftest import require_tools
from tests.harness import STRONGROOM, has_ended
from tests.hostile.runtime.conftest import Place
from tests.hostile.runtime.other_user import (
    ALICE,
    MALLORY,
    as_user,
    does,
    run_as,
    with_strongroom,
)
from tests.system.crash.remains import await_true, end_all
from tests.system.crash.victims import started

pytestmark = pytest.mark.hostile

REFUSED = 48
NOT_OPEN = 49
ALREADY_OPEN = 43
COMMANDS = (("list",), ("close", "al"), ("status", "al"))

MAKES_IT = "import os, sys; os.umask(0); os.mkdir(sys.argv[1], 0o777)"
RENAMES_AND_SERVES = """
import os, socket, sys, time
run = sys.argv[1]
os.rename(f"{run}/al", f"{run}/gone")
os.mkdir(f"{run}/al", 0o755)
own = socket.socket(socket.AF_UNIX)
own.bind(f"{run}/al/nbd.sock")
own.listen()
"""
WRITES_A_RECORD = """
import json, os, sys
run, pid, started = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.mkdir(f"{run}/x")
record = {"enclave_pid": pid, "enclave_started": started, "kind": "fuse", "name": "x",
          "helper_pid": pid, "helper_started": started}
open(f"{run}/x/record.json", "w").write(json.dumps(record))
"""
LINKS_A_LOCK = """
import os, sys
run, target = sys.argv[1:]
os.mkdir(f"{run}/y")
os.symlink(target, f"{run}/y.lock")
"""
MAKES_A_MARK = """
import socket, sys
own = socket.socket(socket.AF_UNIX)
own.bind("\\0sr:" + sys.argv[1] + "/al:00000000")
own.listen(64)
print("there", flush=True)
while True:
    own.accept()
"""
ASKS_A_MARK = """
import socket, sys
found = [line.split()[-1] for line in open("/proc/net/unix") if "@sr:" + sys.argv[1] in line]
own = socket.socket(socket.AF_UNIX)
own.settimeout(20)
own.connect("\\0" + found[0][1:])
try:
    print(own.recv(1))
except ConnectionResetError:
    print(b"")
"""
CLAIMS = """
from strongroom.host.runtime import claim, volumes
with claim("al") as held:
    print(held.directory.path, [item.name for item in volumes()])
"""


# --- the four attacks of a user who made the directory before


def test_a_directory_of_another_user_serves_no_volume(place: Place) -> None:
    """The user would put a socket in the place of the volume's, and read what is written."""
    does(MALLORY, MAKES_IT, place.runtime)
    said = place.refuses(*place.opening("al"), code=REFUSED, says="belongs to user")
    assert str(MALLORY) in said
    hint = re.findall(r"hint: (.*)", said)[0]
    place.operator.run("sh", "-c", f"{hint} && {STRONGROOM} list")
    assert list(place.runtime.iterdir()) == []


def test_no_process_is_killed_on_the_word_of_another_user(place: Place) -> None:
    does(MALLORY, MAKES_IT, place.runtime)
    with subprocess.Popen(["sleep", "100"]) as victim:
        try:
            pid = victim.pid
            does(MALLORY, WRITES_A_RECORD, place.runtime, str(pid), str(process_started(pid)))
            for command in (*COMMANDS, place.opening("al"), place.opening("x"), ("doctor",)):
                place.operator.strongroom(*command, check=False)
                assert not has_ended(pid), command
        finally:
            victim.kill()


def test_no_file_is_made_through_a_link_of_another_user(place: Place) -> None:
    target = place.operator.place / "target"
    does(MALLORY, MAKES_IT, place.runtime)
    does(MALLORY, LINKS_A_LOCK, place.runtime, target)
    for command in (*COMMANDS, place.opening("y")):
        place.operator.strongroom(*command, check=False)
        assert not target.exists(), command


def test_no_file_is_written_when_the_directory_is_exchanged(place: Place) -> None:
    """Even where it is possible at all, as only root can here: while the passphrase is derived."""
    slow = place.operator.place / "slow"
    place.operator.format(slow, "--kdf", "pbkdf2", "--kdf-iterations", "4000000", size="17M")
    victim = place.operator.place / "victim"
    victim.write_text("untouched")
    key = ("--passphrase-file", place.operator.passphrase_file)
    try:
        with started(place.operator, "open", slow, "al", "--attach", "none", *key) as process:
            await_true((place.runtime / "al/control.sock").exists, "the volume's socket")
            time.sleep(0.5)
            assert process.poll() is None, "the point is that it still derives"
            place.runtime.rename(place.open / "old")
            (place.runtime / "al").mkdir(parents=True)
            (place.runtime / "al/record.json.new").symlink_to(victim)
            assert process.wait(60) != 0
        assert victim.read_text() == "untouched"
        assert sorted(path.name for path in (place.runtime / "al").iterdir()) == ["record.json.new"]
    finally:
        end_all(place.operator.place)


# --- the same by other ways


def test_a_socket_cannot_be_exchanged_in_a_directory_that_is_used(place: Place) -> None:
    with place.operator.opened(place.image, "al"):
        done = run_as(MALLORY, "/usr/bin/python3", "-c", RENAMES_AND_SERVES, place.runtime)
        assert "PermissionError" in done.stderr


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757])
def test_a_directory_into_which_others_write_is_refused(place: Place, mode: int) -> None:
    place.runtime.mkdir()
    place.runtime.chmod(mode)
    for command in COMMANDS:
        place.refuses(*command, code=REFUSED, says=f"its mode is {mode:04o}")
    said = place.refuses(*place.opening("al"), code=REFUSED, says="other users may write")
    hint = re.findall(r"hint: (.*)", said)
    subprocess.run(["sh", "-c", hint[0]], check=True)
    with place.operator.opened(place.image, "al"):
        pass


def test_a_way_that_another_user_can_change_is_refused(place: Place) -> None:
    does(MALLORY, MAKES_IT, place.open / "between")
    (place.open / "between/run").mkdir(mode=0o700)
    moved = place.operator.environment
    moved["STRONGROOM_RUNTIME_DIR"] = str(place.open / "between/run")
    place.refuses(*place.opening("al"), code=REFUSED, says="can be changed by other users")
    (place.open / "own").mkdir(mode=0o700)
    does(MALLORY, "import os, sys; os.symlink(*sys.argv[1:])", place.open / "own", place.open / "l")
    moved["STRONGROOM_RUNTIME_DIR"] = str(place.open / "l/run")
    place.refuses(*place.opening("al"), code=REFUSED, says="can be changed by other users")
    place.refuses("list", code=REFUSED, says="can be changed by other users")


def test_a_link_in_the_place_of_the_directory_is_refused(place: Place) -> None:
    (place.open / "own").mkdir(mode=0o700)
    place.runtime.symlink_to(place.open / "own")
    place.refuses(*place.opening("al"), code=40, says="cannot be used")
    assert list((place.open / "own").iterdir()) == []


def test_links_and_pipes_in_the_directory_are_not_followed(place: Place) -> None:
    """Left from a time at which other users could write there."""
    target = place.operator.place / "target"
    place.runtime.mkdir(mode=0o700)
    for name in ("dir", "link", "pipe"):
        (place.runtime / name).mkdir(mode=0o700)
    (place.runtime / "dir.lock").symlink_to(target)
    (place.runtime / "link/record.json").symlink_to("/dev/zero")
    os.mkfifo(place.runtime / "pipe/record.json")
    os.mkfifo(place.runtime / "pipe.lock")
    (place.runtime / "away").symlink_to(place.operator.place)
    began = time.monotonic()
    assert place.operator.strongroom("list").returncode == 0
    assert time.monotonic() - began < 20
    assert not target.exists()
    assert place.image.exists()
    place.refuses(*place.opening("away"), code=40, says="cannot be used")
    assert place.image.exists()


# --- marks


def test_another_user_cannot_pose_as_a_volume(place: Place) -> None:
    mark = as_user(MALLORY, "/usr/bin/python3", "-c", MAKES_A_MARK, place.runtime)
    with subprocess.Popen(mark, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert listed(place) == []
            for command in ("status", "close", "setkey"):
                place.refuses(command, "al", code=NOT_OPEN, says="no volume named al is open")
            with place.operator.opened(place.image, "al"):
                assert listed(place) == ["al"]
        finally:
            process.kill()


def test_another_user_gets_no_answer_from_a_volume(place: Place) -> None:
    with place.operator.opened(place.image, "al"):
        assert does(MALLORY, ASKS_A_MARK, place.runtime) == "b''\n"
        assert place.operator.facts("status", "al")["state"] == "open"


def test_a_container_with_the_same_network_is_another_user(place: Place) -> None:
    """Its root has the number of ours, and reaches the same abstract sockets."""
    require_tools("unshare")
    apart = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "/usr/bin/python3", "-c")
    with place.operator.opened(place.image, "al"):
        asked = place.operator.run(*apart, ASKS_A_MARK, place.runtime)
        assert asked.stdout == "b''\n"
        assert place.operator.facts("status", "al")["state"] == "open"
    with subprocess.Popen(
        [*apart, MAKES_A_MARK, place.runtime], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert listed(place) == []
            place.refuses("close", "al", code=NOT_OPEN, says="no volume named al is open")
        finally:
            process.kill()


# --- a user without root


def test_a_user_has_a_runtime_directory(place: Place) -> None:
    home, run = place.operator.place / "home", place.operator.place / "xdg"
    for path in (home, run):
        path.mkdir(mode=0o700)
        os.chown(path, ALICE, ALICE)

    def alice(words: str, **more: str) -> subprocess.CompletedProcess[str]:
        values = [f"{name}={value}" for name, value in {"HOME": str(home), **more}.items()]
        program = words.replace("strongroom ", f"{sys.executable} -I -m strongroom ")
        program = program.replace("claim", f"{sys.executable} -c '{CLAIMS}'")
        return subprocess.run(
            [*with_strongroom(ALICE, "env", "-i", *values, "sh", "-c"), program],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = alice("claim && strongroom list", XDG_RUNTIME_DIR=str(run))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{run}/strongroom/al ['al']\nno volume is open\n"
    assert (run / "strongroom").stat().st_mode & 0o777 == 0o700
    for value in ("", "tmp"):
        assert alice("strongroom list", XDG_RUNTIME_DIR=value).returncode == REFUSED
    refused = alice("strongroom list")
    assert refused.returncode == REFUSED
    assert f"user {ALICE} has no runtime directory: XDG_RUNTIME_DIR is not set" in refused.stderr
    hint = re.findall(r"hint: (.*)", refused.stderr)[0]
    done = alice(f"{hint}; claim && strongroom list")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{home}/")
    # As after `su alice` in root's shell, which leaves the variable as it was.
    refused = alice("strongroom list", STRONGROOM_RUNTIME_DIR=str(place.operator.place))
    assert refused.returncode == REFUSED
    assert f"belongs to user 0, not to user {ALICE}" in refused.stderr


def listed(place: Place) -> list[str]:
    return [item["name"] for item in json.loads(place.operator.strongroom("list", "--json").stdout)]


def test_root_does_not_use_the_directory_of_a_user(place: Place) -> None:
    """Not even to clean up: its records would say what root kills and removes."""
    does(ALICE, "import os, sys; os.mkdir(sys.argv[1], 0o700)", place.runtime)
    place.refuses("list", code=REFUSED, says=f"belongs to user {ALICE}")


def is_refused(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL])
def test_a_socket_of_another_process_of_the_user_is_no_volume(
    place: Place, number: signal.Signals
) -> None:
    """What is left of a dead volume answers nobody."""
    facts = place.operator.open(place.image, "al")
    os.kill(facts["host_pid"], number)
    control = Path(facts["socket"]).with_name("control.sock")
    # A process that has ended may have threads for a moment, and they its descriptors.
    await_true(lambda: is_refused(control), "the end of the host")
    place.refuses("status", "al", code=NOT_OPEN, says="no volume named al is open")

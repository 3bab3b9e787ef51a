# SPDX-License-Identifier: Apache-2.0
"""The recovery part of the operator's guide, walked: each loss is made, and each command is typed.

The rows are read from ``docs/guide/operating.md``, so a row without a loss that leads to it fails.
"""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_root, require_tools
from tests.harness import CHEAP_KDF, SYSTEM_PATH
from tests.hostile.bad_input.test_machine import reachable_python
from tests.hostile.enrolled.scene import rewritten, tree_of
from tests.interop.cryptsetup.foreign import DATA_BYTES, random_file, sha256
from tests.system.identity.conftest import OWN, Installations
from tests.system.identity.guide import NEW_PASSPHRASE, PAGE, Row, type_in, ways_back
from tests.system.identity.machines import Machine, as_key_file, machine, said

pytestmark = [pytest.mark.system, pytest.mark.slow]

NAME: Final = f"guide-{os.getpid()}"
ROWS: Final = ways_back()
ALICE: Final = 4711


@dataclass(frozen=True, slots=True)
class Desk:
    """An operator with a volume, its recovery key, a backup of its header and one of the state."""

    machine: Machine
    content: str

    @property
    def image(self) -> Path:
        """The volume."""
        return self.machine.place / "disk.img"

    @property
    def recovery(self) -> Path:
        """Its recovery key, as it was written down."""
        return self.machine.place / "recovery.txt"

    @property
    def header(self) -> Path:
        """The backup of its header."""
        return self.machine.place / "disk.header"

    @property
    def process(self) -> Path:
        """What makes the enclave of the account."""
        return self.machine.state / "process"

    @property
    def known(self) -> Path:
        """What the account remembers."""
        return self.machine.state / "known-enclaves"

    @property
    def uuid(self) -> str:
        """The UUID of the volume."""
        words = self.known.read_text().split() if self.known.exists() else []
        return words[0] if words else "UUID"

    def typed(self, command: str, key: str) -> tuple[int, str]:
        """Type a command of the guide, with the names of this test where the guide has others."""
        programs = self.machine.place / "bin"
        programs.mkdir(exist_ok=True)
        program = programs / "strongroom"
        program.write_text(f'#!/bin/sh\nexec {self.machine.python} -I -m strongroom "$@"\n')
        program.chmod(0o755)
        for theirs, ours in (
            ("/var/lib/strongroom", shlex.quote(str(self.machine.state))),
            ("/backup", str(self.machine.place / "backup")),
            ("disk.img data", f"disk.img {NAME} --attach none"),
            ("UUID", self.uuid),
        ):
            command = command.replace(theirs, ours)
        environment = {
            "PATH": f"{programs}:{SYSTEM_PATH}",
            "STRONGROOM_RUNTIME_DIR": str(self.machine.runtime),
            "TERM": "dumb",
            **self.machine.environment,
        }
        done = type_in(command, key, self.machine.place, environment)
        self.machine.close(NAME, "--force", check=False)
        return done

    def code_of_open(self) -> tuple[int, str]:
        """Open it with the passphrase of its first day; return the exit code and the words."""
        return self.typed("strongroom open disk.img data", self.machine.passphrase)


def desk_of(where: Machine, *options: str) -> Desk:
    """Make a volume with content, and the backups that the guide tells to make."""
    require_tools("nbdcopy", "cryptsetup")
    content = random_file(where.place / "content")
    desk = Desk(where, sha256(content))
    size = str((16 << 20) + DATA_BYTES)
    where.format(desk.image, "--recovery-key-file", desk.recovery, *options, size=size)
    with where.opened(desk.image, NAME) as volume:
        where.run("nbdcopy", "--flush", content, volume["uri"])
    where.strongroom("header", "backup", desk.image, desk.header)
    shutil.copytree(where.state, where.place / "backup")
    return desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An account with a volume of the default policy."""
    return desk_of(machine(tmp_path, "account", Path(sys.executable)))


# --- losses ---------------------------------------------------------------------------------------


def lose_process(desk: Desk) -> Desk:
    shutil.rmtree(desk.process)
    return desk


def lose_root(desk: Desk) -> Desk:
    (desk.process / "root").unlink()
    return desk


def lose_signer(desk: Desk) -> Desk:
    (desk.process / "signer").unlink()
    return desk


def lose_state(desk: Desk) -> Desk:
    shutil.rmtree(desk.machine.state)
    return desk


def go_to_another_machine(desk: Desk) -> Desk:
    state = desk.machine.place / "state of another machine"
    environment = {"STRONGROOM_STATE_DIR": str(state)}
    return Desk(
        dataclasses.replace(desk.machine, state=state, environment=environment), desk.content
    )


def damage_known(desk: Desk) -> Desk:
    text = desk.known.read_text()
    desk.known.write_text(text.replace("epoch=1", "epoch=one"))
    return desk


def let_others_write_known(desk: Desk) -> Desk:
    desk.known.chmod(0o666)
    return desk


def restore_last_night(desk: Desk) -> Desk:
    """Back up the whole image, change it today, and put it back."""
    last_night = desk.machine.place / "last night"
    shutil.copy(desk.image, last_night)
    today = desk.machine.place / "passphrase of today"
    today.write_text("a passphrase of today")
    key = ("--passphrase-file", desk.machine.passphrase_file, "--new-passphrase-file", today)
    desk.machine.strongroom("slot", "add", desk.image, *key, *CHEAP_KDF)
    shutil.copy(last_night, desk.image)
    return desk


def damage_both_copies(desk: Desk) -> Desk:
    with desk.image.open("r+b") as file:
        for copy in (0, 16384):
            file.seek(copy + 4096 + 100)
            file.write(b"damage")
    return desk


def tamper(desk: Desk) -> Desk:
    whole = desk.image.read_bytes()
    tree = tree_of(whole)
    token = next(value for value in tree["tokens"].values() if value["type"] == "strongroom")
    token["epoch"] = 9
    desk.image.write_bytes(rewritten(whole, tree))
    return desk


def relabel(desk: Desk) -> Desk:
    desk.machine.run("cryptsetup", "config", "--label", "theirs", desk.image)
    return desk


def reencrypt(desk: Desk) -> Desk:
    key = desk.machine.place / "recovery key file"
    key.write_text(desk.recovery.read_text().strip())
    desk.machine.run(
        *("cryptsetup", "reencrypt", "--force-offline-reencrypt", "--key-slot", "1"),
        *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key, desk.image),
    )
    return desk


def nothing(desk: Desk) -> Desk:
    return desk


LOSSES: Final[dict[str, tuple[Callable[[Desk], Desk], ...]]] = {
    "the directory `process` was lost, and another one was made": (lose_process,),
    "`process/root` was lost, and there is a backup of it": (lose_root,),
    "`process/root` or `process/signer` was lost for good": (lose_root, lose_signer),
    "the whole state directory was lost": (lose_state,),
    "the image is on another machine": (go_to_another_machine,),
    "a line of `known-enclaves` is damaged": (damage_known,),
    "other users may write `known-enclaves`": (let_others_write_known,),
    "the whole image was restored from last night": (restore_last_night,),
    "both copies of the header are damaged": (damage_both_copies,),
    "the header was tampered with": (tamper,),
    "cryptsetup changed the header, and you meant it": (relabel,),
    "`cryptsetup reencrypt` exchanged the volume key, and you meant it": (reencrypt,),
    "the passphrase is forgotten": (nothing,),
}
UPGRADE: Final = "an upgrade changed the program, and the policy is `measurement`"
NEWER: Final = "a newer security version sealed it, and is gone"
ACCOUNT: Final = "another account of this machine formatted it, such as a user without `sudo`"
WALKS: Final = [
    pytest.param(row, loss, id=f"{row.exit_code}-{loss.__name__}")
    for row in ROWS
    for loss in LOSSES.get(row.what_happened, ())
]


def row_of(what_happened: str) -> Row:
    (row,) = (row for row in ROWS if row.what_happened == what_happened)
    return row


def walk(desk: Desk, row: Row) -> str:
    """Meet the exit code of a row, type its commands, and have the content back.

    Returns:
        What the refusal said.
    """
    forgotten = row.exit_code == FORGOTTEN
    first = "not the passphrase" if forgotten else desk.machine.passphrase
    code, refusal = desk.typed("strongroom open disk.img data", first)
    assert code == row.exit_code, refusal
    recovery = desk.recovery.read_text().strip()
    key = recovery if row.key == "recovery key" else desk.machine.passphrase
    for command in row.commands:
        code, screen = desk.typed(command, key)
        assert code == 0, f"{command}\n{screen}"
        asks = command.split()[1] in {"open", "reseal", "slot"}
        assert ("assphrase" in screen) == asks, f"{command}\n{screen}"
    renewed = any("slot add" in command for command in row.commands)
    passphrase = desk.machine.place / "in the end"
    passphrase.write_text(NEW_PASSPHRASE if renewed else desk.machine.passphrase)
    assert desk.machine.reads(desk.image, passphrase) == desk.content
    assert desk.machine.reads(desk.image, desk.recovery) == desk.content
    return refusal


FORGOTTEN: Final = 31


@pytest.mark.parametrize(("row", "loss"), WALKS)
def test_the_way_back_leads_back(desk: Desk, row: Row, loss: Callable[[Desk], Desk]) -> None:
    walk(loss(desk), row)


def test_every_row_has_its_loss() -> None:
    """A row that is added to the guide needs the loss that leads to it, here."""
    assert [row.what_happened for row in ROWS if row.what_happened not in LOSSES] == [
        UPGRADE,
        ACCOUNT,
        NEWER,
    ]
    assert set(LOSSES) < {row.what_happened for row in ROWS}


def test_an_upgrade_of_a_strict_volume(tmp_path: Path, installations: Installations) -> None:
    old = machine(tmp_path, "account", installations.pythons["1"])
    desk = desk_of(old, "--seal-policy", "measurement")
    new = Desk(old.with_python(installations.pythons["2"]), desk.content)
    findings = {
        finding["topic"]: finding
        for finding in json.loads(new.machine.strongroom("doctor", "--json").stdout)
    }
    locked = findings[f"volume {desk.uuid}"]
    assert locked["level"] == "warning"
    assert locked["found"].startswith("LOCKED for the present enclave: it is sealed to measurement")
    assert locked["found"].endswith(f"last used as {desk.image}")
    assert f"strongroom reseal {desk.image} --adopt" in locked["mend"]
    walk(new, row_of(UPGRADE))
    healed = json.loads(new.machine.strongroom("doctor", "--json").stdout)
    assert not [finding for finding in healed if "LOCKED" in finding["found"]]


def test_the_code_after_forgetting_says_upgrade(
    tmp_path: Path, installations: Installations
) -> None:
    old = machine(tmp_path, "account", installations.pythons["1"])
    desk = desk_of(old, "--seal-policy", "measurement")
    new = Desk(old.with_python(installations.pythons["2"]), desk.content)
    new.machine.strongroom("forget", desk.image)
    code, words = new.code_of_open()
    assert code == 34
    assert "to the program before an upgrade" in plain(words)


def test_a_newer_security_version_that_is_gone(
    tmp_path: Path, installations: Installations
) -> None:
    where = machine(tmp_path, "account", installations.pythons["2"])
    for name, version in (("1", 1), ("2", 2)):
        where.sign(installations.measurements[name], OWN, version)
    desk = desk_of(where)
    desk.known.unlink()
    older = Desk(where.with_python(installations.pythons["1"]), desk.content)
    walk(older, row_of(NEWER))


# --- another account ------------------------------------------------------------------------------


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A directory that every account may enter."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_another_account_is_named(shared_place: Path) -> None:
    """Formatted as a user, opened with sudo: root is told whose volume it is."""
    require_root()
    require_tools("setpriv", "unshare")
    home = shared_place / "home"
    accounts = shared_place / "passwd"
    accounts.write_text(
        Path("/etc/passwd").read_text() + f"alice:x:{ALICE}:{ALICE}::{home}:/bin/sh\n"
    )
    reach = reachable_python()
    with_alice = (*reach, "unshare", "--mount", "sh", "-c", SHOW_ACCOUNTS, "sh", str(accounts))
    as_alice = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "env")
    (place := shared_place / "desk").mkdir()
    home.mkdir()
    operator = machine(place, "root", Path(sys.executable))
    image, recovery = place / "disk.img", place / "recovery.txt"
    operator.passphrase_file.chmod(0o644)
    for path in (home, place):
        shutil.chown(path, ALICE, ALICE)
    probe = operator.run(
        *reach, *as_alice, sys.executable, "-I", "-c", "import strongroom", check=False
    )
    if probe.returncode:
        pytest.skip(f"another account cannot run this Python: {probe.stderr[-200:]}")
    formatting = ("format", image, "--recovery-key-file", recovery, "--size", "20M", *CHEAP_KDF)
    variables = (f"HOME={home}", f"STRONGROOM_RUNTIME_DIR={home / 'run'}")
    made = operator.run(
        *with_alice,
        *as_alice,
        *("-u", "STRONGROOM_STATE_DIR", *variables),
        *(sys.executable, "-I", "-m", "strongroom", *formatting),
        *("--passphrase-file", operator.passphrase_file),
    )
    state = home / ".local/state/strongroom"
    assert f"sealed to the enclave of this account, in {state}" in made.stderr
    assert (state / "known-enclaves").exists()
    shutil.chown(place, 0, 0)
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    opening = (sys.executable, "-I", "-m", "strongroom", "open", image, NAME, *key, "--json")
    sudo = (*with_alice, "env", f"SUDO_UID={ALICE}")
    refused = operator.run(*sudo, *opening, check=False)
    assert refused.returncode == 34, refused.stderr
    assert "the enclave of user alice sealed it, and this is root's" in said_hint(refused.stdout)
    # Nobody is named who has not seen the volume, and no variable makes another one root.
    (state / "known-enclaves").write_text("")
    refused = operator.run(*sudo, *opening, check=False)
    assert "another account of this machine" in said_hint(refused.stdout)
    desk = Desk(operator, "")
    for command in row_of(ACCOUNT).commands:
        code, screen = desk.typed(command, recovery.read_text().strip())
        assert code == 0, f"{command}\n{screen}"
    passphrase = place / "in the end"
    passphrase.write_text(NEW_PASSPHRASE)
    assert operator.try_open(image, passphrase) == (0, "")


SHOW_ACCOUNTS: Final = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


def said_hint(text: str) -> str:
    hint: str = json.loads(text)["hint"]
    return hint


def plain(screen: str) -> str:
    """Return a screen without the line breaks of its terminal."""
    return re.sub(r"\s+", " ", screen.replace("strongroom: ", ""))


# --- the sentences around the table ---------------------------------------------------------------


def test_the_recovery_key_alone_opens_it_too(desk: Desk) -> None:
    lose_process(desk)
    recovery = desk.recovery.read_text().strip()
    code, words = desk.typed("strongroom open disk.img data", recovery)
    assert code == 70
    assert f"`strongroom forget {desk.uuid}`" in plain(words)
    assert desk.typed(f"strongroom forget {desk.uuid}", "")[0] == 0
    assert desk.typed("strongroom open disk.img data", recovery)[0] == 0
    assert desk.machine.reads(desk.image, desk.recovery) == desk.content


def test_forgetting_the_enclave_keeps_the_epoch(desk: Desk) -> None:
    lose_process(restore_last_night(desk))
    recovery = desk.recovery.read_text().strip()
    assert desk.typed("strongroom forget disk.img", "")[0] == 0
    for command in ("strongroom open disk.img data", "strongroom reseal disk.img --adopt"):
        code, words = desk.typed(command, recovery)
        assert code == 20, words
        assert "epoch 2 was seen here" in plain(words)
    assert desk.typed("strongroom forget disk.img --everything", "")[0] == 0
    assert desk.typed("strongroom open disk.img data", recovery)[0] == 0


def test_lost_state_is_told_from_another_machine(desk: Desk) -> None:
    lose_process(desk)
    desk.machine.strongroom("forget", desk.image)
    code, words = desk.code_of_open()
    assert (code, "this account sealed it" in plain(words)) == (34, True)
    shutil.rmtree(desk.process)
    shutil.copytree(desk.machine.place / "backup" / "process", desk.process)
    assert desk.code_of_open()[0] == 0

    code, words = go_to_another_machine(desk).code_of_open()
    assert (code, "another machine sealed it" in plain(words)) == (34, True)


def test_a_copy_of_the_state_directory_opens_it(desk: Desk) -> None:
    """What the threat model calls not safe: the disk has both."""
    thief = go_to_another_machine(desk)
    shutil.copytree(desk.machine.state, thief.machine.state)
    assert thief.code_of_open()[0] == 0


def test_a_lost_memory_needs_nothing(desk: Desk) -> None:
    desk.known.unlink()
    code, words = desk.code_of_open()
    assert code == 0
    assert "first use of this volume here" in plain(words)
    assert desk.known.exists()


@pytest.mark.parametrize("loss", [lose_root, lose_signer, lose_process, lose_state])
def test_looking_needs_no_identity_and_makes_none(desk: Desk, loss: Callable[[Desk], Desk]) -> None:
    loss(desk)
    before = files(desk.machine.state)
    run = desk.machine.strongroom
    assert run("dump", desk.image).returncode == 0
    assert run("slot", "list", desk.image).returncode == 0
    assert run("header", "backup", desk.image, desk.machine.place / "another").returncode == 0
    assert run("doctor").returncode == 0
    assert run("selftest").returncode == 0
    assert files(desk.machine.state) == before
    # And a header that is damaged meanwhile is mended.
    damage_both_copies(desk)
    assert run("header", "restore", desk.image, desk.header).returncode == 0


def files(state: Path) -> set[tuple[Path, int]]:
    """Return what is there, without the lock, which may come and stay."""
    return {
        (path, path.stat().st_size)
        for path in state.rglob("*")
        if path.name != "known-enclaves.lock"
    }


def test_a_fresh_machine_stays_one(tmp_path: Path) -> None:
    fresh = machine(tmp_path, "nobody", Path(sys.executable))
    for words in (("doctor",), ("doctor", "--next", sys.executable), ("selftest",), ("list",)):
        assert fresh.strongroom(*words).returncode == 0
    assert not fresh.state.exists()


def test_the_mark_of_the_first_start_is_made_again(desk: Desk) -> None:
    (desk.process / "started").unlink()
    assert desk.code_of_open()[0] == 0
    assert (desk.process / "started").exists()


def test_where_nothing_can_be_remembered_nothing_is_changed(desk: Desk) -> None:
    before = sha256(desk.image)
    (desk.machine.state / ".known-enclaves.new" / "full").mkdir(parents=True)
    done = desk.machine.strongroom(
        *("slot", "add", desk.image, "--passphrase-file", desk.machine.passphrase_file),
        *("--new-passphrase-file", desk.recovery, *CHEAP_KDF),
        check=False,
    )
    assert done.returncode, said(done)
    assert sha256(desk.image) == before


def test_stock_tools_take_the_recovery_key(desk: Desk) -> None:
    """The lines of "The recovery key"; this kernel may have no device mapper."""
    page = PAGE.read_text().split("## The recovery key\n", 1)[1].split("## ", 1)[0]
    for command in ("cryptsetup open disk.img data", "cryptsetup open --key-file - disk.img data"):
        assert command in page
    key = as_key_file(desk.recovery)
    test = ("cryptsetup", "open", "--test-passphrase")
    desk.machine.run(*test, desk.image, stdin=desk.recovery.read_text())
    assert (
        subprocess.run(
            [*test, "--key-file", "-", desk.image],
            input=key.read_bytes(),
            check=False,
            timeout=60,
        ).returncode
        == 0
    )

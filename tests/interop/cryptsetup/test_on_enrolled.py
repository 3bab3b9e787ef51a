# SPDX-License-Identifier: Apache-2.0
"""Stock cryptsetup on volumes that are sealed to an enclave.

Whatever it does to a header for its user is named (22), can be accepted, and is then authenticated;
it is never taken for tampering (21).
"""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator
from tests.interop.cryptsetup.foreign import PBKDF2, Cryptsetup, Volume, secret

pytestmark = pytest.mark.interop

COPY_BYTES: Final = 16384
ACCEPT: Final = "--accept-header-change"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A volume with a sealed keyslot 0 and a recovery keyslot 1, and how it was."""

    operator: Operator
    cryptsetup: Cryptsetup
    image: Path
    recovery: Path
    backup: Path
    new_uuid: str

    def stock(self, *arguments: str | Path, stdin: str | None = None) -> None:
        self.cryptsetup.run(*arguments, stdin=stdin)

    def damage(self, offset: int) -> None:
        with self.image.open("r+b") as file:
            file.seek(offset)
            file.write(b"\x5a\x5b\x5c")

    def refusal(self, passphrase: Path, *options: str) -> tuple[int, str]:
        """Return the exit code of ``open``, and what it said."""
        done = self.operator.strongroom(
            *(
                "open",
                self.image,
                "enrolled-probe",
                "--attach",
                "none",
                "--passphrase-file",
                passphrase,
            ),
            *options,
            check=False,
        )
        self.operator.close("enrolled-probe", "--force", check=False)
        return done.returncode, done.stderr

    def opens(self, passphrase: Path, *options: str) -> bool:
        """Open and close it; tell whether its header is authenticated."""
        key = ("--passphrase-file", passphrase)
        with self.operator.opened(self.image, "enrolled-probe", *key, *options) as facts:
            return bool(facts["authenticated"])


@pytest.fixture
def volume(operator: Operator) -> Enrolled:
    require_tools("cryptsetup")
    image, key = operator.place / "enrolled.img", operator.place / "recovery"
    operator.format(image, "--sparse", "--recovery-key-file", key, size="20M")
    backup = operator.place / "backup"
    operator.strongroom("header", "backup", image, backup)
    recovery = secret(operator, "recovery", key.read_text().rstrip("\n"))
    return Enrolled(operator, Cryptsetup(operator), image, recovery, backup, str(uuid.uuid4()))


def add_key(it: Enrolled, *options: str) -> None:
    new = secret(it.operator, "new", "added by cryptsetup")
    it.stock("luksAddKey", *PBKDF2, *options, "--key-file", it.recovery, it.image, new)


def exchange_sealed(it: Enrolled) -> None:
    it.stock("luksKillSlot", "--key-file", it.recovery, it.image, "0")
    add_key(it, "--key-slot", "0")


def change_recovery(it: Enrolled) -> None:
    new = secret(it.operator, "new", "changed by cryptsetup")
    it.stock("luksChangeKey", *PBKDF2, "--key-file", it.recovery, it.image, new)
    it.recovery.write_text(new.read_text())


def import_token(it: Enrolled, json: str = '{"type":"x","keyslots":["1"]}') -> None:
    it.stock("token", "import", it.image, stdin=json)


def repair_one_after_the_other(it: Enrolled) -> None:
    """Both copies get salts of cryptsetup's."""
    for offset in (200, COPY_BYTES + 200):
        it.damage(offset)
        it.stock("isLuks", it.image)


def repair_and_change(it: Enrolled) -> None:
    it.damage(200)
    it.stock("config", "--label", "given later", it.image)


RENAMED: Final = "the UUID was changed from "
CHANGES: dict[str, tuple[Callable[[Enrolled], None], str]] = {
    "label": (
        lambda it: it.stock("config", "--label", "x", "--subsystem", "y", it.image),
        "the label was changed; the subsystem was changed",
    ),
    "priority": (
        lambda it: it.stock("config", "--priority", "prefer", "--key-slot", "1", it.image),
        "the priority of a keyslot was changed",
    ),
    "UUID": (
        lambda it: it.stock("luksUUID", "--uuid", it.new_uuid, it.image),
        RENAMED,
    ),
    "token imported": (import_token, "token 2 was added"),
    "token added": (
        lambda it: it.stock("token", "add", "--key-description", "d", "--key-slot", "1", it.image),
        "token 2 was added",
    ),
    "token removed": (
        lambda it: it.stock("token", "remove", "--token-id", "0", it.image),
        "token 0 was removed",
    ),
    "token unassigned": (
        lambda it: it.stock("token", "unassign", "--token-id", "0", "--key-slot", "1", it.image),
        "token 0 was changed",
    ),
    "our token unassigned": (
        lambda it: it.stock("token", "unassign", "--token-id", "1", "--key-slot", "0", it.image),
        "keyslot 0 was taken from its token",
    ),
    "key added": (add_key, "keyslot 2 was added"),
    "last key added": (lambda it: add_key(it, "--key-slot", "31"), "keyslot 31 was added"),
    "unbound key added": (
        lambda it: add_key(it, "--unbound", "--key-size", "256"),
        "keyslot 2 was added; digest 1 was added",
    ),
    "sealed keyslot killed": (
        lambda it: it.stock("luksKillSlot", "--key-file", it.recovery, it.image, "0"),
        "keyslot 0 was removed",
    ),
    "sealed keyslot exchanged": (exchange_sealed, "keyslot 0 was changed"),
    "key changed": (change_recovery, "keyslot 1 was changed"),
    "KDF changed": (
        lambda it: it.stock(
            *("luksConvertKey", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4"),
            *("--pbkdf-memory", "64", "--key-file", it.recovery, it.image),
        ),
        "keyslot 1 was changed",
    ),
    "keyslot cipher changed": (
        lambda it: it.stock(
            *("luksConvertKey", *PBKDF2, "--keyslot-cipher", "aes-xts-plain64"),
            *("--keyslot-key-size", "256", "--key-file", it.recovery, it.image),
        ),
        "keyslot 1 was changed",
    ),
    "both copies repaired": (repair_one_after_the_other, "the salt of the primary header"),
    "repaired and changed": (repair_and_change, "the label was changed"),
}


def keys_of(it: Enrolled, name: str) -> list[Path]:
    """Return what opens the volume after a change."""
    sealed = [] if name.startswith("sealed") else [it.operator.passphrase_file]
    return [*sealed, it.recovery]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_can_be_accepted(name: str, volume: Enrolled) -> None:
    change, words = CHANGES[name]
    change(volume)
    keys = keys_of(volume, name)
    for key in keys:
        code, said = volume.refusal(key)
        assert (code, words in said) == (22, True), said
    assert volume.opens(keys[0], ACCEPT)
    for key in keys:
        assert volume.opens(key)
    state = volume.operator.facts("dump", volume.image)["authentication"]["state"]
    assert state == "verified"
    assert volume.cryptsetup.opens(Volume(volume.image), volume.recovery)


@pytest.mark.parametrize("name", CHANGES)
def test_a_backup_of_the_same_epoch_is_a_way_back(name: str, volume: Enrolled) -> None:
    recovery = volume.recovery.read_text()
    CHANGES[name][0](volume)
    volume.operator.strongroom("header", "restore", volume.image, volume.backup)
    volume.recovery.write_text(recovery)
    for key in (volume.operator.passphrase_file, volume.recovery):
        assert volume.opens(key)


@pytest.mark.parametrize("offset", [0, 5000])
@pytest.mark.parametrize("copy", [0, COPY_BYTES], ids=["primary", "secondary"])
@pytest.mark.parametrize("command", ["isLuks", "repair"])
def test_a_copy_that_it_repairs_is_repaired_by_us(
    command: str, copy: int, offset: int, volume: Enrolled
) -> None:
    before = volume.image.read_bytes()[: 2 * COPY_BYTES]
    volume.damage(copy + offset)
    volume.stock(command, volume.image)
    repaired = volume.image.read_bytes()[: 2 * COPY_BYTES]
    assert repaired != before
    assert volume.opens(volume.recovery, "--read-only")
    assert volume.opens(volume.operator.passphrase_file)
    assert volume.image.read_bytes()[: 2 * COPY_BYTES] == before


@pytest.mark.parametrize(
    "command", [("isLuks",), ("luksDump",), ("luksUUID",), ("repair",), ("luksDump", "--dump-json")]
)
def test_looking_at_it_changes_nothing(command: tuple[str, ...], volume: Enrolled) -> None:
    words = {"--dump-json": "--dump-json-metadata"}
    before = volume.image.read_bytes()
    volume.stock(*(words.get(word, word) for word in command), volume.image)
    assert volume.image.read_bytes() == before


def test_its_own_backup_is_a_way_back(volume: Enrolled) -> None:
    theirs = volume.operator.place / "theirs"
    volume.stock("luksHeaderBackup", volume.image, "--header-backup-file", theirs)
    add_key(volume)
    volume.stock("luksHeaderRestore", volume.image, "--header-backup-file", theirs)
    assert volume.opens(volume.operator.passphrase_file)


KINDS: Final = ('"other"', f'"{"x" * 300}"', '"a\\u0000b"')


@pytest.mark.parametrize(
    "member",
    [
        '"t":1.5',
        '"t":1.50e+1',
        '"t":1E3',
        '"t":1.',
        '"t":[2.E3,-.5,-1.,1.e5,-.5e-7,007.5,"\\"1."]',
        '"t":NaN',
        '"t":-Infinity',
        '"t":1732980000123456789',
        '"t":18446744073709551615',
        '"t":"\\u0000"',
        '"t":"\\u001f\\/\\ud83d\\ude00"',
        f'"{"n" * 300}":"{"v" * 3000}"',
    ],
)
def test_any_token_is_kept(member: str, volume: Enrolled) -> None:
    kind = KINDS[len(member) % len(KINDS)]
    import_token(volume, f'{{"type":{kind},"keyslots":["0","0"],{member}}}')
    before = volume.cryptsetup.run("token", "export", "--token-id", "2", volume.image)
    assert volume.refusal(volume.recovery)[0] == 22
    assert volume.opens(volume.operator.passphrase_file, ACCEPT)
    new = secret(volume.operator, "second", "the second")
    keys = ("--passphrase-file", volume.recovery, "--new-passphrase-file", new)
    volume.operator.strongroom("slot", "add", volume.image, *keys, *CHEAP_KDF)
    assert volume.cryptsetup.run("token", "export", "--token-id", "2", volume.image) == before
    assert volume.operator.facts("dump", volume.image)["tokens"]["2"]["keyslots"] == [0]
    assert volume.opens(new)


def test_a_token_that_is_not_utf_8_is_kept(volume: Enrolled) -> None:
    token = volume.operator.place / "token.json"
    token.write_bytes(b'{"type":"\xff","keyslots":[],"\xfe":"\xc0\x80"}')
    volume.stock("token", "import", "--json-file", token, volume.image)
    assert volume.opens(volume.recovery, ACCEPT)
    assert volume.opens(volume.operator.passphrase_file)
    header = volume.image.read_bytes()[:COPY_BYTES]
    assert b'{"type":"\xff","keyslots":[],"\xfe":"\xc0\x80"}' in header


@pytest.mark.parametrize("secret_of", ["the passphrase", "the recovery key"])
def test_a_renamed_volume_is_adopted_with_either_key(secret_of: str, volume: Enrolled) -> None:
    old = volume.operator.facts("dump", volume.image)["uuid"]
    volume.stock("luksUUID", "--uuid", volume.new_uuid, volume.image)
    code, said = volume.refusal(volume.operator.passphrase_file)
    assert code == 22
    assert f"the UUID was changed from {old} to {volume.new_uuid}" in said
    keys = {
        "the passphrase": volume.operator.passphrase_file,
        "the recovery key": volume.recovery,
    }
    adopting = ("--adopt", "--passphrase-file", keys[secret_of])
    facts = volume.operator.facts("reseal", volume.image, *adopting)
    assert (facts["uuid"], facts["removed_keyslots"]) == (volume.new_uuid, [])
    for key in keys.values():
        assert volume.opens(key)


def test_another_name_makes_no_older_header_acceptable(volume: Enrolled) -> None:
    older = volume.operator.place / "older.img"
    shutil.copy(volume.image, older)
    new = secret(volume.operator, "second", "the second")
    keys = ("--passphrase-file", volume.recovery, "--new-passphrase-file", new)
    volume.operator.strongroom("slot", "add", volume.image, *keys, *CHEAP_KDF)
    shutil.copy(older, volume.image)
    volume.stock("luksUUID", "--uuid", volume.new_uuid, volume.image)
    assert volume.refusal(volume.recovery, ACCEPT)[0] == 20


def rename(it: Enrolled, *, adopt: bool) -> None:
    """Give it another UUID, and let that be the right one."""
    it.stock("luksUUID", "--uuid", str(uuid.uuid4()), it.image)
    if adopt:
        key = ("--passphrase-file", it.operator.passphrase_file)
        it.operator.strongroom("reseal", it.image, "--adopt", *key)
    else:
        assert it.opens(it.operator.passphrase_file, ACCEPT)


def change_passphrase(it: Enrolled) -> None:
    new = secret(it.operator, "second", "the second")
    keys = ("--passphrase-file", it.operator.passphrase_file, "--new-passphrase-file", new)
    it.operator.strongroom("slot", "change", it.image, *keys, *CHEAP_KDF)


@pytest.mark.parametrize("renames", [(True,), (False,), (True, False)])
def test_a_header_from_before_a_new_name_is_an_older_one(
    renames: tuple[bool, ...], volume: Enrolled
) -> None:
    it, older, area = volume, volume.operator.place / "older.img", 16 << 20
    shutil.copy(it.image, older)
    for adopt in renames:
        rename(it, adopt=adopt)
    change_passphrase(it)
    whole = it.image.read_bytes()
    it.image.write_bytes(older.read_bytes()[:area] + whole[area:])
    code, said = it.refusal(it.operator.passphrase_file)
    assert code == 20, said
    assert it.operator.facts("dump", it.image)["authentication"]["state"] == "older"
    # With no header left, what was seen here decides.
    it.image.write_bytes(bytes(area) + whole[area:])
    restore = ("header", "restore", it.image, it.backup)
    assert it.operator.strongroom(*restore, check=False).returncode == 20
    it.operator.strongroom(*restore, "--force")
    assert it.opens(it.operator.passphrase_file)


def test_another_machine_that_sees_the_new_name_keeps_the_epoch(volume: Enrolled) -> None:
    """A rename that was adopted elsewhere is no way back to a header from before it."""
    it, older = volume, volume.operator.place / "older.img"
    shutil.copy(it.image, older)
    state = ("--passphrase-file", it.recovery)
    elsewhere = Operator(
        it.operator.place,
        environment={"STRONGROOM_STATE_DIR": str(it.operator.place / "elsewhere")},
    )
    it.stock("luksUUID", "--uuid", it.new_uuid, it.image)
    elsewhere.strongroom("reseal", it.image, "--adopt", *state)
    assert it.opens(it.recovery)
    shutil.copy(older, it.image)
    assert it.refusal(it.operator.passphrase_file)[0] == 20


def test_forget_finds_the_former_name_too(volume: Enrolled) -> None:
    it = volume
    old = it.operator.facts("dump", it.image)["uuid"]
    it.stock("luksUUID", "--uuid", it.new_uuid, it.image)
    forgotten = it.operator.facts("forget", it.image)
    assert (forgotten["uuid"], forgotten["epoch"]) == (old, 1)
    it.operator.facts("forget", it.image, "--everything")
    gone = it.operator.strongroom("forget", it.image, check=False)
    assert gone.returncode == 3, gone.stderr


def test_adopting_a_renamed_volume_accepts_nothing_else(volume: Enrolled) -> None:
    volume.stock("luksUUID", "--uuid", volume.new_uuid, volume.image)
    add_key(volume)
    order = ("reseal", volume.image, "--adopt", "--passphrase-file", volume.recovery)
    done = volume.operator.strongroom(*order, check=False)
    assert done.returncode == 22, done.stderr
    assert "keyslot 2 was added; the UUID was changed" in done.stderr
    volume.operator.strongroom(*order, ACCEPT)
    assert volume.opens(volume.operator.passphrase_file)

# SPDX-License-Identifier: Apache-2.0
"""A hint works when it is typed: every command in the sources is looked at, and most are run.

A command in a text stands in backticks, or at the end of it. A word in capitals is a place for the
operator's own, and ``IMAGE`` becomes the image of the command that failed.
"""

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import pytest

import strongroom
from strongroom.cli.tree import COMMANDS, root
from tests.conftest import require_tools
from tests.harness import CHEAP_KDF, Operator

pytestmark = pytest.mark.interop

SOURCES: Final = Path(strongroom.__file__).parent
TESTS: Final = Path(__file__).parents[1]

FIELD: Final = "1"
"""What stands for a value that is filled in: a number, a name and a path at once."""
OWN: Final = {"N": "1", "SIZE": "1G", "INDEX": "0x1800001", "PASSWORD": "p"}
"""What is typed for a word in capitals; others stand for themselves."""

_COMMAND: Final = re.compile(rf"\bstrongroom ((?:{'|'.join(COMMANDS)})\b[^`'|<>;,]*)")
_QUOTED: Final = re.compile(r"`([^`]+)`")
_PLACE: Final = re.compile(r"\{[a-z_]*\}")
_OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def texts(*, hints_only: bool = False, examples: bool = True) -> Iterator[tuple[str, str]]:
    """Name every text of the sources that is no docstring, with its place."""
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text())
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        parts = {id(part) for node in joined for part in node.values}
        parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        if not examples:
            parts |= {id(part) for node in _examples(tree) for part in ast.walk(node)}
        for node in _hints(tree) if hints_only else ast.walk(tree):
            if id(node) not in parts and (text := _text(node)) is not None:
                yield f"{path.relative_to(SOURCES)}:{getattr(node, 'lineno', 0)}", text


def _hints(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield from ast.walk(node.value)
        if isinstance(node, ast.AnnAssign) and "HINT" in ast.unparse(node.target) and node.value:
            yield from ast.walk(node.value)


def _examples(tree: ast.AST) -> Iterator[ast.AST]:
    """Name what the help of a command shows: another test runs that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "examples":
            yield node.value


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or FIELD for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _PLACE.sub(FIELD, node.value)  # it may be filled in by str.format
    return None


def words_of(command: str) -> list[str]:
    return [OWN.get(word, word) for word in shlex.split(command)]


def parse(command: str) -> None:
    """Resolve a command line as the program does, without running it."""
    words, found = words_of(command), root
    context = click.Context(found)
    current: click.Command = found
    while isinstance(current, click.Group):
        name = words.pop(0)
        inner = current.get_command(context, name)
        if inner is None:
            raise click.UsageError(f"no command {name}")
        current = inner
    current.make_context("strongroom", words)


def our_commands(*, examples: bool = True) -> dict[str, list[str]]:
    """Return what follows ``strongroom`` in the sources, and where it does."""
    found: dict[str, list[str]] = {}
    for place, text in texts(examples=examples):
        for match in _COMMAND.finditer(text):
            found.setdefault(match[1].strip().rstrip(".:"), []).append(place)
    return found


def foreign_commands() -> dict[str, list[str]]:
    """Return what else stands in backticks in the sources, and where it does."""
    found: dict[str, list[str]] = {}
    for place, text in texts():
        for match in _QUOTED.finditer(text):
            if " " in match[1] and not match[1].startswith("strongroom "):
                found.setdefault(match[1], []).append(place)
    return found


def test_every_command_of_ours_can_be_parsed() -> None:
    wrong = {}
    for command, places in our_commands().items():
        try:
            parse(command)
        except (click.ClickException, ValueError, IndexError) as error:
            wrong[command] = f"{error} ({', '.join(places)})"
    assert not wrong
    assert len(our_commands()) > 20


@pytest.mark.parametrize(
    "broken", ["slot list", "header restore --force", "open IMAGE", "opne a b"]
)
def test_a_command_that_fails_when_typed_is_found(broken: str) -> None:
    with pytest.raises(click.ClickException):
        parse(broken)


OPTIONS_OF_OTHERS: Final = {"--force-offline-reencrypt"}


def test_every_option_in_a_hint_exists() -> None:
    known = set(OPTIONS_OF_OTHERS)

    def collect(command: click.Command) -> None:
        known.update(name for parameter in command.params for name in parameter.opts)
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                inner = command.get_command(click.Context(command), name)
                assert inner is not None
                collect(inner)

    collect(root)
    for place, text in texts(hints_only=True):
        ours = _QUOTED.sub(lambda m: m[0] if m[1].startswith("strongroom") else "", text)
        assert set(_OPTION.findall(ours)) <= known, (place, text)


FOREIGN: Final = {
    "apt-get install": ("apt-get", "--simulate"),
    "blockdev --setrw": ("blockdev",),
    "chmod go-w": ("chmod",),
    "chmod go=": ("chmod",),
    "cryptsetup convert": ("cryptsetup",),
    "cryptsetup luksAddKey": ("cryptsetup",),
    "cryptsetup open": ("cryptsetup",),
    "cryptsetup reencrypt": ("cryptsetup",),
    "cryptsetup repair": ("cryptsetup",),
    "cryptsetup --key-file": ("cryptsetup",),
    "cryptsetup luksUUID": ("cryptsetup",),
    "fuser 1": ("fuser",),
    "fuser 1.lock": ("fuser",),
    "mknod 1": ("mknod",),
    "modprobe fuse": ("modprobe",),
    "modprobe loop": ("modprobe",),
    "modprobe nbd": ("modprobe",),
    "mv 1": ("mv",),
    "sed -i": ("sed",),
    "tpm2_changeauth -c": ("tpm2_changeauth",),
    "tpm2_dictionarylockout --clear-lockout": ("tpm2_dictionarylockout",),
    "tpm2_flushcontext -l": ("tpm2_flushcontext",),
    "tpm2_flushcontext -t": ("tpm2_flushcontext",),
    "tpm2_startup -c": ("tpm2_startup",),
    "truncate --size": ("truncate",),
}
"""Commands of other programs, by their first two words."""


def test_every_command_of_others_is_known() -> None:
    unknown = {
        command: places
        for command, places in foreign_commands().items()
        if " ".join(command.split()[:2]) not in FOREIGN
    }
    assert not unknown


@pytest.mark.parametrize("program", sorted({command.split()[0] for command in FOREIGN}))
def test_options_of_others_exist(program: str) -> None:
    """The program's own help knows every option that is named with it."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, "--help"], check=False, capture_output=True, text=True)
    manual = done.stdout + done.stderr
    for command in foreign_commands():
        if command.split()[0] == program:
            for option in _OPTION.findall(command):
                assert option in manual, command


def test_packages_exist() -> None:
    require_tools("apt-cache")
    named = set()
    for _, text in texts():
        for match in re.finditer(r"\bapt(?:-get)? install ([a-z0-9][a-z0-9+.-]+)", text):
            named.add(match[1])
    assert "libnbd-bin" in named
    for package in named:
        shown = subprocess.run(
            ["apt-cache", "policy", package], check=True, capture_output=True, text=True
        )
        if "Candidate: (none)" in shown.stdout or not shown.stdout:
            listed = subprocess.run(["apt-cache", "stats"], check=False, capture_output=True)
            if listed.returncode:
                pytest.skip("apt has no lists here")
            raise AssertionError(f"there is no package {package}")


# --- typed ----------------------------------------------------------------------------------------


class Typist:
    """Gets an error from the program, and types what its hint says."""

    def __init__(self, operator: Operator, place: Path) -> None:
        self.operator, self.place = operator, place
        self.image = place / "vault.img"
        self.recovery = place / "recovery"
        self.key = ("--passphrase-file", operator.passphrase_file)

    def make(self) -> None:
        self.operator.format(self.image, "--recovery-key-file", self.recovery, size="20M")

    def hint_of(self, *arguments: str | Path) -> str:
        done = self.operator.strongroom(*arguments, check=False)
        assert done.returncode, done.stdout
        (hint,) = [line for line in done.stderr.splitlines() if line.startswith("strongroom: hint")]
        return hint

    def types(self, hint: str, command: str, *more: str | Path, **own: str | Path) -> str:
        """Type the command of a hint, and return what it prints."""
        (found,) = [text for text in _QUOTED.findall(hint) if text.startswith(command)]
        words = [str(own.get(word, word)) for word in shlex.split(found)[1:]]
        return self.operator.strongroom(*words, *more).stdout


def slot_list(typist: Typist) -> None:
    typist.make()
    removal = ("slot", "remove", typist.image, "--keyslot", "9", *typist.key)
    assert "KEYSLOT" in typist.types(typist.hint_of(*removal), "strongroom slot list")


def slot_add(typist: Typist) -> None:
    typist.make()
    recovery = ("--passphrase-file", typist.recovery)
    new = ("--new-passphrase-file", typist.operator.key_file)
    hint = typist.hint_of("slot", "change", typist.image, *recovery, *new)
    assert "passphrase" in typist.types(hint, "strongroom slot add", *recovery, *new, *CHEAP_KDF)


def header_backup_and_restore(typist: Typist) -> None:
    typist.make()
    old = typist.place / "old.img"
    shutil.copyfile(typist.image, old)
    new = ("--new-passphrase-file", typist.operator.key_file)
    typist.operator.strongroom("slot", "add", typist.image, *typist.key, *new, *CHEAP_KDF)
    with typist.operator.opened(typist.image, "hint"):
        pass
    shutil.copyfile(old, typist.image)
    opened = ("open", typist.image, "hint", "--attach", "none", *typist.key)
    hint = typist.hint_of(*opened)
    typist.types(hint, "strongroom header backup", FILE=typist.place / "header")
    typist.types(hint, "strongroom header restore", FILE=typist.place / "header")
    with typist.operator.opened(typist.image, "hint"):
        pass


def adopt(typist: Typist) -> None:
    typist.make()
    elsewhere = {"STRONGROOM_STATE_DIR": str(typist.place / "another-state")}
    typist.operator = replace(typist.operator, environment=elsewhere)
    hint = typist.hint_of("open", typist.image, "hint", "--attach", "none", *typist.key)
    recovery = ("--passphrase-file", typist.recovery)
    typist.types(hint, "strongroom reseal", *recovery)
    new = ("--new-passphrase-file", typist.operator.passphrase_file)
    typist.types(hint, "strongroom slot add", *recovery, *new, *CHEAP_KDF)
    with typist.operator.opened(typist.image, "hint"):
        pass


def open_list(typist: Typist) -> None:
    assert "no volume" in typist.types(typist.hint_of("close", "hint"), "strongroom list")


def close_name(typist: Typist) -> None:
    typist.make()
    other = typist.place / "other.img"
    typist.operator.format(other, size="20M")
    with typist.operator.opened(typist.image, "hint"):
        hint = typist.hint_of("open", other, "hint", "--attach", "none", *typist.key)
        assert typist.types(hint, "strongroom close") == "closed hint\n"


def expected_identity(typist: Typist) -> None:
    wrong, right = typist.place / "wrong", typist.place / "right"
    wrong.write_text("nonsense")
    hint = typist.hint_of("identity", "--expect", wrong)
    right.write_text(typist.types(hint, "strongroom identity"))
    typist.operator.strongroom("identity", "--expect", right)


TYPED: Final[dict[str, Callable[[Typist], None]]] = {
    "slot list IMAGE": slot_list,
    "slot add IMAGE": slot_add,
    "header backup IMAGE FILE": header_backup_and_restore,
    "header restore IMAGE FILE --force": header_backup_and_restore,
    "reseal IMAGE --adopt": adopt,
    "list": open_list,
    "close 1": close_name,
    "identity --json": expected_identity,
}
"""The commands of hints for which a scene is made here."""

ELSEWHERE: Final = {
    "forget 1": "tests/cli/identity.txt",
    "forget 1 --everything": "tests/unit/host/test_known_enclaves.py",
    "reseal 1": "tests/unit/host/test_upgrade.py",
    "reseal IMAGE --next PYTHON": "tests/cli/test_upgrade.py",
    "reseal 1 --adopt": "tests/unit/host/test_upgrade.py",
    "setkey 1": "tests/cli/serve.txt",
    "setkey NAME": "tests/cli/serve.txt",
    "setkey NAME --passphrase-file FILE": "tests/cli/serve.txt",
    "setkey NAME --keyslot N": "tests/unit/cli/test_commands.py",
    "header restore IMAGE FILE": "tests/system/lifecycle/test_damaged_keyslots.py",
    "slot change IMAGE --keyslot 1": "tests/system/lifecycle/test_damaged_keyslots.py",
    "slot add IMAGE --recovery": "tests/system/lifecycle/test_damaged_keyslots.py",
    "slot remove IMAGE --keyslot 1": "tests/system/lifecycle/test_damaged_keyslots.py",
    "close --force 1": "tests/system/lifecycle/test_stuck.py",
    "status 1": "tests/cli/lifecycle.txt",
    "doctor": "tests/cli/machine.txt",
    "tpm enrol": "tests/system/tpm/test_commands.py",
    "tpm enrol --replace": "tests/system/tpm/test_commands.py",
    "tpm nv list": "tests/system/tpm/test_commands.py",
    "tpm nv undefine INDEX": "tests/system/tpm/test_commands.py",
    "tpm pcr read": "tests/system/tpm/test_commands.py",
    "tpm random 32": "tests/system/tpm/test_commands.py",
    "tpm seal --data-file FILE --output FILE": "tests/system/tpm/test_commands.py",
}
"""Commands of hints that another test types, which names them."""


def test_every_hint_is_typed_somewhere() -> None:
    hinted = our_commands(examples=False)
    untested = {key: hinted[key] for key in hinted.keys() - TYPED.keys() - ELSEWHERE.keys()}
    assert not untested, "add a scene to TYPED, or the test that types it to ELSEWHERE"
    assert not (TYPED.keys() | ELSEWHERE.keys()) - hinted.keys(), "no hint says so any more"
    for command, test in ELSEWHERE.items():
        typed = set(re.findall(r"[\w-]+", (TESTS.parent / test).read_text()))
        words = {word for word in re.findall(r"[\w-]+", command) if not word.isupper()}
        assert words - {FIELD, "tpm"} <= typed, (command, test)


@pytest.mark.parametrize("scene", sorted(set(TYPED.values()), key=str))
def test_a_hint_works_when_it_is_typed(
    operator: Operator, tmp_path: Path, scene: Callable[[Typist], None]
) -> None:
    scene(Typist(operator, tmp_path))


def test_a_reencryption_is_finished_as_the_hint_says(operator: Operator, tmp_path: Path) -> None:
    require_tools("cryptsetup")
    typist = Typist(operator, tmp_path)
    operator.format(typist.image, "--factors", "passphrase", size="24M")
    pbkdf = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    key = ("--key-file", operator.key_file)
    operator.run("cryptsetup", "reencrypt", "-q", "--init-only", *pbkdf, *key, typist.image)
    hint = typist.hint_of("open", typist.image, "hint", "--attach", "none", *typist.key)
    (command,) = _QUOTED.findall(hint)
    (option,) = [word for word in _OPTION.findall(hint) if word not in command]
    operator.run(*shlex.split(command), option, "-q", *key)
    with operator.opened(typist.image, "hint"):
        pass

# SPDX-License-Identifier: Apache-2.0
"""The committed man page and reference are what the command line says today."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from strongroom.cli.commands._keys import UNLOCKING_EXITS
from strongroom.cli.tree import Command, root
from strongroom.errors import TeeError

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[3]
MAN_PAGE = REPOSITORY / "docs/man/strongroom.1"


def every_command(
    group: click.Group = root, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], Command]]:
    context = click.Context(group)
    found: list[tuple[tuple[str, ...], Command]] = []
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        if isinstance(child, click.Group):
            found += every_command(child, (*path, name))
        else:
            assert isinstance(child, Command)
            found.append(((*path, name), child))
    return found


@pytest.mark.parametrize("script", ["man_page", "cli_reference", "exit_codes"])
def test_generated_files_are_fresh(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    monkeypatch.setattr(sys, "argv", [f"scripts/{script}.py", "--check"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(REPOSITORY / "scripts" / f"{script}.py"), run_name="__main__")
    assert done.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize(("path", "command"), every_command(), ids=str)
def test_every_command_explains_itself(path: tuple[str, ...], command: Command) -> None:
    assert command.help
    assert command.examples
    assert all(f"strongroom {' '.join(path)}" in line for line in command.examples)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.name
            assert parameter.envvar is None, "no option comes from the environment"


def test_how_a_command_can_end_is_all_there() -> None:
    """A passphrase that an enclave gets can be refused in the same ways wherever it is given."""
    commands = {" ".join(path): command for path, command in every_command()}
    names = {name: {p.name for p in command.params} for name, command in commands.items()}
    unlocking = {name for name in names if "accept_header_change" in names[name]}
    assert {"open", "serve", "setkey", "reseal", "slot add", "slot remove"} < unlocking
    for name in unlocking:
        assert set(UNLOCKING_EXITS) <= set(commands[name].exits), name
    enclaves = {name for name in names if "image" in names[name]} | {"selftest", "identity"}
    for name in enclaves:
        assert TeeError in commands[name].exits, name


def test_the_readme_names_the_commands_without_json() -> None:
    without = {
        path[-1]
        for path, command in every_command()
        if "json" not in {p.name for p in command.params}
    }
    assert without == {"serve", "completion"}
    (sentence,) = re.findall(r"Every command [^.]*\.", (REPOSITORY / "README.md").read_text())
    assert set(re.findall("`([a-z]+)`", sentence)) == without


def test_no_option_takes_a_secret() -> None:
    flags = {flag for _, command in every_command() for p in command.params for flag in p.opts}
    assert "--passphrase-file" in flags
    assert not flags & {"--passphrase", "--password", "--key", "--recovery-key", "-p"}


def test_help_fits_a_terminal() -> None:
    long = [
        f"{entry}: {line}"
        for entry, command in every_command()
        for line in command.get_help(
            click.Context(
                command,
                info_name=" ".join(("strongroom", *entry)),
                max_content_width=80,
                terminal_width=80,
            )
        ).splitlines()
        if len(line) > 80
    ]
    assert long == []


@pytest.mark.parametrize("name", ["", "slot", "header"])
def test_short_help_is_never_cut(name: str) -> None:
    context = click.Context(root, info_name="strongroom")
    group = root.get_command(context, name) if name else root
    assert isinstance(group, click.Group)
    commands = group.get_help(click.Context(group, info_name=name)).partition("Commands:")[2]
    assert commands.count("\n") > 1
    assert "..." not in commands


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_the_man_page_renders_without_warnings() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(MAN_PAGE)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={"MANWIDTH": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert not done.stderr
    assert "--recovery-key-file FILE" in done.stdout
    assert "strongroom slot remove" in done.stdout

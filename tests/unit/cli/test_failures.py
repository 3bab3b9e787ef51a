# SPDX-License-Identifier: Apache-2.0
"""Every way to fail has its exit code, two lines for people and one object for scripts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.cli.failure import EXIT_READER_GONE, bug_hook
from strongroom.cli.main import main
from strongroom.errors import OutputError, SelftestError, StrongroomError, TargetInUseError
from tests.fakes.host_volumes import FakeVolumes
from tests.unit.cli.conftest import Run

pytestmark = pytest.mark.unit


def every_error(kind: type[StrongroomError] = StrongroomError) -> list[type[StrongroomError]]:
    """Return the tree of errors, without those of other modules that happen to be loaded."""
    ours = [child for child in kind.__subclasses__() if child.__module__ == kind.__module__]
    return [kind, *(inner for child in ours for inner in every_error(child))]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_keeps_its_exit_code(
    run: Run, volumes: FakeVolumes, kind: type[StrongroomError]
) -> None:
    volumes.fails_with = kind("it \x1b[2J broke", hint="mend it")
    outcome = run("list", "--json")
    assert outcome.code == kind.exit_code
    assert outcome.err == "strongroom: error: it \\x1b[2J broke\nstrongroom: hint: mend it\n"
    assert outcome.facts == {
        "error": "it \x1b[2J broke",
        "hint": "mend it",
        "exit_code": kind.exit_code,
        "class": kind.__name__,
    }


def test_without_json_nothing_goes_to_standard_output(run: Run, volumes: FakeVolumes) -> None:
    volumes.fails_with = TargetInUseError("it holds data")
    outcome = run("list")
    assert (outcome.out, outcome.err) == ("", "strongroom: error: it holds data\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing command"),
        (("nonsense",), "no such command 'nonsense'"),
        (("list", "--colour"), "no such option '--colour'"),
        (("list", "extra"), "got unexpected extra argument (extra)"),
        (("open", "vault.img"), "missing argument 'NAME'"),
        (("open", "", "v"), "a path is empty"),
        (("open", "vault.img", "../v"), "not a volume name: ../v"),
        (("open", "vault.img", "-v"), "no such option '-v'"),
        (("open", "vault.img", "v" * 64), f"not a volume name: {'v' * 64}"),
        (("open", "vault.img", "v\n"), "not a volume name: v\\n"),
        (("open", "vault.img", "v", "--attach", "usb"), "invalid value for '--attach'"),
        (("close",), "missing argument 'NAME'"),
        (("format", "x", "--size", "1.5G"), "not a size: 1.5G"),
        (("format", "x", "--sector-size", "8192"), "invalid value for '--sector-size'"),
        (("format", "x", "--kdf", "pbkdf2", "--kdf-memory", "1G"), "--kdf-memory does not apply"),
        (("format", "x", "--kdf-memory", "5G"), "--kdf-memory is 5242880 KiB, allowed is 7M to 4G"),
        (("format", "x", "--kdf-memory", "900G"), "allowed is 7M to 4G"),
        (("slot", "add", "x", "--kdf-memory", "1"), "--kdf-memory is 1 KiB, allowed is 7M to 4G"),
        (("slot", "change", "x", "--kdf-memory", "7167"), "allowed is 7M to 4G"),
        (("format", "x", "--kdf-iterations", "0"), "invalid value for '--kdf-iterations'"),
        (("format", "x", "--factors", "hope"), "unknown factor: hope"),
        (("format", "x", "--factors", ""), "unknown factor: "),
        (("format", "x", "--factors", "passphrase,passphrase"), "a factor is named twice"),
        (("format", "x", "--factors", "enclave"), "the factor passphrase is needed"),
        (("format", "x", "--factors", "Enclave,passphrase"), "unknown factor: Enclave"),
        (("format", "x", "--factors", "enclave, passphrase"), "unknown factor:  passphrase"),
        (("format", "x", "--seal-policy", "anything"), "invalid value for '--seal-policy'"),
        (("format", "x", "--tee", "sgx"), "invalid value for '--tee'"),
        (("format", "x", "--no-recovery", "--recovery-key-file", "k"), "--no-recovery and"),
        (("format", "x", "--sparse"), "--sparse needs --size"),
        (("format", "x", "--label", "é" * 24), "the label is too long"),
        (("format", "x", "--label", "a\nb"), "the label has characters"),
        (("serve", "x", "v", "--wait-for-key", "--passphrase-file", "f"), "--wait-for-key and"),
        (
            ("slot", "add", "x", "--passphrase-file", "-", "--new-passphrase-file", "-"),
            "only one passphrase can come from standard input",
        ),
        (("slot", "add", "x", "--recovery", "--new-passphrase-file", "f"), "--recovery and"),
        (("slot", "add", "x", "--recovery-key-file", "f"), "--recovery-key-file needs"),
        (("slot", "add", "x", "--recovery", "--factors", "passphrase"), "--recovery and --factors"),
        (("slot", "add", "x", "--factors", "enclave"), "the factor passphrase is needed"),
        (("reseal", "x", "--adopt", "--next", "p"), "--adopt and --next exclude each other"),
        (("reseal",), "missing argument 'IMAGE'"),
        (("identity", "--expect", ""), "a path is empty"),
        (("identity", "--accept-header-change"), "no such option"),
        (("slot", "remove", "x"), "missing option '--keyslot'"),
        (("slot", "remove", "x", "--keyslot", "32"), "invalid value for '--keyslot'"),
        (("opne", "x"), "no such command 'opne' (Did you mean 'open'?)"),
        (("slot", "remvoe"), "(Did you mean 'remove'?)"),
        (("completion",), "Choose from: bash, zsh, fish"),
        (("header", "backup", "vault.img", "-"), "cannot be standard output"),
        (("completion", "tcsh"), "invalid value for '{bash|zsh|fish}'"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("strongroom: error: ")
    assert message in outcome.err.replace("'SHELL'", "'{bash|zsh|fish}'")
    assert not outcome.out
    assert not outcome.err.splitlines()[0].endswith(".")


@pytest.mark.parametrize("factor", ["tpm", "passphrase,tpm", "enclave,passphrase,tpm"])
def test_factors_of_later_versions_are_unavailable(run: Run, factor: str) -> None:
    outcome = run("format", "x", "--factors", factor)
    assert outcome.code == 50
    assert "comes in a later version" in outcome.err


def test_usage_errors_are_json_too(run: Run) -> None:
    facts = run("list", "--colour", "--json").facts
    assert isinstance(facts, dict)
    assert (facts["class"], facts["exit_code"]) == ("UsageError", 2)


def test_ctrl_c_is_130(run: Run, volumes: FakeVolumes) -> None:
    volumes.fails_with = KeyboardInterrupt()
    outcome = run("list")
    assert (outcome.code, outcome.err) == (130, "strongroom: error: interrupted\n")


def test_an_unexpected_error_is_not_swallowed(volumes: FakeVolumes) -> None:
    volumes.fails_with = ZeroDivisionError("nobody thought of it")
    with pytest.raises(ZeroDivisionError):
        main(["list"], volumes=volumes)


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_one_line_and_a_traceback_only_on_request(
    debug: bool,  # noqa: FBT001 - a parameter of the test
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        bug_hook(debug=lambda: debug, json=lambda: False)(type(error), error, error.__traceback__)
    err = capsys.readouterr().err
    assert "strongroom: error: bug: ZeroDivisionError: " in err
    assert "(test_failures.py:" in err
    assert ("Traceback" in err) is debug


def test_a_reader_that_left_is_not_an_error(
    volumes: FakeVolumes, capfd: pytest.CaptureFixture[str]
) -> None:
    source, sink = os.pipe()
    os.close(source)
    saved = os.dup(1)
    try:
        os.dup2(sink, 1)
        with open(1, "w", closefd=False) as stream, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            code = main(["list"], volumes=volumes)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)
    assert code == EXIT_READER_GONE
    assert not capfd.readouterr().err


def test_a_full_disk_is_reported(
    volumes: FakeVolumes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert main(["list"], volumes=volumes) == OutputError.exit_code
    assert "cannot write to standard output: no space left on device" in capfd.readouterr().err


CHANGES: dict[tuple[str, ...], str] = {
    ("format", "new.img", "--no-recovery"): "the volume is made",
    ("open", "vault.img", "v"): "the volume is open",
    ("setkey", "v"): "the volume is open",
    ("close", "v"): "the volume is closed",
    ("slot", "add", "vault.img", "--new-passphrase-file", "PASS"): "keyslot 2 was added",
    ("slot", "change", "vault.img", "--new-passphrase-file", "PASS"): "keyslot 0 was changed",
    ("slot", "remove", "vault.img", "--keyslot", "1"): "keyslot 1 was removed",
    ("reseal", "vault.img"): "the volume is sealed anew",
    ("header", "backup", "vault.img", "new"): "the backup is written",
    ("header", "restore", "vault.img", "old"): "the header is restored",
}


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_what_was_done_is_said_where_it_cannot_be_printed(
    run: Run, monkeypatch: pytest.MonkeyPatch, passphrase_file: str, command: tuple[str, ...]
) -> None:
    key = ("--passphrase-file", passphrase_file)
    if command[0] in {"close", "setkey"}:
        assert run("open", "vault.img", "v", *key).code == 0
    words = [passphrase_file if word == "PASS" else word for word in command]
    monkeypatch.setattr(sys, "stdout", FullDisk())
    outcome = run(*words, *(() if command[0] in {"close", "header"} else key))
    assert outcome.code == OutputError.exit_code, outcome.err
    assert f"error: {CHANGES[command]}, but cannot write to standard output: no" in outcome.err


def test_a_failed_self_test_counts_for_more_than_a_full_disk(
    volumes: FakeVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.tests = (("aes-128", False),)
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert main(["selftest"], volumes=volumes) == SelftestError.exit_code


class FullDisk:
    """A stream on a file system without room."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        """Have nothing to flush."""

    def fileno(self) -> int:
        raise OSError(9, "Bad file descriptor")


def test_closed_descriptors_are_filled(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "for number in (0, 1): os.close(number)\n"
        "from strongroom.cli.main import _fill_standard_streams\n"
        "_fill_standard_streams()\n"
        "file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "sys.stderr.write(str(file > 2 and os.get_inheritable(0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "image"],
        stderr=subprocess.PIPE,
        check=True,
        timeout=20,
    )
    assert done.stderr == b"True"


def test_ublk_is_offered_nowhere_and_refused(run: Run) -> None:
    outcome = run("open", "vault.img", "v", "--attach", "ublk")
    assert outcome.code == 50
    assert "ublk" not in run("open", "--help").out
    assert "ublk" not in run("open", "vault.img", "v", "--attach", "usb").err

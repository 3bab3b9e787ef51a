# SPDX-License-Identifier: Apache-2.0
"""Each command asks the host for the right thing and prints what it answers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.errors import WrongPassphraseError
from strongroom.host.contracts import Finding, FormatRequest, ImageReference, KdfChoice, OpenRequest
from tests.fakes.host_volumes import UUID, FakeVolumes, secret_of
from tests.unit.cli.conftest import IMAGE, Run

pytestmark = pytest.mark.unit


def test_format_hands_every_option_to_the_host(
    run: Run, volumes: FakeVolumes, passphrase_file: str
) -> None:
    outcome = run(
        *("format", "new.img", "--size", "64M", "--sector-size", "512", "--key-bits", "256"),
        *("--factors", "passphrase", "--no-recovery", "--force", "--label", "büro"),
        *("--header", "h.img", "--sparse", "--kdf", "argon2i", "--kdf-memory", "64M"),
        *("--kdf-iterations", "5", "--passphrase-file", passphrase_file),
    )
    assert outcome.code == 0, outcome.err
    assert volumes.formatted == FormatRequest(
        image=ImageReference(Path("new.img"), Path("h.img")),
        kdf=KdfChoice("argon2i", memory_kib=65536, iterations=5),
        size_bytes=64 << 20,
        sector_size_bytes=512,
        key_bits=256,
        factors=("passphrase",),
        label="büro",
        sparse=True,
        force=True,
        recovery_fd=None,
    )
    assert f"uuid:      {UUID}\n" in outcome.out
    assert "data:      48 MiB at 16 MiB\n" in outcome.out
    assert "factors:   passphrase\nsealed to: no enclave\n" in outcome.out
    assert "recovery:  none\n" in outcome.out
    assert "without the trailing newline of its file" in outcome.err


def test_format_defaults_are_the_contract(
    run: Run, volumes: FakeVolumes, passphrase_file: str
) -> None:
    run("format", "new.img", "--no-recovery", "--passphrase-file", passphrase_file)
    assert volumes.formatted == FormatRequest(ImageReference(Path("new.img")), KdfChoice())


def test_open_close_and_list(run: Run, volumes: FakeVolumes, passphrase_file: str) -> None:
    opened = run(
        *("open", "vault.img", "vault", "--attach", "none", "--read-only", "--discard", "--direct"),
        *("--passphrase-file", passphrase_file, "--json"),
    )
    assert volumes.opened["vault"] == OpenRequest(
        ImageReference(IMAGE), "vault", attach="none", read_only=True, discard=True, direct=True
    )
    facts = opened.facts
    assert isinstance(facts, dict)
    assert {"name", "image", "socket", "uri", "device", "host_pid", "enclave_pid"} <= set(facts)
    assert run("list").out.splitlines()[1].split() == [
        *("vault", "open", "none", "11", "12", "vault.img")
    ]
    assert run("list", "--json").facts == [
        {
            "name": "vault",
            "image": "vault.img",
            "state": "open",
            "device": None,
            "host_pid": 11,
            "enclave_pid": 12,
        }
    ]
    assert run("close", "vault", "--force").out == "closed vault\n"
    assert volumes.closed_with_force is True
    assert run("list").out == "no volume is open\n"
    assert run("list", "--json").facts == []


def test_notices_are_said_once(run: Run, volumes: FakeVolumes, passphrase_file: str) -> None:
    volumes.open_notices = ("one header copy was repaired",)
    outcome = run("open", "vault.img", "v", "--passphrase-file", passphrase_file)
    assert outcome.err == "strongroom: note: one header copy was repaired\n"


def test_a_passphrase_file_is_tried_once(run: Run, volumes: FakeVolumes, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(b"wrong")
    outcome = run("open", "vault.img", "v", "--passphrase-file", "wrong")
    assert outcome.code == WrongPassphraseError.exit_code
    assert volumes.attempts == 1


def test_status_shows_what_was_not_granted(run: Run, volumes: FakeVolumes) -> None:
    volumes.opened["v"] = OpenRequest(ImageReference(IMAGE), "v", read_only=True)
    text = run("status", "v").out
    assert "state:       open, read-only\n" in text
    assert "enclave:     process, simulated\n" in text
    assert "landlock     NO      the kernel has none\n" in text
    facts = run("status", "v", "--json").facts
    assert isinstance(facts, dict)
    assert facts["confinement"][1] == {
        "name": "landlock",
        "active": False,
        "detail": "the kernel has none",
    }


def test_serve_gives_the_host_a_command_for_the_key(run: Run, volumes: FakeVolumes) -> None:
    volumes.serve_code = 61
    assert run("serve", "vault.img", "v", "--passphrase-file", "-x").code == 61
    assert volumes.served is not None
    request, waits, command = volumes.served
    assert (request.name, waits) == ("v", False)
    program = (sys.executable, "-I", "-m", "strongroom", "setkey")
    assert command == (*program, "--passphrase-file=-x", "--tee", "process", "v")


def test_serve_that_waits_runs_nothing(run: Run, volumes: FakeVolumes) -> None:
    assert run("serve", "vault.img", "v", "--wait-for-key").code == 0
    assert volumes.served is not None
    assert volumes.served[1:] == (True, None)


def test_setkey_hands_over_the_passphrase(
    run: Run, volumes: FakeVolumes, passphrase_file: str
) -> None:
    volumes.opened["v"] = OpenRequest(ImageReference(IMAGE), "v")
    outcome = run("setkey", "v", "--passphrase-file", passphrase_file, "--json")
    assert outcome.code == 0
    assert isinstance(outcome.facts, dict)
    assert outcome.facts["keyslot"] == 0


def test_dump_shows_hostile_labels_harmlessly(run: Run, volumes: FakeVolumes) -> None:
    volumes.label = "\x1b]0;owned\x07"
    assert "label: \\x1b]0;owned\\x07\n" in run("dump", "vault.img").out
    facts = run("dump", "vault.img", "--json").facts
    assert isinstance(facts, dict)
    assert facts["label"] == volumes.label


def test_slot_list(run: Run) -> None:
    lines = run("slot", "list", "vault.img").out.splitlines()
    assert lines[0].split()[:3] == ["KEYSLOT", "KIND", "FACTORS"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["0", "passphrase", "enclave,", "passphrase"],
        ["1", "recovery", "-", "normal"],
    ]


def test_slot_add_reads_both_passphrases(
    run: Run, volumes: FakeVolumes, passphrase_file: str, pipe_stdin: Callable[[bytes], None]
) -> None:
    pipe_stdin(b"battery staple\n")
    outcome = run(
        *("slot", "add", "vault.img", "--passphrase-file", passphrase_file),
        *("--new-passphrase-file", "-", "--kdf", "pbkdf2", "--kdf-iterations", "1000"),
    )
    assert outcome.code == 0, outcome.err
    assert volumes.new_passphrase is not None
    assert volumes.new_passphrase.equals(secret_of(b"battery staple"))
    assert volumes.kdf == KdfChoice("pbkdf2", iterations=1000)
    assert volumes.slots[2] == "passphrase"


def test_slot_change_and_remove(
    run: Run, volumes: FakeVolumes, passphrase_file: str, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(b"new")
    existing = ("--passphrase-file", passphrase_file)
    changed = run("slot", "change", "vault.img", *existing, "--new-passphrase-file", "new")
    assert changed.code == 0
    assert volumes.new_passphrase is not None
    assert volumes.new_passphrase.equals(secret_of(b"new"))
    removed = run("slot", "remove", "vault.img", "--keyslot", "1", *existing, "--json")
    assert removed.facts == {"image": "vault.img", "keyslot": 1, "removed": True}
    last = run("slot", "remove", "vault.img", "--keyslot", "0", *existing)
    assert last.code == 4
    assert 0 in volumes.slots


def test_header_backup_and_restore(run: Run, volumes: FakeVolumes) -> None:
    assert "size_bytes: 16777216\n" in run("header", "backup", "vault.img", "copy").out
    assert run("header", "restore", "vault.img", "copy").code == 0
    assert volumes.restored_with_force is False
    run("header", "restore", "vault.img", "copy", "--force")
    assert volumes.restored_with_force is True


def test_selftest_passes_and_fails(run: Run, volumes: FakeVolumes) -> None:
    assert run("selftest").out == "passed  aes-128\npassed  xts\n"
    volumes.tests = (("aes-128", True), ("xts", False))
    failed = run("selftest", "--json")
    assert failed.code == 52
    assert json.loads(failed.out)[1] == {"name": "xts", "passed": False}
    assert "1 of 2 known-answer tests failed" in failed.err
    volumes.tests = ()
    assert run("selftest").code == 52


def test_doctor_names_what_mends(run: Run, volumes: FakeVolumes) -> None:
    assert run("doctor").out == (
        "ok       memfd_secret: available\nmissing  ublk: no module\n         modprobe ublk_drv\n"
    )
    assert volumes.asked == {"python": None}


def test_doctor_asks_for_the_next_enclave(run: Run, volumes: FakeVolumes) -> None:
    volumes.findings = (Finding("volume 1", "warning", "LOCKED by it", "reseal it"),)
    outcome = run("doctor", "--next", "other/bin/python")
    assert outcome.out == "warning  volume 1: LOCKED by it\n         reseal it\n"
    assert volumes.asked == {"python": Path("other/bin/python")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    outcome = run("completion", shell)
    assert outcome.code == 0
    assert f"_STRONGROOM_COMPLETE={shell}_complete" in outcome.out


def test_completion_knows_open_volumes(
    run: Run, volumes: FakeVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.opened["vault"] = OpenRequest(ImageReference(IMAGE), "vault")
    volumes.opened["other"] = OpenRequest(ImageReference(IMAGE), "other")
    monkeypatch.setenv("_STRONGROOM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "strongroom close va")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run().out.split() == ["plain,vault"]


@pytest.mark.parametrize("ask", [("-h",), ("help",)])
def test_help_is_found_however_it_is_asked_for(run: Run, ask: tuple[str, ...]) -> None:
    assert run(*ask).out == run("--help").out
    words = ("slot", "add")
    asked = ("help", *words) if ask == ("help",) else (*words, *ask)
    assert run(*asked).out == run(*words, "--help").out
    assert run("-V").out == run("--version").out


def test_help_can_be_read_on_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = run("open", "--help").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  --discard"))
    assert lines[at + 1].startswith(" " * 10)
    assert len(lines[at + 1].split()) > 5, "the description has most of the width"


def test_completion_of_fish_keeps_commas_in_descriptions(run: Run) -> None:
    script = run("completion", "fish").out
    assert 'string split --max 1 "," $completion' in script
    assert 'string split ","' not in script


def test_doctor_fails_when_it_is_asked_to(run: Run, volumes: FakeVolumes) -> None:
    assert run("doctor").code == 0
    outcome = run("doctor", "--check", "--json")
    assert outcome.code == 50
    assert "missing here: ublk" in outcome.err
    volumes.findings = (Finding("swap", "warning", "is on", ""),)
    assert run("doctor", "--check").code == 0


def test_a_device_is_named_without_a_lecture(run: Run, passphrase_file: str) -> None:
    shown = run("open", "vault.img", "v", "--passphrase-file", passphrase_file).out
    (line,) = [line for line in shown.splitlines() if line.startswith("device:")]
    assert line in {"device:  /dev/strongroom/v (nbd)", "device:  none (none: asked for)"}, line

# SPDX-License-Identifier: Apache-2.0
"""What an operator says about enclaves reaches the host, and what comes back is said plainly."""

import dataclasses
import sys
from pathlib import Path
from typing import Final, NoReturn, get_args

import pytest

from strongroom.boundary.calls import Authentication
from strongroom.cli.commands.status import _AUTHENTICATION
from strongroom.errors import EnclaveFactorError, IdentityError
from strongroom.host.contracts import (
    Enrolment,
    FormatRequest,
    ImageReference,
    KdfChoice,
    OpenRequest,
    Unlocking,
)
from tests.fakes.host_volumes import IDENTITY, MEASUREMENT, SIGNER, UUID, FakeVolumes
from tests.unit.cli.conftest import IMAGE, Run

pytestmark = pytest.mark.unit

PASS: Final = ("--passphrase-file", "pass")
PLAIN: Final = ("slot", "add", "vault.img", *PASS, "--new-passphrase-file", "pass")
TERMS: Final = (
    ((), Unlocking("process", accept_header_change=False)),
    (("--accept-header-change",), Unlocking("process", accept_header_change=True)),
    (("--tee", "gramine"), Unlocking("gramine", accept_header_change=False)),
    (
        ("--tee", "gramine", "--accept-header-change"),
        Unlocking("gramine", accept_header_change=True),
    ),
)
TERMS_IDS: Final = ("none", "accepted", "gramine", "both")
UNLOCKING: Final = (
    ("open", "vault.img", "w", *PASS),
    ("setkey", "v", *PASS),
    PLAIN,
    ("slot", "change", "vault.img", *PASS, "--new-passphrase-file", "pass"),
    ("slot", "remove", "vault.img", "--keyslot", "1", *PASS),
    ("reseal", "vault.img", *PASS),
)


@pytest.fixture(autouse=True)
def _opened(volumes: FakeVolumes, passphrase_file: str) -> None:
    assert Path(passphrase_file).name == "pass"
    volumes.opened["v"] = OpenRequest(ImageReference(IMAGE), "v")


# --- terms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", UNLOCKING, ids=lambda command: "-".join(command[:2]))
@pytest.mark.parametrize(("options", "how"), TERMS, ids=TERMS_IDS)
def test_what_is_agreed_to_reaches_the_host(  # noqa: PLR0917 - fixtures
    run: Run,
    volumes: FakeVolumes,
    command: tuple[str, ...],
    options: tuple[str, ...],
    how: Unlocking,
) -> None:
    outcome = run(*command, *options)
    assert outcome.code == 0, outcome.err
    assert volumes.how == how


@pytest.mark.parametrize(("options", "how"), TERMS, ids=TERMS_IDS)
def test_serve_passes_on_what_is_agreed_to(
    run: Run, volumes: FakeVolumes, options: tuple[str, ...], how: Unlocking
) -> None:
    run("serve", "vault.img", "w", *PASS, *options)
    assert volumes.served is not None
    request, _, key_command = volumes.served
    assert request.tee == how.tee
    assert key_command is not None
    assert key_command[:5] == (sys.executable, "-I", "-m", "strongroom", "setkey")
    # The command that hands over the key takes its own options, and means the same by them.
    volumes.opened["w"] = request
    assert run(*key_command[4:]).code == 0
    assert volumes.how == how


@pytest.mark.parametrize("tee", ["process", "gramine"])
@pytest.mark.parametrize(
    "command",
    [
        ("dump", "vault.img"),
        ("slot", "list", "vault.img"),
        ("header", "backup", "vault.img", "copy"),
        ("header", "restore", "vault.img", "copy"),
        ("selftest",),
    ],
    ids=" ".join,
)
def test_what_looks_at_a_volume_is_chosen(
    run: Run, volumes: FakeVolumes, command: tuple[str, ...], tee: str
) -> None:
    assert run(*command).code == 0
    assert volumes.asked == {"tee": "process"}
    assert run(*command, "--tee", tee).code == 0
    assert volumes.asked == {"tee": tee}


@pytest.mark.parametrize(
    "command",
    [("slot", "list", "vault.img"), ("header", "backup", "vault.img", "copy")],
    ids=" ".join,
)
def test_tampering_is_named_beside_the_result(
    run: Run, volumes: FakeVolumes, command: tuple[str, ...]
) -> None:
    volumes.authentication = "tampered"
    outcome = run(*command, "--json")
    assert outcome.code == 0
    assert outcome.facts
    assert "note: the header was tampered with" in outcome.err


@pytest.mark.parametrize("boundary", ["fd", "stdio", "tcp"])
def test_the_way_to_the_enclave_reaches_the_host(
    run: Run, volumes: FakeVolumes, boundary: str
) -> None:
    assert run("open", "vault.img", "w", *PASS, "--boundary", boundary).code == 0
    assert volumes.opened["w"].transport == boundary
    assert run("serve", "vault.img", "x", *PASS, "--boundary", boundary).code == 0
    assert volumes.served is not None
    assert volumes.served[0].transport == boundary


def test_doctor_and_identity_send_no_passphrase_anywhere(run: Run) -> None:
    for command in ("doctor", "identity", "dump", "status", "format"):
        assert "--accept-header-change" not in run(command, "--help").out
    for command in ("doctor", "identity", "dump", "status"):
        assert "--passphrase-file" not in run(command, "--help").out


# --- factors --------------------------------------------------------------------------------------


def test_a_volume_is_sealed_unless_told_otherwise(run: Run, volumes: FakeVolumes) -> None:
    outcome = run("format", "new.img", "--no-recovery", *PASS)
    assert volumes.formatted == FormatRequest(
        ImageReference(Path("new.img")),
        KdfChoice(),
        factors=("enclave", "passphrase"),
        seal_policy="signer",
        tee="process",
    )
    sealed = f"signer {SIGNER} (process, simulated, security version 3)"
    assert f"factors:   enclave, passphrase\nsealed to: {sealed}\n" in outcome.out


def test_format_is_sealed_as_told(run: Run, volumes: FakeVolumes) -> None:
    run(
        *("format", "new.img", "--no-recovery", *PASS, "--factors", "passphrase,enclave"),
        *("--seal-policy", "measurement", "--tee", "gramine", "--json"),
    )
    assert volumes.formatted is not None
    assert volumes.formatted.factors == ("enclave", "passphrase"), "in their order"
    assert volumes.formatted.seal_policy == "measurement"
    assert volumes.formatted.tee == "gramine"


def test_format_says_what_it_is_sealed_to_in_json(run: Run) -> None:
    facts = run("format", "new.img", "--no-recovery", *PASS, "--json").facts
    assert isinstance(facts, dict)
    assert facts["enrolment"] == {"policy": "signer", "identity": IDENTITY}
    assert (facts["factors"], facts["epoch"]) == (["enclave", "passphrase"], 1)
    facts = run(
        "format", "new.img", "--no-recovery", *PASS, "--json", "--factors", "passphrase"
    ).facts
    assert isinstance(facts, dict)
    assert (facts["enrolment"], facts["epoch"]) == (None, 0)


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ((), None),
        (("--factors", "passphrase"), ("passphrase",)),
        (("--factors", "passphrase,enclave"), ("enclave", "passphrase")),
    ],
    ids=["default", "passphrase", "both"],
)
def test_a_keyslot_gets_the_factors_that_were_named(
    run: Run, volumes: FakeVolumes, options: tuple[str, ...], factors: tuple[str, ...] | None
) -> None:
    outcome = run(*PLAIN, *options)
    assert outcome.code == 0, outcome.err
    assert volumes.asked == {"factors": factors}
    assert "factors: enclave, passphrase\n" in outcome.out


def test_a_recovery_key_has_no_factors(run: Run) -> None:
    outcome = run(*("slot", "add", "vault.img", *PASS, "--recovery", "--recovery-key-file", "key"))
    assert "factors: none but the key\n" in outcome.out


# --- open and status ------------------------------------------------------------------------------


def test_open_says_whether_the_header_is_authentic(run: Run, volumes: FakeVolumes) -> None:
    assert "header:  authenticated, epoch 7\n" in run("open", "vault.img", "a", *PASS).out
    volumes.enrolment = None
    assert "header:  not authenticated\n" in run("open", "vault.img", "b", *PASS).out
    facts = run("setkey", "b", *PASS, "--json").facts
    assert isinstance(facts, dict)
    assert (facts["authenticated"], facts["epoch"]) == (False, 0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("absent", "not authenticated"),
        ("verified", "authenticated, epoch 7"),
        ("changed", "changed by another program"),
        ("unverified", "sealed to another enclave"),
        ("tampered", "TAMPERED WITH"),
    ],
)
def test_status_has_words_for_every_state_of_a_header(
    run: Run, volumes: FakeVolumes, state: str, words: str
) -> None:
    volumes.authentication = state
    (line,) = (line for line in run("status", "v").out.splitlines() if line.startswith("header:"))
    assert line.removeprefix("header:").strip().startswith(words)
    facts = run("status", "v", "--json").facts
    assert isinstance(facts, dict)
    assert facts["authentication"] == state


def test_no_state_of_a_header_is_without_words() -> None:
    assert set(_AUTHENTICATION) == set(get_args(Authentication))
    assert len(set(_AUTHENTICATION.values())) == len(_AUTHENTICATION)


def test_status_says_who_the_enclave_is(run: Run, volumes: FakeVolumes) -> None:
    text = run("status", "v").out
    assert f"measurement: {MEASUREMENT}\nsigner:      {SIGNER}\n" in text
    assert f"sealed to:   signer {SIGNER} (process, simulated, security version 3)\n" in text
    volumes.enrolment = Enrolment("measurement", {**IDENTITY, "simulated": False})
    text = run("status", "v").out
    assert f"sealed to:   measurement {MEASUREMENT} (process, security version 3)\n" in text
    volumes.enrolment = None
    assert "sealed to:   no enclave\n" in run("status", "v").out


# --- identity -------------------------------------------------------------------------------------


def test_identity_shows_who_the_enclave_is(run: Run, volumes: FakeVolumes) -> None:
    outcome = run("identity")
    assert outcome.out == (
        "tee:              process, simulated\n"
        f"measurement:      {MEASUREMENT}\n"
        f"signer:           {SIGNER}\n"
        "product:          1\n"
        "security version: 3\n"
        "debug:            no\n"
        "report:           not checked: nothing here can\n"
        "version:          0.1\n"
    )
    assert volumes.asked == {"tee": "process", "python": None, "expect": None}
    assert run("identity", "--json").facts == {**IDENTITY, "genuine": False, "version": "0.1"}


def test_identity_warns_of_a_debugger(run: Run, volumes: FakeVolumes) -> None:
    volumes.identified = dataclasses.replace(
        volumes.identified, debug=True, genuine=True, simulated=False
    )
    text = run("identity").out
    assert "tee:              process\n" in text
    assert "debug:            YES: its memory can be read\n" in text
    assert "report:           genuine\n" in text


def test_identity_asks_whom_it_was_told_to(run: Run, volumes: FakeVolumes) -> None:
    options = ("--tee", "gramine", "--next", "other/python", "--expect", "vault.img")
    assert run("identity", *options).code == 0
    assert volumes.asked == {
        "tee": "gramine",
        "python": Path("other/python"),
        "expect": Path("vault.img"),
    }


def test_an_unexpected_identity_is_not_shown_as_if_it_were_right(run: Run) -> None:
    outcome = run("identity", "--expect", "other.json", "--json")
    assert outcome.code == IdentityError.exit_code == 70
    assert isinstance(outcome.facts, dict)
    assert outcome.facts["class"] == "IdentityError"
    assert MEASUREMENT not in outcome.out


# --- forget ---------------------------------------------------------------------------------------


def test_forget_says_what_is_forgotten_and_what_is_not(run: Run) -> None:
    outcome = run("forget", "vault.img")
    assert outcome.code == 0
    assert f"volume:    {UUID}" in outcome.out
    assert f"forgotten: signer {SIGNER}" in outcome.out
    assert "epoch:     kept, 4" in outcome.out
    outcome = run("forget", "vault.img", "--everything")
    assert "epoch:     forgotten" in outcome.out


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("reseal", "vault.img"), "reseal vault.img --adopt"),
        (("reseal", "a b.img"), "reseal 'a b.img' --adopt"),
        (("reseal", "--", "-x.img"), "reseal ./-x.img --adopt"),
        (("reseal", "d.img", "--header", "d h"), "reseal d.img --header 'd h' --adopt"),
    ],
)
def test_a_hint_names_the_image_of_the_command(  # noqa: PLR0917 - fixtures
    run: Run,
    volumes: FakeVolumes,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    shown: str,
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise EnclaveFactorError("lost", hint="`strongroom reseal IMAGE --adopt` helps")

    monkeypatch.setattr(volumes, "reseal", fail)
    outcome = run(words[0], *PASS, *words[1:])
    assert outcome.code == EnclaveFactorError.exit_code
    assert f"`strongroom {shown}` helps" in outcome.err


# --- reseal ---------------------------------------------------------------------------------------


def test_reseal_says_from_what_to_what(run: Run, volumes: FakeVolumes) -> None:
    outcome = run("reseal", "vault.img", *PASS)
    assert outcome.out == (
        "volume: vault.img\n"
        f"before: signer {SIGNER} (process, simulated, security version 2)\n"
        f"now:    signer {SIGNER} (process, simulated, security version 3)\n"
        "epoch:  8\n"
    )
    assert volumes.asked == {"policy": None, "successor": None, "adopt": False}


def test_reseal_goes_where_it_was_told_to(run: Run, volumes: FakeVolumes) -> None:
    outcome = run(
        *("reseal", "vault.img", *PASS, "--next", "other/python"),
        *("--seal-policy", "measurement", "--json"),
    )
    assert volumes.asked == {
        "policy": "measurement",
        "successor": Path("other/python"),
        "adopt": False,
    }
    assert outcome.facts == {
        "image": "vault.img",
        "uuid": UUID,
        "before": {"policy": "signer", "identity": {**IDENTITY, "security_version": 2}},
        "after": {"policy": "measurement", "identity": IDENTITY},
        "removed_keyslots": [],
        "epoch": 8,
    }


def test_adoption_names_what_it_removed(run: Run, volumes: FakeVolumes) -> None:
    outcome = run("reseal", "vault.img", *PASS, "--adopt")
    assert volumes.asked == {"policy": None, "successor": None, "adopt": True}
    assert outcome.out.endswith("removed: keyslots 0, 3\n")

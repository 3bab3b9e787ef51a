# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm`` as an operator types it, from the enclave and from the host."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_tools
from tests.harness import STRONGROOM, Operator
from tests.swtpm import SocketKind, Swtpm, swtpm

pytestmark = pytest.mark.system

TESTS = (
    "initialize",
    "capabilities",
    "time",
    "list nv indexes",
    "define a counter",
    "increment the counter",
    "read the counter",
    "delete the counter",
    "encrypted session",
    "policy-protected session",
    "deinitialize",
)
PLACES = ("enclave", "host")
COUNTER, INDEX = "0x01800001", "0x01800002"
STORAGE_ROOT = "0x81000001"
DATA = "what nobody else is to read"


@pytest.fixture
def operator(operator: Operator) -> Operator:
    """An operator on a machine whose enclave has met no TPM."""
    operator.environment["STRONGROOM_STATE_DIR"] = str(operator.place / "state")
    return operator


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path, socket_kind="shared") as running:
        yield running


class Shell:
    """Runs ``strongroom tpm`` on one TPM."""

    def __init__(self, operator: Operator, tpm: Swtpm) -> None:
        self._operator, self._tpm = operator, tpm

    def run(
        self, *words: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        address = ("--tpm", self._tpm.address)
        return self._operator.strongroom("tpm", *words, *address, check=check, stdin=stdin)

    def facts(self, *words: str | Path) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.run(*words, "--json").stdout)


@pytest.fixture
def shell(operator: Operator, tpm: Swtpm) -> Shell:
    return Shell(operator, tpm)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("place", PLACES)
def test_all_eleven_pass(operator: Operator, tmp_path: Path, kind: SocketKind, place: str) -> None:
    with swtpm(tmp_path, socket_kind=kind) as tpm:
        shell = Shell(operator, tpm)
        for enrolled in (False, True):
            results = shell.facts("selftest", "--in", place)
            assert tuple(item["name"] for item in results) == TESTS
            assert {(item["in"], item["problem"]) for item in results} == {(place, "")}
            if not enrolled:
                shell.run("enrol")


def test_an_enrolled_tpm_is_the_only_one(operator: Operator, tmp_path: Path) -> None:
    with swtpm(tmp_path) as first, swtpm(tmp_path, socket_kind="shared") as second:
        one, other = Shell(operator, first), Shell(operator, second)
        assert "not enrolled" in one.run("clock").stderr
        met = one.facts("enrol")
        assert met["certificate"] == "none"
        assert "not enrolled" not in one.run("clock").stderr
        refused = other.run("clock", check=False)
        assert refused.returncode == 83
        assert "strongroom tpm enrol --replace" in refused.stderr
        kept = other.run("enrol", check=False)
        assert kept.returncode == 2
        assert "another TPM is enrolled here" in kept.stderr
        assert persistent(second) == [STORAGE_ROOT]
        one.run("clock")
        one.run("enrol")
        one.run("clock")
        other.run("enrol", "--replace")
        other.run("clock")
        assert one.run("clock", check=False).returncode == 83


@pytest.mark.parametrize("place", PLACES)
def test_an_index_from_its_definition_to_its_end(
    shell: Shell, operator: Operator, tpm: Swtpm, place: str
) -> None:
    value, data, read = (operator.place / name for name in ("value", "data", "read"))
    value.write_text("a value\n")
    data.write_text(f"{DATA}\n")
    auth = ("--auth-file", value, "--in", place)
    made = shell.facts("nv", "define", INDEX, "--size", str(len(DATA)), *auth)
    assert made["attributes"] == ["authwrite", "authread"]
    shell.run("nv", "write", INDEX, "--data-file", data, *auth)
    assert tpm.tool("tpm2_nvread", "-P", "a value", INDEX).stdout == DATA.encode()
    shell.run("nv", "read", INDEX, "--output", read, *auth)
    assert read.read_text() == DATA
    assert read.stat().st_mode & 0o777 == 0o600
    assert [item["index"] for item in shell.facts("nv", "list", "--in", place)] == [INDEX]
    without = shell.run("nv", "read", INDEX, "--in", place, check=False)
    assert without.returncode == 80
    assert "a try is counted" in without.stderr
    assert "--auth-file FILE" in without.stderr
    shell.run("nv", "undefine", INDEX, "--in", place)
    assert shell.facts("nv", "list", "--in", place) == []


def test_a_counter_that_only_this_enclave_counts(shell: Shell, tpm: Swtpm) -> None:
    unknown = shell.run("nv", "define", COUNTER, "--counter", "--protected", check=False)
    assert unknown.returncode == 2
    assert "enrolled" in unknown.stderr
    shell.run("enrol")
    shell.run("nv", "define", COUNTER, "--counter", "--protected")
    first = shell.facts("nv", "increment", COUNTER, "--protected")["value"]
    assert shell.facts("nv", "increment", COUNTER, "--protected")["value"] == first + 1
    assert shell.run("nv", "read", COUNTER, "--counter", "--protected").stdout == f"{first + 1}\n"
    assert tpm.tool("tpm2_nvincrement", COUNTER, check=False).returncode
    host = shell.run("nv", "increment", COUNTER, "--protected", "--in", "host", check=False)
    assert host.returncode == 2
    assert "use --in enclave" in host.stderr


@pytest.mark.parametrize("place", PLACES)
def test_pcrs_are_those_of_the_tools(shell: Shell, tpm: Swtpm, place: str) -> None:
    digest = "22" * 32
    value = shell.facts("pcr", "extend", "16", digest, "--in", place)["value"]
    read = shell.facts("pcr", "read", "--in", place)["sha256"]
    assert len(read) == 24
    assert read["16"] == value
    printed = tpm.tool("tpm2_pcrread", "sha256:16").stdout.decode().lower()
    assert value in printed


def test_what_the_host_carries_is_recorded(shell: Shell, operator: Operator) -> None:
    """The same operations, with the same secrets: the search finds them all, or none."""
    found = {place: searched(shell, operator, place) for place in PLACES}
    print(found)
    assert set(found["enclave"].values()) == {0}
    assert all(found["host"].values())


def searched(shell: Shell, operator: Operator, place: str) -> dict[str, int]:
    """Do what carries secrets, and count in each recording those that it carried."""
    value, data, drawn = (operator.place / f"{name}-{place}" for name in ("value", "data", "drawn"))
    sealed, opened = (operator.place / f"{name}-{place}" for name in ("sealed", "opened"))
    value.write_text("a value that is searched for")
    data.write_text(DATA)
    auth = ("--auth-file", value)
    operations: dict[str, tuple[str | Path, ...]] = {
        "define": ("nv", "define", INDEX, "--size", str(len(DATA)), *auth),
        "write": ("nv", "write", INDEX, "--data-file", data, *auth),
        "read": ("nv", "read", INDEX, "--output", opened, *auth),
        "seal": ("seal", "--data-file", data, "--output", sealed, *auth),
        "unseal": ("unseal", sealed, *auth),
        "random": ("random", "32", "--output", drawn),
    }
    traces = {name: operator.place / f"{name}-{place}.pcap" for name in operations}
    for name, words in operations.items():
        shell.run(*words, "--in", place, "--tpm-trace", traces[name])
    shell.run("nv", "undefine", INDEX, "--in", place)
    secrets = (value.read_bytes(), data.read_bytes(), drawn.read_bytes())
    return {
        name: sum(trace.read_bytes().count(secret) for secret in secrets)
        for name, trace in traces.items()
    }


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path, socket_kind="shared", certificates=True) as running:
        yield running


def roots_of(tpm: Swtpm, place: Path, *names: str) -> Path:
    """Return a directory of certificates: those of this TPM's authority that are named."""
    assert tpm.authority is not None
    place.mkdir()
    for name in names:
        path = getattr(tpm.authority, name)
        (place / f"{name}.pem").write_bytes(path.read_bytes())
    return place


def test_a_makers_certificate_is_verified(operator: Operator, certified: Swtpm) -> None:
    shell = Shell(operator, certified)
    roots = roots_of(certified, operator.place / "roots", "issuer", "root")
    (roots / "other.pem").write_text("no certificate")
    first_use = shell.facts("enrol")
    assert (first_use["certificate"], first_use["vouched_by"]) == ("unverified", "")
    enrolled = shell.run("enrol", "--json", "--roots", roots)
    met = json.loads(enrolled.stdout)
    assert (met["certificate"], met["vouched_by"]) == ("verified", "CN=swtpm-localca-rootca")
    assert "trust on first use" not in enrolled.stderr
    assert "other.pem" in enrolled.stderr
    assert met["endorsement"] == first_use["endorsement"]


def test_a_tpm_that_nobody_vouches_for_is_not_pinned(
    operator: Operator, certified: Swtpm, tpm: Swtpm
) -> None:
    roots = roots_of(certified, operator.place / "roots", "issuer", "root")
    without = roots_of(certified, operator.place / "without", "root")
    before = persistent(certified)
    for chosen, directory, reason in (
        (tpm, roots, "no certificate"),
        (certified, without, "nobody who is trusted"),
    ):
        refused = Shell(operator, chosen).run("enrol", "--roots", directory, check=False)
        assert refused.returncode == 84, refused.stderr
        assert reason in refused.stderr
        assert "not enrolled" in Shell(operator, chosen).run("clock").stderr
    assert set(persistent(certified)) == {*before, STORAGE_ROOT}


def persistent(tpm: Swtpm) -> list[str]:
    """Return the handles of all keys that outlive a reset."""
    return tpm.tool("tpm2_getcap", "handles-persistent").stdout.decode().split()[1::2]


def test_an_enrolment_leaves_one_attestation_key(
    shell: Shell, operator: Operator, tpm: Swtpm
) -> None:
    for _ in range(3):
        shell.run("enrol")
        assert len(persistent(tpm)) == 2
    shell.run("forget")
    assert persistent(tpm) == [STORAGE_ROOT]
    assert not list((operator.place / "state" / "tpm").iterdir())
    assert "not enrolled" in shell.run("clock").stderr


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("pcrs", [(), ("--pcr", "16", "--pcr", "7")])
def test_data_from_its_sealing_to_its_opening(
    shell: Shell, operator: Operator, tpm: Swtpm, *, place: str, pcrs: tuple[str, ...]
) -> None:
    value, data, sealed = (operator.place / name for name in ("value", "data", "sealed"))
    value.write_text("a value\n")
    data.write_text(DATA)
    auth = ("--auth-file", value, "--in", place)
    shell.run("enrol")
    shell.run("seal", "--data-file", data, "--output", sealed, *pcrs, *auth)
    assert DATA not in sealed.read_text()
    assert shell.run("unseal", sealed, *auth).stdout == DATA
    assert opened_with_tools(tpm, json.loads(sealed.read_text())) == DATA.encode()

    assert "give --auth-file" in shell.run("unseal", sealed, check=False).stderr
    value.write_text("another\n")
    assert shell.run("unseal", sealed, *auth, check=False).returncode == 80
    value.write_text("a value\n")
    again = shell.run("seal", "--data-file", data, "--output", sealed, *auth, check=False)
    assert again.returncode == 2
    assert "exists" in again.stderr

    shell.run("pcr", "extend", "16", "33" * 32)
    after = shell.run("unseal", sealed, *auth, check=False)
    assert after.returncode == (80 if pcrs else 0)


def opened_with_tools(tpm: Swtpm, sealed: dict[str, Any]) -> bytes:
    """Open sealed data as an operator does who has no Strongroom."""
    for name in ("public", "private"):
        (tpm.place / name).write_bytes(bytes.fromhex(sealed[name]))
    parts = ("-u", "public", "-r", "private", "-c", "object.ctx")
    tpm.tool("tpm2_load", "-C", STORAGE_ROOT, *parts)
    auth = "a value"
    if sealed["pcrs"]:
        auth = f"session:policy.ctx+{auth}"
        pcrs = f"{sealed['bank']}:{','.join(map(str, sealed['pcrs']))}"
        tpm.tool("tpm2_startauthsession", "--policy-session", "-S", "policy.ctx")
        tpm.tool("tpm2_policypcr", "-S", "policy.ctx", "-l", pcrs)
        tpm.tool("tpm2_policyauthvalue", "-S", "policy.ctx")
    opened = tpm.tool("tpm2_unseal", "-c", "object.ctx", "-p", auth).stdout
    for kind in ("-t", "-l"):
        tpm.tool("tpm2_flushcontext", kind)
    return opened


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("pcrs", [(), ("--pcr", "16")])
def test_the_tpm_counts_wrong_values_that_a_person_chose(
    shell: Shell, operator: Operator, tpm: Swtpm, *, place: str, pcrs: tuple[str, ...]
) -> None:
    value, data, sealed = (operator.place / name for name in ("value", "data", "sealed"))
    value.write_text("1234")
    data.write_text(DATA)
    auth = ("--auth-file", value, "--in", place)
    shell.run("seal", "--data-file", data, "--output", sealed, *pcrs, *auth)
    shell.run("nv", "define", INDEX, "--size", "4", *auth)
    shell.run("nv", "write", INDEX, "--data-file", data, *auth, check=False)
    value.write_text("0000")
    counted = [
        shell.run(*attempt, *auth, check=False).stderr
        for attempt in (("unseal", sealed), ("nv", "write", INDEX, "--data-file", value)) * 2
    ]
    limit = variable(tpm, "TPM2_PT_MAX_AUTH_FAIL")
    assert ["a try is counted" in said for said in counted] == [True] * limit + [False]
    assert variable(tpm, "TPM2_PT_LOCKOUT_COUNTER") == limit
    assert "tpm2_dictionarylockout --clear-lockout" in counted[-1]
    value.write_text("1234")
    assert shell.run("unseal", sealed, *auth, check=False).returncode == 80
    tpm.tool("tpm2_dictionarylockout", "--clear-lockout")
    assert shell.run("unseal", sealed, *auth).stdout == DATA


def test_a_locked_tpm_opens_what_the_enclave_protects(
    shell: Shell, operator: Operator, tpm: Swtpm
) -> None:
    data, sealed, guessed = (operator.place / name for name in ("data", "sealed", "guessed"))
    data.write_text(DATA)
    shell.run("enrol")
    shell.run("seal", "--data-file", data, "--output", sealed, "--protected")
    shell.run("seal", "--data-file", data, "--output", guessed, "--auth-file", data)
    wrong = operator.place / "wrong"
    wrong.write_text("0000")
    for _ in range(variable(tpm, "TPM2_PT_MAX_AUTH_FAIL")):
        shell.run("unseal", guessed, "--auth-file", wrong, check=False)
    assert "lockout" in shell.run("unseal", guessed, "--auth-file", data, check=False).stderr
    assert shell.run("unseal", sealed, "--protected").stdout == DATA


def variable(tpm: Swtpm, name: str) -> int:
    """Return a property of the TPM that changes."""
    lines = tpm.tool("tpm2_getcap", "properties-variable").stdout.decode().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1], 16)


def test_sealed_data_that_was_exchanged(shell: Shell, operator: Operator) -> None:
    """Any program that can use the TPM can make the file that takes the place of another."""
    shell.run("enrol")
    data, value, genuine, forged = (
        operator.place / name for name in ("data", "value", "genuine", "forged")
    )
    data.write_text(DATA)
    value.write_text("1234")
    shell.run("seal", "--data-file", data, "--output", genuine, "--protected")
    data.write_text("attacker's choice")
    shell.run("seal", "--data-file", data, "--output", forged, "--in", "host")
    for words in (("--protected",), ("--auth-file", value)):
        refused = shell.run("unseal", forged, *words, check=False)
        assert refused.returncode == 10
        assert "attacker" not in refused.stdout
        assert "may have been exchanged" in refused.stderr
    assert shell.run("unseal", genuine, "--protected").stdout == DATA
    taken = shell.run("unseal", forged)
    assert "any program that can use this TPM" in taken.stderr
    claims = json.loads(forged.read_text())
    forged.write_text(json.dumps({**claims, "protection": "enclave"}))
    assert shell.run("unseal", forged, "--protected", check=False).returncode == 80


@pytest.mark.parametrize("place", PLACES)
def test_data_for_pcrs_alone(shell: Shell, operator: Operator, place: str) -> None:
    data, sealed = operator.place / "data", operator.place / "sealed"
    data.write_text(DATA)
    shell.run("seal", "--data-file", data, "--output", sealed, "--pcr", "16", "--in", place)
    assert shell.run("unseal", sealed, "--in", place).stdout == DATA
    shell.run("pcr", "extend", "16", "44" * 32)
    refused = shell.run("unseal", sealed, "--in", place, check=False)
    assert refused.returncode == 80
    assert "policy" in refused.stderr
    assert "hint: PCRs have changed" in refused.stderr


def test_data_for_this_enclave_alone(shell: Shell, operator: Operator) -> None:
    data, sealed = operator.place / "data", operator.place / "sealed"
    data.write_text(DATA)
    shell.run("enrol")
    shell.run("seal", "--data-file", data, "--output", sealed, "--protected")
    assert shell.run("unseal", sealed).stdout == DATA
    assert shell.run("unseal", sealed, "--in", "host", check=False).returncode == 2
    # Another enclave state derives another value.
    operator.environment["STRONGROOM_STATE_DIR"] = str(operator.place / "other")
    assert shell.run("unseal", sealed, check=False).returncode == 2
    shell.run("enrol")
    refused = shell.run("unseal", sealed, check=False)
    assert refused.returncode == 80
    assert "auth" in refused.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_quote_is_what_tpm2_checkquote_takes(
    shell: Shell, operator: Operator, place: str
) -> None:
    require_tools("tpm2_checkquote")
    shell.run("enrol")
    question = "00112233"
    names = [operator.place / name for name in ("message", "signature", "public")]
    files = [item for path in names for item in (f"--{path.name}", path)]
    wanted = ("--pcr", "0", "--pcr", "16", "--qualifying-data", question)
    quote = shell.facts("quote", "--in", place, *wanted, *files)
    assert set(quote["pcrs"]) == {"0", "16"}
    check = ("tpm2_checkquote", "-u", names[2], "-m", names[0], "-s", names[1], "-q")
    operator.run(*check, question)
    assert operator.run(*check, "00112244", check=False).returncode


def test_simulate_is_the_process(shell: Shell) -> None:
    results = shell.facts("selftest", "--simulate")
    assert [item["problem"] for item in results] == [""] * len(TESTS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("hierarchy", "words"),
    [
        ("owner", ("nv", "define", COUNTER, "--counter")),
        ("endorsement", ("quote",)),
    ],
)
def test_a_hierarchy_with_a_password(
    shell: Shell, tpm: Swtpm, *, place: str, hierarchy: str, words: tuple[str, ...]
) -> None:
    """What the hint says is what helps."""
    if place == "enclave":
        words = {"owner": words, "endorsement": ("enrol",)}[hierarchy]
    tpm.tool("tpm2_changeauth", "-c", hierarchy, "a password")
    refused = shell.run(*words, "--in", place, check=False)
    assert refused.returncode == 80, refused.stderr
    assert f"tpm2_changeauth -c {hierarchy} -p PASSWORD" in refused.stderr
    tpm.tool("tpm2_changeauth", "-c", hierarchy, "-p", "a password")
    shell.run(*words, "--in", place)


@pytest.mark.parametrize("place", PLACES)
def test_more_than_can_be_sealed(shell: Shell, operator: Operator, place: str) -> None:
    sealed = operator.place / "sealed"
    words = ("seal", "--data-file", "-", "--output", sealed, "--in", place)
    done = shell.run(*words, check=False, stdin="d" * 129)
    assert done.returncode == 2, done.stderr
    assert "the data has more than 128 bytes" in done.stderr
    assert not sealed.exists()
    shell.run(*words, stdin="d" * 128 + "\n")
    assert shell.run("unseal", sealed, "--in", place).stdout == "d" * 128


@pytest.mark.parametrize("place", PLACES)
def test_an_authorization_value_has_a_size(shell: Shell, operator: Operator, place: str) -> None:
    value = operator.place / "value"
    define = ("nv", "define", INDEX, "--size", "8", "--auth-file", value, "--in", place)
    for content, code, says in (
        ("v" * 33, 2, "the authorization value has more than 32 bytes"),
        ("", 32, "the authorization value is empty"),
        ("v" * 32 + "\n", 0, ""),
    ):
        value.write_text(content)
        done = shell.run(*define, check=False)
        assert done.returncode == code, done.stderr
        assert says in done.stderr
    write = ("nv", "write", INDEX, "--auth-file", value, "--in", place, "--data-file")
    (operator.place / "data").write_text("d" * 2049)
    done = shell.run(*write, operator.place / "data", check=False)
    assert done.returncode == 2
    assert "more than 2048 bytes" in done.stderr
    shell.run(*write, "-", stdin="d" * 8)
    missing = shell.run(*write, operator.place / "missing", check=False)
    assert missing.returncode == 3
    assert "no such data file" in missing.stderr
    directory = shell.run(*write, operator.place, check=False)
    assert directory.returncode == 33
    assert "cannot read the data" in directory.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_closed_standard_input(operator: Operator, tpm: Swtpm, place: str) -> None:
    words = ("tpm", "nv", "define", INDEX, "--counter", "--auth-file", "-", "--tpm", tpm.address)
    closed = ("sh", "-c", 'exec "$@" <&-', "sh")
    done = operator.run(*closed, STRONGROOM, *words, "--in", place, check=False)
    assert done.returncode == 33, done.stderr
    assert "hint: give --auth-file FILE" in done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_bank_that_is_not_there(shell: Shell, tpm: Swtpm, place: str) -> None:
    banks = "sha1:none+sha256:all+sha384:none+sha512:none"
    tpm.tool("tpm2_pcrallocate", banks)
    tpm.power_cycle()
    before = shell.facts("pcr", "read", "16", "--in", place)
    for words in (("read",), ("read", "16"), ("extend", "16", "11" * 48)):
        refused = shell.run("pcr", *words, "--bank", "sha384", "--in", place, check=False)
        assert refused.returncode == 80, refused.stderr
        assert "in its bank sha384" in refused.stderr
        assert not refused.stdout
    assert shell.facts("pcr", "read", "16", "--in", place) == before


@pytest.mark.parametrize("place", PLACES)
def test_what_others_left_is_removed_and_counted(shell: Shell, tpm: Swtpm, place: str) -> None:
    assert "others had left" not in shell.run("clock", "--in", place).stderr
    tpm.tool("tpm2_createprimary", "-C", "o", "-c", "left", "-Q")
    tpm.tool("tpm2_startauthsession", "-S", "session", "--policy-session")
    left = tpm.tool("tpm2_getcap", "handles-transient").stdout.split()
    assert left
    assert "others had left in the TPM were removed" in shell.run("clock", "--in", place).stderr
    assert "others had left" not in shell.run("clock", "--in", place).stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_part_of_an_index(shell: Shell, operator: Operator, place: str) -> None:
    part = operator.place / "part"
    here = ("--in", place)
    shell.run("nv", "define", INDEX, "--size", "8", *here)
    shell.run("nv", "write", INDEX, "--data-file", "-", *here, stdin="01234567")
    assert shell.run("nv", "read", INDEX, "--offset", "5", *here).stdout == "567"
    assert shell.run("nv", "read", INDEX, "--size", "3", *here).stdout == "012"
    words = ("nv", "read", INDEX, "--offset", "2", "--size", "4", "--output", part)
    assert shell.facts(*words, *here) == {"index": INDEX, "output": str(part)}
    assert part.read_text() == "2345"
    drawn = operator.place / "drawn"
    facts = shell.facts("random", "8", "--output", drawn, *here)
    assert facts == {"output": str(drawn), "size_bytes": 8}


def test_a_quote_without_files_says_what_is_lost(shell: Shell, operator: Operator) -> None:
    assert "signature was not kept" in shell.run("quote", "--pcr", "7", "--in", "host").stderr
    printed = shell.run("quote", "--pcr", "7", "--in", "host", "--json")
    files = ("--message", operator.place / "m", "--signature", operator.place / "s")
    kept = shell.run("quote", "--pcr", "7", "--in", "host", *files)
    assert "not kept" not in printed.stderr + kept.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_tpm_that_nobody_started(operator: Operator, tmp_path: Path, place: str) -> None:
    with swtpm(tmp_path, startup="none") as tpm:
        refused = Shell(operator, tpm).run("clock", "--in", place, check=False)
    assert refused.returncode == 80, refused.stderr
    assert "tpm2_startup -c" in refused.stderr


@pytest.mark.parametrize("place", PLACES)
def test_data_of_another_tpm(operator: Operator, tmp_path: Path, place: str) -> None:
    sealed = operator.place / "sealed"
    data = operator.place / "data"
    data.write_text(DATA)
    with swtpm(tmp_path) as first, swtpm(tmp_path) as second:
        words = ("--data-file", data, "--output", sealed)
        Shell(operator, first).run("seal", *words, "--in", place)
        refused = Shell(operator, second).run("unseal", sealed, "--in", place, check=False)
    assert refused.returncode == 80, refused.stderr
    assert "it is of another TPM" in refused.stderr


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("address", "code", "hint"),
    [
        ("device:/nonexistent", 81, "is it enabled in the firmware"),
        ("device:/etc/passwd", 81, "swtpm:path="),
        ("device:/tmp/\udcff", 81, "is it enabled in the firmware"),
        ("tbs:", 50, "here it is device:"),
    ],
)
def test_a_way_that_leads_nowhere(
    operator: Operator, *, place: str, address: str, code: int, hint: str
) -> None:
    """An enclave hears of it as well; the operator has to hear no less for that."""
    words = ("clock", "--tpm", address, "--in", place)
    failed = operator.strongroom("tpm", *words, check=False)
    assert failed.returncode == code, failed.stderr
    assert hint in failed.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_trace_that_outgrows_its_disk(operator: Operator, tpm: Swtpm, place: str) -> None:
    """The first commands fit into a block, and are the host's; the next are not carried."""
    trace = operator.place / "trace.pcap"
    command = (STRONGROOM, "tpm", "capabilities", "--tpm", tpm.address, "--in", place)
    limited = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh")
    failed = operator.run(*limited, *command, "--tpm-trace", trace, check=False)
    assert failed.returncode == 40, failed.stderr
    assert "cannot write the TPM trace" in failed.stderr
    assert 512 <= trace.stat().st_size <= 1024


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("clock", "--tpm", "nonsense:"), 2, "nonsense"),
        (("clock", "--tpm", "swtpm:path=/nonexistent"), 81, "no TPM can be reached"),
        (("nv", "define", "zz", "--counter"), 2, "not an NV index"),
        (("nv", "define", "0x1", "--counter"), 2, "is no NV index"),
        (("nv", "define", INDEX), 2, "a size or is a counter"),
        (("nv", "read", INDEX), 80, "handle"),
        (("pcr", "extend", "16", "11"), 2, "not a sha256 digest"),
        (("pcr", "read", "24"), 2, "24"),
        (("enrol", "--in", "host"), 2, "an enclave enrols"),
        (("enrol", "--roots", "/nonexistent"), 2, "cannot read /nonexistent"),
        (("enrol", "--roots", "/proc/self/task"), 2, "no root certificate"),
        (("forget",), 2, "no TPM is enrolled"),
        (("quote", "--pcr", "7"), 2, "no TPM is enrolled"),
        (("quote", "--qualifying-data", "11" * 33), 2, "more than 32"),
        (("unseal", "/nonexistent"), 3, "no such file"),
        (("unseal", "/etc/passwd"), 10, "no sealed data"),
        (("seal", "--data-file", "/etc/hostname", "--output", "/nonexistent/x"), 3, "directory"),
        (("random", "8", "--json"), 2, "--output"),
        (
            ("seal", "--data-file", "-", "--auth-file", "-", "--output", "/nonexistent/x"),
            2,
            "only one of the data and the authorization value",
        ),
        (("nv", "write", INDEX, "--data-file", "-", "--auth-file", "-"), 2, "only one of"),
        (("clock", "--tee", "gramine"), 2, "does not go with --tee gramine"),
        (("random", "0"), 2, "0"),
        (("clock", "--tee", "gramine", "--in", "host"), 2, "without an enclave"),
        (("clock", "--tpm", "swtpm:host=a..b"), 2, "is no host"),
        (("clock", "--tpm", f"mssim:host={'a' * 64}"), 2, "is no host"),
        (("nv", "read", INDEX, "--counter", "--size", "8"), 2, "leave out --offset"),
    ],
)
def test_bad_input(
    operator: Operator, tpm: Swtpm, *, words: tuple[str, ...], code: int, says: str
) -> None:
    address = () if "--tpm" in words else ("--tpm", tpm.address)
    done = operator.run(STRONGROOM, "tpm", *words, *address, check=False)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""An enclave gets nothing before its report says that it is the one that was enrolled.

Reports are the process provider's own, checked with the root secret of a state directory; those of
SGX are made by hand, as nothing here could vouch for them anyway.
"""

import dataclasses
import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.boundary import calls
from strongroom.boundary.sealed import report_data
from strongroom.errors import (
    IdentityError,
    NotFoundError,
    ReportError,
    StrongroomError,
    TeeError,
    UsageError,
)
from strongroom.host import attestation, known_enclaves
from strongroom.host.attestation import (
    as_facts,
    check,
    check_expectation,
    from_boundary,
    load_expectation,
)
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.tee.identity import Identity, SealPolicy, VerifiedReport
from strongroom.tee.process import platform
from tests.unit.tee.scene import ROOT, SOURCES, enclave, run

pytestmark = pytest.mark.unit

SUBJECT: Final = bytes(range(32))
ABOUT: Final = "unlock"
VOLUME: Final = "aaaaaaaa-0000-4000-8000-00000000000a"
SPARE: Final = "/state/known-enclaves:7"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with the root secret of the enclaves in the scene."""
    provider = tmp_path / "process"
    provider.mkdir(mode=0o700)
    (provider / "root").write_bytes(ROOT)
    (provider / "root").chmod(0o600)
    monkeypatch.setenv("STRONGROOM_STATE_DIR", str(tmp_path))
    return tmp_path


def reported(name: str = "enclave", **what: Any) -> tuple[bytes, Identity]:  # noqa: ANN401 - as there
    one = enclave(name, **{"boot_id": platform.boot_id(), **what})
    return one.report(report_data(ABOUT, SUBJECT)), one.identity


def sgx(*, debug: bool = False, subject: bytes = SUBJECT) -> bytes:
    body = bytearray(384)
    struct.pack_into("<Q", body, 48, 1 | debug << 1)
    body[64:96], body[128:160] = b"\x01" * 32, b"\x02" * 32
    struct.pack_into("<HH", body, 256, 3, 4)
    body[320:384] = report_data(ABOUT, subject)
    return bytes(body) + bytes(48)


def known(
    name: str = "enclave",
    *,
    policy: SealPolicy = "signer",
    tee: str = "process",
    simulated: bool = True,
    **what: Any,  # noqa: ANN401 - as there
) -> KnownEnclave:
    identity = dataclasses.replace(enclave(name, **what).identity, tee=tee, simulated=simulated)
    return KnownEnclave(VOLUME, policy, identity, authenticated=True, epoch=4, place=SPARE)


def test_an_unknown_enclave_is_told_of() -> None:
    report, identity = reported()
    attested = check(report, ABOUT, SUBJECT, tee="process", known=None)
    assert (attested.identity, attested.genuine) == (identity, True)
    assert attested.notices == ()
    assert attestation.first_use(identity, enrolled=True) == (
        "first use of this volume here: trusting enclave signer"
        f" {hashlib.sha256(b'signer').hexdigest()[:12]}...,"
        f" which {known_enclaves.path()} remembers once it opens"
    )


def test_a_debug_enclave_is_told_of_loudly() -> None:
    report, _ = reported(debug=True)
    notices = check(report, ABOUT, SUBJECT, tee="process", known=None).notices
    assert notices == ("the enclave can be debugged: whoever debugs it reads its keys",)
    enrolled = known(debug=True)
    again = check(report, ABOUT, SUBJECT, tee="process", known=enrolled).notices
    assert again == notices


def test_a_claim_is_told_of() -> None:
    attested = check(sgx(), ABOUT, SUBJECT, tee="gramine", known=None)
    assert not attested.genuine
    assert attested.identity == Identity(
        "gramine", simulated=False, measurement=b"\x01" * 32, signer=b"\x02" * 32,
        product_id=3, security_version=4, debug=False,
    )  # fmt: skip
    claim = "nothing on this machine vouches for the enclave's report (TEE gramine)"
    assert attested.notices == (claim,)
    debugged = check(sgx(debug=True), ABOUT, SUBJECT, tee="gramine", known=None)
    assert len(debugged.notices) == 2
    enrolled = KnownEnclave(VOLUME, "signer", attested.identity, authenticated=True, epoch=1)
    assert check(sgx(), ABOUT, SUBJECT, tee="gramine", known=enrolled).notices == (claim,)


PASSES: Final = {
    "the same": (reported, {}, known()),
    "another measurement of the signer": (reported, {"name": "new"}, known("old")),
    "a later version": (reported, {"security_version": 3}, known(security_version=2)),
    "the same measurement": (reported, {}, known(policy="measurement")),
    "one that was debugged": (reported, {}, known(debug=True)),
    "the measurement of another signer": (
        reported,
        {"signer": "new", "product_id": 2},
        known(policy="measurement"),
    ),
}


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES)
def test_the_known_enclave_passes(case: tuple[Any, dict[str, Any], KnownEnclave]) -> None:
    make, what, enrolled = case
    report, identity = make(**what)
    attested = check(report, ABOUT, SUBJECT, tee="process", known=enrolled)
    assert attested == attestation.Attested(identity, genuine=True, notices=())


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


REFUSED: Final[dict[str, tuple[dict[str, Any], KnownEnclave, str]]] = {
    "another TEE": ({}, known(tee="gramine"), "tee is process, expected gramine"),
    "no hardware": ({}, known(simulated=False), "simulated is yes, expected no"),
    "no hardware, measured": (
        {},
        known(policy="measurement", simulated=False),
        "simulated is yes, expected no",
    ),
    "another signer": (
        {"signer": "evil"},
        known(),
        f"signer is {digest('evil')}, expected {digest('signer')}",
    ),
    "another product": ({"product_id": 2}, known(), "product id is 2, expected 1"),
    "an older version": (
        {"security_version": 1},
        known(security_version=2),
        "security version is 1, expected 2 or later",
    ),
    "another measurement": (
        {"name": "evil"},
        known(policy="measurement"),
        f"measurement is {digest('evil')}, expected {digest('enclave')}",
    ),
    "a debugger": ({"debug": True}, known(), "debug is yes, expected no"),
    "a debugger, measured": (
        {"debug": True},
        known(policy="measurement"),
        "debug is yes, expected no",
    ),
    "all at once": (
        {"signer": "evil", "product_id": 9, "security_version": 1, "debug": True},
        known(tee="gramine", simulated=False, security_version=2),
        (
            "tee is process, expected gramine; simulated is yes, expected no;"
            f" signer is {digest('evil')}, expected {digest('signer')};"
            " product id is 9, expected 1; security version is 1, expected 2 or later;"
            " debug is yes, expected no"
        ),
    ),
}


@pytest.mark.parametrize(("what", "enrolled", "reason"), REFUSED.values(), ids=REFUSED)
def test_another_enclave_is_refused(
    what: dict[str, Any], enrolled: KnownEnclave, reason: str
) -> None:
    report, _ = reported(**what)
    with pytest.raises(IdentityError) as refusal:
        check(report, ABOUT, SUBJECT, tee="process", known=enrolled)
    assert type(refusal.value) is IdentityError
    assert refusal.value.message == f"not the enclave of volume {VOLUME}: {reason}"
    assert f"`strongroom forget {VOLUME}`" in refusal.value.hint
    assert ("--tee gramine" in refusal.value.hint) == (enrolled.identity.tee == "gramine")
    forgotten = dataclasses.replace(enrolled, forgotten=True)
    assert check(report, ABOUT, SUBJECT, tee="process", known=forgotten).genuine


def test_hardware_is_refused_where_there_was_none() -> None:
    identity = check(sgx(), ABOUT, SUBJECT, tee="gramine", known=None).identity
    simulated = dataclasses.replace(identity, simulated=True)
    enrolled = KnownEnclave(VOLUME, "signer", simulated, authenticated=True, epoch=1)
    with pytest.raises(IdentityError, match="simulated is no, expected yes"):
        check(sgx(), ABOUT, SUBJECT, tee="gramine", known=enrolled)


@pytest.mark.parametrize(
    ("about", "subject"),
    [
        ("format", SUBJECT),
        ("", SUBJECT),
        (ABOUT, bytes(32)),
        (ABOUT, SUBJECT[:-1]),
        (ABOUT, b""),
    ],
)
@pytest.mark.parametrize("enrolled", [None, known()])
def test_a_report_about_something_else_is_refused(
    about: str, subject: bytes, enrolled: KnownEnclave | None
) -> None:
    report, _ = reported()
    with pytest.raises(ReportError, match="is not about this"):
        check(report, about, subject, tee="process", known=enrolled)
    with pytest.raises(ReportError, match="is not about this"):
        check(sgx(), about, subject, tee="gramine", known=None)


@pytest.mark.parametrize(
    "what", [{"root": bytes(32)}, {"boot_id": bytes(16)}], ids=["machine", "boot"]
)
def test_a_report_of_elsewhere_is_refused(what: dict[str, Any]) -> None:
    report, _ = reported(**what)
    with pytest.raises(ReportError, match="not of this machine and boot"):
        check(report, ABOUT, SUBJECT, tee="process", known=None)


def test_a_changed_report_is_refused() -> None:
    report, _ = reported()
    for at in (0, 28, 60, 93, 95, 96, 97, 160, 192):
        changed = bytearray(report)
        changed[at] ^= 1
        with pytest.raises(ReportError):
            check(bytes(changed), ABOUT, SUBJECT, tee="process", known=None)
    for other in (b"", report[:-1], report + b"\0", sgx()):
        with pytest.raises(ReportError):
            check(other, ABOUT, SUBJECT, tee="process", known=None)
    with pytest.raises(ReportError):
        check(report, ABOUT, SUBJECT, tee="gramine", known=None)


def test_a_provider_that_speaks_for_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, identity = reported()
    said = VerifiedReport(identity, report_data(ABOUT, SUBJECT), genuine=True)
    monkeypatch.setattr(attestation, "verify_report", lambda *_: said)
    with pytest.raises(IdentityError, match="the enclave's TEE is process, not gramine"):
        check(b"", ABOUT, SUBJECT, tee="gramine", known=None)


def test_without_a_root_secret_nothing_passes(state: Path) -> None:
    report, _ = reported()
    (state / "process" / "root").unlink()
    with pytest.raises(TeeError):
        check(report, ABOUT, SUBJECT, tee="process", known=None)
    with pytest.raises(TeeError, match="no TEE provider"):
        check(report, ABOUT, SUBJECT, tee="sgx", known=None)


START: Final = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from strongroom import tee
from strongroom.boundary.sealed import report_data
started = tee.start("process", Path(sys.argv[2]))
print(started.report(report_data("unlock", bytes(range(32)))).hex())
"""


def test_a_process_is_attested(state: Path) -> None:
    shutil.rmtree(state / "process")  # with a root secret, there would have to be a signer
    report = bytes.fromhex(run(START, str(SOURCES), str(state)))
    first = check(report, ABOUT, SUBJECT, tee="process", known=None)
    assert (first.genuine, first.notices) == (True, ())
    seen = KnownEnclave(VOLUME, "measurement", first.identity, authenticated=True, epoch=1)
    known_enclaves.remember(seen)

    again = check(report, ABOUT, SUBJECT, tee="process", known=known_enclaves.find(VOLUME))
    assert again == attestation.Attested(first.identity, genuine=True, notices=())

    other, _ = reported(root=(state / "process" / "root").read_bytes())
    with pytest.raises(IdentityError) as refusal:
        check(other, ABOUT, SUBJECT, tee="process", known=known_enclaves.find(VOLUME))
    assert f"`strongroom forget {VOLUME}`" in refusal.value.hint


def test_what_crosses_the_boundary_is_the_identity() -> None:
    fields: dict[str, Any] = {
        "tee": "gramine",
        "simulated": False,
        "measurement": b"\x01" * 32,
        "signer": b"\x02" * 32,
        "product_id": 3,
        "security_version": 4,
        "debug": True,
    }
    assert from_boundary(calls.EnclaveIdentity(**fields)) == Identity(**fields)
    facts = {**fields, "measurement": "01" * 32, "signer": "02" * 32}
    assert as_facts(Identity(**fields)) == facts
    assert json.loads(json.dumps(as_facts(Identity(**fields)))) == facts


IDENTITY: Final = enclave(product_id=3, security_version=4).identity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "expected.json"


PRINTED: Final = {**as_facts(IDENTITY), "genuine": True, "version": "0.1.0"}


def test_what_is_printed_is_what_is_expected(file: Path) -> None:
    file.write_text(json.dumps(PRINTED, indent=2))
    expected = load_expectation(file)
    assert expected == PRINTED
    check_expectation(PRINTED, expected, file)


@pytest.mark.parametrize("key", PRINTED)
def test_each_part_may_be_expected_alone(file: Path, key: str) -> None:
    file.write_text(json.dumps({key: PRINTED[key]}))
    expected = load_expectation(file)
    assert expected == {key: PRINTED[key]}
    check_expectation(PRINTED, expected, file)


def test_digests_may_be_in_upper_case(file: Path) -> None:
    file.write_text(json.dumps({"signer": IDENTITY.signer.hex().upper()}))
    check_expectation(PRINTED, load_expectation(file), file)


DIFFERENT: Final[dict[str, tuple[object, str]]] = {
    "tee": ("gramine", "tee is process, expected gramine"),
    "simulated": (False, "simulated is yes, expected no"),
    "measurement": ("0" * 64, f"measurement is {digest('enclave')}, expected {'0' * 64}"),
    "signer": ("0" * 64, f"signer is {digest('signer')}, expected {'0' * 64}"),
    "product_id": (2, "product id is 3, expected 2"),
    "security_version": (5, "security version is 4, expected 5 or later"),
    "debug": (True, "debug is no, expected yes"),
    "genuine": (False, "genuine is yes, expected no"),
    "version": ("9", "version is 0.1.0, expected 9"),
}


def test_every_key_can_differ() -> None:
    assert list(DIFFERENT) == list(PRINTED)


@pytest.mark.parametrize("key", DIFFERENT)
def test_what_differs_is_named(file: Path, key: str) -> None:
    value, reason = DIFFERENT[key]
    file.write_text(json.dumps({**PRINTED, key: value}))
    with pytest.raises(IdentityError) as refusal:
        check_expectation(PRINTED, load_expectation(file), file)
    assert refusal.value.message == f"the enclave is not the one of {file}: {reason}"


def test_all_that_differs_is_named(file: Path) -> None:
    file.write_text(json.dumps({key: value for key, (value, _) in DIFFERENT.items()}))
    with pytest.raises(IdentityError) as refusal:
        check_expectation(PRINTED, load_expectation(file), file)
    assert refusal.value.message.endswith("; ".join(reason for _, reason in DIFFERENT.values()))


@pytest.mark.parametrize(("version", "passes"), [(0, True), (3, True), (4, True), (5, False)])
def test_the_version_is_the_lowest(file: Path, version: int, *, passes: bool) -> None:
    file.write_text(json.dumps({"security_version": version}))
    expected = load_expectation(file)
    if passes:
        check_expectation(PRINTED, expected, file)
    else:
        with pytest.raises(IdentityError):
            check_expectation(PRINTED, expected, file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"tee": "process"} x', "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b"9" * 60_000, "is not JSON"),
        (b"[]", "says nothing"),
        (b'[["tee", "process"]]', "says nothing"),
        (b"{}", "says nothing"),
        (b"null", "says nothing"),
        (b'"tee"', "says nothing"),
        (b" " * 65537, "is longer than 65536"),
        (b'{"tee": "process"}' + b" " * 65536, "is longer than 65536"),
        (b'{"tee": "process", "product": 1}', "unknown key 'product'"),
        (b'{"identity": {"tee": "process"}}', "unknown key 'identity'"),
        (b'{"tee": "gramine", "tee": "process"}', "two values of 'tee'"),
        (b'{"tee": ""}', "'tee' in .* is not a name"),
        (b'{"tee": null}', "'tee' in .* is not a name"),
        (b'{"simulated": 1}', "'simulated' in .* is not true or false"),
        (b'{"debug": "no"}', "'debug' in .* is not true or false"),
        (b'{"debug": null}', "'debug' in .* is not true or false"),
        (b'{"measurement": 1}', "'measurement' in .* is not 64 hex digits"),
        (b'{"measurement": "%s"}' % (b"0" * 63), "'measurement' in .* is not 64 hex digits"),
        (b'{"signer": "%s"}' % (b"0" * 65), "'signer' in .* is not 64 hex digits"),
        (b'{"signer": "%s"}' % (b"g" * 64), "'signer' in .* is not 64 hex digits"),
        (b'{"signer": {"a": 1}}', "'signer' in .* is not 64 hex digits"),
        (b'{"product_id": "1"}', "'product_id' in .* is not a number"),
        (b'{"product_id": true}', "'product_id' in .* is not a number"),
        (b'{"product_id": 1.0}', "'product_id' in .* is not a number"),
        (b'{"product_id": 65536}', "'product_id' in .* is not a number"),
        (b'{"security_version": -1}', "'security_version' in .* is not a number"),
        (b'{"security_version": []}', "'security_version' in .* is not a number"),
    ],
)
def test_what_is_no_expectation_is_refused(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError, match=reason) as refusal:
        load_expectation(file)
    assert type(refusal.value) is UsageError
    assert str(file) in refusal.value.message


@pytest.mark.parametrize(
    ("name", "kind"),
    [("missing", NotFoundError), ("process/root/x", NotFoundError), ("process", UsageError)],
)
def test_what_is_no_file_is_refused(state: Path, name: str, kind: type[StrongroomError]) -> None:
    with pytest.raises(kind, match=name) as refusal:
        load_expectation(state / name)
    assert type(refusal.value) is kind

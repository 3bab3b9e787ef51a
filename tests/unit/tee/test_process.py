# SPDX-License-Identifier: Apache-2.0
"""Who gets which seal key, who a process is, and that it needs no file once it has started."""

import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import pytest

from strongroom import tee
from strongroom.errors import InternalError, SecurityVersionError, TeeError
from strongroom.tee.identity import SealPolicy
from strongroom.tee.process.provider import ProcessTee
from tests.unit.tee.scene import (
    BOOT_ID,
    ROOT,
    SOURCES,
    START,
    USER_DATA,
    enclave,
    hkdf,
    run,
    secret,
    start,
)

pytestmark = pytest.mark.unit

Outcome = Literal["same", "other", "refused"]


def cast() -> dict[str, ProcessTee]:
    return {
        "old": enclave("old", security_version=1),
        "new": enclave("new", security_version=2),
        "twin": enclave("twin", security_version=2),
        "foreign": enclave("foreign", signer="foreign", security_version=2),
        "product": enclave("product", product_id=2, security_version=2),
        "debug": enclave("new", security_version=2, debug=True),
        "machine": enclave("new", security_version=2, root=bytes(32)),
    }


OPENERS: Final = ("old", "new", "twin", "foreign", "product", "debug", "machine")
TABLE: Final = (
    # policy, who sealed, then what each of OPENERS gets
    ("signer", "old", "same same same other other other other"),
    ("signer", "new", "refused same same other other other other"),
    ("signer", "twin", "refused same same other other other other"),
    ("signer", "foreign", "refused other other same other other other"),
    ("signer", "product", "refused other other other same other other"),
    ("signer", "debug", "refused other other other other same other"),
    ("signer", "machine", "refused other other other other other same"),
    ("measurement", "old", "same refused refused refused refused refused refused"),
    ("measurement", "new", "refused same other other other other other"),
    ("measurement", "twin", "refused other same other other other other"),
    ("measurement", "foreign", "refused other other same other other other"),
    ("measurement", "product", "refused other other other same other other"),
    ("measurement", "debug", "refused other other other other same other"),
    ("measurement", "machine", "refused other other other other other same"),
)


@pytest.mark.parametrize(("policy", "sealer", "outcomes"), TABLE)
def test_who_gets_the_seal_key(policy: SealPolicy, sealer: str, outcomes: str) -> None:
    enclaves = cast()
    version = enclaves[sealer].identity.security_version
    key = enclaves[sealer].seal_key(policy, version)

    def outcome(opener: ProcessTee) -> Outcome:
        try:
            found = opener.seal_key(policy, version)
        except SecurityVersionError:
            return "refused"
        return "same" if found.equals(key) else "other"

    assert [outcome(enclaves[name]) for name in OPENERS] == outcomes.split()


def test_the_policies_have_different_keys() -> None:
    one = enclave()
    assert not one.seal_key("signer", 1).equals(one.seal_key("measurement", 1))


def test_each_version_has_its_own_key() -> None:
    new = enclave(security_version=3)
    keys = [new.seal_key("signer", version) for version in (0, 1, 2, 3)]
    assert not any(a.equals(b) for a in keys for b in keys if a is not b)
    for version in (-1, 4, 65536):
        with pytest.raises(SecurityVersionError) as refusal:
            new.seal_key("signer", version)
        assert "recovery key" in refusal.value.hint


@pytest.mark.parametrize(
    ("policy", "bound_to"), [("signer", b"signer"), ("measurement", b"enclave")]
)
def test_the_seal_key_is_as_specified(policy: SealPolicy, bound_to: bytes) -> None:
    one = enclave("enclave", product_id=0x0203, security_version=0x0405, debug=True)
    info = b"strongroom/1 seal key\0" + policy.encode() + b"\0" + hashlib.sha256(bound_to).digest()
    expected = secret(hkdf(ROOT, info + b"\x02\x03\x04\x05\x01"))
    assert one.seal_key(policy, 0x0405).equals(expected)


def test_the_report_is_as_specified() -> None:
    one = enclave("enclave", product_id=0x0203, security_version=0x0405)
    body = (
        b"strongroom process report 1\0"
        + hashlib.sha256(b"enclave").digest()
        + hashlib.sha256(b"signer").digest()
        + b"\x02\x03\x04\x05\x00"
        + USER_DATA
    )
    key = hkdf(ROOT, b"strongroom/1 report key\0" + BOOT_ID)
    assert one.report(USER_DATA) == body + hmac.digest(key, body, "sha256")


@pytest.mark.parametrize("debug", [False, True])
def test_a_report_says_who_made_it(debug: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    one = enclave("one", product_id=65535, security_version=65535, debug=debug)
    verified = enclave("two", signer="other").verify(one.report(USER_DATA))
    assert verified.identity == one.identity
    assert verified.user_data == USER_DATA
    assert verified.genuine


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_report_is_over_64_bytes(length: int) -> None:
    with pytest.raises(InternalError):
        enclave().report(bytes(length))


def test_nothing_is_left_when_erased() -> None:
    one = enclave()
    one.erase()
    one.erase()
    for use in (lambda: one.seal_key("signer", 1), lambda: one.report(USER_DATA)):
        with pytest.raises(InternalError):
            use()


def test_a_process_is_the_same_at_each_start(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    assert first == second
    assert (first["tee"], first["simulated"], first["debug"]) == ("process", True, False)
    assert (first["product_id"], first["security_version"]) == (1, 1)
    verified = tee.verify_report("process", bytes.fromhex(first["report"]), tmp_path)
    assert verified.identity.measurement.hex() == first["measurement"]
    assert verified.genuine


def test_another_machine_has_another_signer(tmp_path: Path) -> None:
    first, second = start(tmp_path / "first"), start(tmp_path / "second")
    assert first["measurement"] == second["measurement"]
    assert first["signer"] != second["signer"]


def test_development_mode_is_debug_and_another_measurement(tmp_path: Path) -> None:
    plain, watched = start(tmp_path), start(tmp_path, options=("-X", "dev"))
    assert watched["debug"]
    assert watched["measurement"] != plain["measurement"]


@pytest.mark.parametrize("watch", ["settrace", "setprofile"])
def test_a_watched_process_is_debug(tmp_path: Path, watch: str) -> None:
    script = f"import sys\nsys.{watch}(lambda *_: None)\n{START}"
    assert json.loads(run(script, str(SOURCES), str(tmp_path)))["debug"]


def test_only_the_chosen_provider_is_imported(tmp_path: Path) -> None:
    modules = start(tmp_path)["modules"]
    assert "strongroom.tee.process" in modules
    assert not [name for name in modules if name.startswith("strongroom.tee.gramine")]


def test_there_is_no_other_provider(tmp_path: Path) -> None:
    with pytest.raises(TeeError, match="no TEE provider 'sgx'"):
        tee.start("sgx", tmp_path)
    with pytest.raises(TeeError, match="no TEE provider ''"):
        tee.verify_report("", b"", tmp_path)


CONFINED: Final = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from strongroom import _core, tee
_core.enter_namespaces()
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
started = tee.start("process", Path(sys.argv[2]))
measures = _core.confine()
assert all(measure.active for measure in measures), [measure.detail for measure in measures]
key = started.seal_key("signer", 1)
report = started.report(bytes(64))
assert started.verify(report).identity == started.identity
os.write(1, report.hex().encode())
os._exit(0)
"""


def test_a_confined_process_needs_no_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", CONFINED, str(SOURCES), str(tmp_path)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    verified = tee.verify_report("process", bytes.fromhex(done.stdout.decode()), tmp_path)
    assert verified.genuine

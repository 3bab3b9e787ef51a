# SPDX-License-Identifier: Apache-2.0
"""The Gramine provider over the stand-in, which is mounted where Gramine's own would be.

The shipped code knows one path. So each test runs a program in a mount namespace of its own, in
which ``/dev`` is empty but for the stand-in.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.tee.gramine.report import parse
from strongroom.tee.identity import SealPolicy
from tests.conftest import require_root, require_tools
from tests.fakes.attestation import Enclave
from tests.unit.tee.scene import USER_DATA, hkdf

pytestmark = pytest.mark.system

REPOSITORY: Final = Path(__file__).parents[3]
SGX: Final = Enclave()
RUN: Final = 'mount -t tmpfs none /dev && exec "$0" -m tests.unit.tee.gramine_program "$1"'


def run(
    *actions: tuple[object, ...],
    spoil: dict[str, bytes | None] | None = None,
    attestation: bool = True,
    **enclave: object,
) -> dict[str, Any]:
    """Start the provider where the stand-in is, and return what each action gives."""
    require_root()
    require_tools("unshare", "mount")
    task = {
        "enclave": enclave if attestation else None,
        "spoil": {name: b if b is None else b.hex() for name, b in (spoil or {}).items()},
        "actions": actions,
    }
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", RUN, sys.executable, json.dumps(task)),
        ],
        cwd=REPOSITORY,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/src",
        },
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("debug", [False, True])
def test_the_identity_is_the_reports(debug: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert run(("identity",), debug=debug) == {
        "said": [
            {
                "tee": "gramine",
                "simulated": False,
                "measurement": SGX.measurement.hex(),
                "signer": SGX.signer.hex(),
                "product_id": 0x0102,
                "security_version": 0x0304,
                "debug": debug,
            }
        ]
    }


def expected_key(policy: SealPolicy, version: int) -> str:
    bound_to = SGX.signer if policy == "signer" else SGX.measurement
    info = b"strongroom/1 seal key\0" + policy.encode() + b"\0" + bound_to
    return hkdf(SGX.key(bound_to), info + struct.pack(">HHB", 0x0102, version, 0)).hex()


def test_seal_keys_are_derived_from_the_cpus() -> None:
    said = run(
        ("seal", "signer", 0x0304, expected_key("signer", 0x0304)),
        ("seal", "measurement", 0x0304, expected_key("measurement", 0x0304)),
        ("seal", "signer", 0x0304, expected_key("measurement", 0x0304)),
        ("seal", "signer", 0x0304, SGX.key(SGX.signer).hex()),
        ("erased",),
    )
    assert said == {"said": [True, True, False, False, True]}


@pytest.mark.parametrize("policy", ["signer", "measurement"])
@pytest.mark.parametrize(
    ("version", "reason", "hint"),
    [
        (0x0303, "keys of the present version only", "before the upgrade"),
        (0x0305, "sealed by security version 773", "newer enclave"),
    ],
)
def test_only_the_present_version_has_keys(
    policy: SealPolicy, version: int, reason: str, hint: str
) -> None:
    said = run(("seal", policy, version, ""))
    assert said["error"] == "SecurityVersionError"
    assert reason in said["message"]
    assert hint in said["hint"]
    assert "recovery key" in said["hint"]


def test_without_remote_attestation_there_are_reports() -> None:
    (report,) = run(("report", USER_DATA.hex()))["said"]
    assert bytes.fromhex(report) == SGX.report(USER_DATA)
    said = parse(bytes.fromhex(report))
    assert (said.user_data, said.genuine) == (USER_DATA, False)


def test_with_it_there_are_quotes() -> None:
    (quote,) = run(("report", USER_DATA.hex()), attestation_type="dcap")["said"]
    assert bytes.fromhex(quote) == SGX.quote(USER_DATA)
    assert parse(bytes.fromhex(quote)).user_data == USER_DATA


def test_reports_of_several_threads_are_not_mixed_up() -> None:
    assert run(("reports at once",)) == {"said": [100]}


def test_only_the_chosen_provider_is_imported() -> None:
    (modules,) = run(("modules",))["said"]
    assert "strongroom.tee.gramine" in modules


OF_ANOTHER: Final = Enclave(measurement=bytes(32)).report(USER_DATA)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("attestation_type", None, "cannot use /dev/attestation/attestation_type: No such file"),
        ("attestation_type", b"epid", "attestation_type says 'epid'"),
        ("attestation_type", b"", "attestation_type says ''"),
        ("attestation_type", bytes(17), "attestation_type is longer than 16 bytes"),
        ("my_target_info", None, "cannot use /dev/attestation/my_target_info"),
        ("my_target_info", bytes(511), "my_target_info has 511 bytes instead of 512"),
        ("my_target_info", bytes(513), "my_target_info is longer than 512 bytes"),
        ("target_info", None, "cannot use /dev/attestation/target_info"),
        ("user_report_data", None, "cannot use /dev/attestation/user_report_data"),
        ("report", None, "cannot use /dev/attestation/report"),
        ("report", b"", "/dev/attestation/report is empty"),
        ("report", bytes(431), "Gramine's report is odd"),
        ("report", bytes(432), "Gramine's report is odd"),
        ("report", OF_ANOTHER, "Gramine's report is not over what was asked for"),
        ("report", bytes(16385), "report is longer than 16384 bytes"),
        ("keys/_sgx_mrenclave", None, "cannot use /dev/attestation/keys/_sgx_mrenclave"),
        ("keys/_sgx_mrenclave", b"", "keys/_sgx_mrenclave is shorter than 16 bytes"),
        ("keys/_sgx_mrsigner", None, "cannot use /dev/attestation/keys/_sgx_mrsigner"),
        ("keys/_sgx_mrsigner", bytes(15), "keys/_sgx_mrsigner is shorter than 16 bytes"),
        ("keys/_sgx_mrsigner", bytes(17), "keys/_sgx_mrsigner is longer than 16 bytes"),
    ],
)
def test_missing_and_odd_files_are_named(name: str, content: bytes | None, message: str) -> None:
    said = run(spoil={name: content})
    assert said["error"] == "TeeError"
    assert message in said["message"]


def test_outside_gramine_it_says_so() -> None:
    said = run(attestation=False)
    assert said["error"] == "TeeError"
    assert "attestation_type: No such file" in said["message"]
    assert "SGX enclave" in said["hint"]


def test_a_quote_that_is_missing_is_an_error() -> None:
    said = run(("report", USER_DATA.hex()), spoil={"quote": None}, attestation_type="dcap")
    assert said["error"] == "TeeError"
    assert "/dev/attestation/quote" in said["message"]

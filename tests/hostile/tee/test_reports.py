# SPDX-License-Identifier: Apache-2.0
"""Reports that were forged, changed, cut, or made elsewhere or before."""

import hmac
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom import tee
from strongroom.errors import ReportError
from strongroom.tee.gramine.report import parse
from tests.fakes.attestation import Enclave
from tests.unit.tee.scene import BOOT_ID, ROOT, USER_DATA, enclave, hkdf, start

pytestmark = pytest.mark.hostile

FIELDS: Final = {"magic": 0, "debug": 96}


def test_each_flipped_bit_is_refused() -> None:
    one = enclave()
    report = one.report(USER_DATA)
    assert one.verify(report).genuine
    for at in range(len(report) * 8):
        flipped = bytearray(report)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(ReportError):
            one.verify(bytes(flipped))


def test_each_other_length_is_refused() -> None:
    one = enclave()
    report = one.report(USER_DATA)
    for length in range(len(report)):
        with pytest.raises(ReportError):
            one.verify(report[:length])
    with pytest.raises(ReportError):
        one.verify(report + b"\0")


def test_one_of_another_boot_is_refused() -> None:
    before = enclave(boot_id=bytes(16)).report(USER_DATA)
    with pytest.raises(ReportError, match="not of this machine and boot"):
        enclave(boot_id=BOOT_ID).verify(before)


def test_one_of_another_machine_is_refused() -> None:
    elsewhere = enclave(root=bytes(32)).report(USER_DATA)
    with pytest.raises(ReportError, match="not of this machine and boot"):
        enclave().verify(elsewhere)


def test_user_data_of_one_report_does_not_fit_another() -> None:
    one = enclave()
    first, second = one.report(USER_DATA), one.report(bytes(64))
    with pytest.raises(ReportError):
        one.verify(first[:97] + second[97:161] + first[161:])


@pytest.mark.parametrize("field", FIELDS)
def test_a_right_code_over_nonsense_is_refused(field: str) -> None:
    body = bytearray(enclave(debug=True).report(USER_DATA)[:161])
    body[FIELDS[field]] ^= 2
    key = hkdf(ROOT, b"strongroom/1 report key\0" + BOOT_ID)
    with pytest.raises(ReportError, match="malformed"):
        enclave().verify(bytes(body) + hmac.digest(key, body, "sha256"))


def test_a_seal_key_does_not_make_reports() -> None:
    one = enclave()
    body = one.report(USER_DATA)[:161]
    for info in (b"", b"strongroom/1 report key\0", b"strongroom/1 seal key\0" + BOOT_ID):
        with pytest.raises(ReportError):
            one.verify(body + hmac.digest(hkdf(ROOT, info), body, "sha256"))


def test_a_client_refuses_what_is_not_of_its_machine(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    report = bytes.fromhex(start(here)["report"])
    start(there)
    assert tee.verify_report("process", report, here).genuine
    with pytest.raises(ReportError):
        tee.verify_report("process", report, there)
    flipped = report[:30] + bytes([report[30] ^ 1]) + report[31:]
    with pytest.raises(ReportError):
        tee.verify_report("process", flipped, here)
    with pytest.raises(ReportError):
        tee.verify_report("gramine", report, here)


def test_a_report_of_sgx_is_a_claim() -> None:
    sgx = Enclave()
    for report in (sgx.report(USER_DATA), sgx.quote(USER_DATA)):
        said = parse(report)
        assert not said.genuine
        assert said.user_data == USER_DATA
        assert said.identity.measurement == sgx.measurement


@given(st.binary(max_size=1200))
def test_sgx_parsing_is_total(report: bytes) -> None:
    with pytest.raises(ReportError):
        parse(report)


def test_sgx_quotes_of_another_shape_are_refused() -> None:
    quote = Enclave().quote(USER_DATA)
    for length in range(len(quote)):
        if length != 432:  # the length of a report, as which it would be read
            with pytest.raises(ReportError):
                parse(quote[:length])
    with pytest.raises(ReportError):
        parse(quote + b"\0")
    for at in (0, 1, 2, 3, 4, 7, 432, 435):
        changed = bytearray(quote)
        changed[at] ^= 0x81
        with pytest.raises(ReportError):
            parse(bytes(changed))
    with pytest.raises(ReportError, match="no running enclave"):
        parse(Enclave(initialised=False).quote(USER_DATA))

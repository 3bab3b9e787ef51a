# SPDX-License-Identifier: Apache-2.0
"""An address is one of the forms, or an error that lists them."""

from pathlib import Path

import pytest

from strongroom.errors import UsageError
from strongroom.host.tpm import DEFAULT_ADDRESS, parse_address
from strongroom.host.tpm.address import (
    Address,
    DeviceAddress,
    MssimAddress,
    SwtpmAddress,
    SwtpmSocketAddress,
    TabrmdAddress,
    TbsAddress,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("device", DeviceAddress("/dev/tpmrm0")),
        ("device:", DeviceAddress("/dev/tpmrm0")),
        ("device:/dev/tpm0", DeviceAddress("/dev/tpm0")),
        ("device:/dev/a=b:c", DeviceAddress("/dev/a=b:c")),
        ("swtpm", SwtpmAddress("127.0.0.1", 2321)),
        ("swtpm:", SwtpmAddress("127.0.0.1", 2321)),
        ("swtpm:port=1", SwtpmAddress("127.0.0.1", 1)),
        ("swtpm:host=tpm.example", SwtpmAddress("tpm.example", 2321)),
        ("swtpm:port=65535,host=::1", SwtpmAddress("::1", 65535)),
        ("swtpm:path=/run/swtpm.sock", SwtpmSocketAddress("/run/swtpm.sock")),
        ("mssim:", MssimAddress("127.0.0.1", 2321)),
        ("mssim:host=10.0.0.1,port=65534", MssimAddress("10.0.0.1", 65534)),
        ("tabrmd:", TabrmdAddress("system", "com.intel.tss2.Tabrmd")),
        ("tabrmd:bus_type=session", TabrmdAddress("session", "com.intel.tss2.Tabrmd")),
        ("tabrmd:bus_name=a.b-c,bus_type=system", TabrmdAddress("system", "a.b-c")),
        ("tbs", TbsAddress()),
        ("tbs:", TbsAddress()),
    ],
)
def test_a_form_is_understood(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(address.text) == address


def test_a_relative_path_is_absolute_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_address("swtpm:path=s") == SwtpmSocketAddress(str(tmp_path / "s"))
    assert parse_address("device:d") == DeviceAddress(str(tmp_path / "d"))


def test_without_a_name_it_is_the_kernels_resource_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TCTI", "TPM2TOOLS_TCTI", "TSS2_TCTI", "STRONGROOM_TPM"):
        monkeypatch.setenv(name, "swtpm:")
    assert parse_address("device") == DEFAULT_ADDRESS == DeviceAddress("/dev/tpmrm0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "Device",
        "device ",
        " device",
        "/dev/tpmrm0",
        "devices:/dev/tpm0",
        "device:/dev/a,b",
        "device:/dev/\0",
        "swtpm:/run/swtpm.sock",
        "swtpm:path",
        "swtpm:path=",
        "swtpm:path=/a,port=1",
        "swtpm:path=/a,path=/b",
        "swtpm:port=1,port=1",
        "swtpm:,",
        "swtpm:port=1,",
        "swtpm:port=0",
        "swtpm:port=65536",
        "swtpm:port=01",
        "swtpm:port=+1",
        "swtpm:port= 1",
        "swtpm:port=\N{FULLWIDTH DIGIT ONE}",
        "swtpm:port=1e3",
        "swtpm:PORT=1",
        "swtpm:host=",
        "swtpm:host=a b",
        "swtpm:host=a\n",
        "swtpm:host=" + "a" * 254,
        "swtpm:host=a..b",
        "mssim:host=" + "a" * 64,
        "swtpm:path=/" + "a" * 107,
        "swtpm:path=/\udcff\ud800",
        "swtpm:bus_type=session",
        "mssim:port=65535",
        "mssim:path=/run/mssim.sock",
        "tabrmd:session",
        "tabrmd:bus_type=starter",
        "tabrmd:bus_name=one",
        "tabrmd:bus_name=a..b",
        "tabrmd:bus_name=a.1",
        "tabrmd:bus_name=a." + "b" * 254,
        "tabrmd:host=a",
        "tbs:0",
        "pcap:swtpm:",
        "cmd:sh",
    ],
)
def test_what_is_none_of_the_forms_is_refused_with_all_of_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    for form in ("device[:", "swtpm[:path=", "mssim[:", "tabrmd[:", "tbs"):
        assert form in caught.value.hint

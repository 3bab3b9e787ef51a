# SPDX-License-Identifier: Apache-2.0
"""A host that breaks the rules gets an error frame, a dead enclave and no keys."""

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls, cbor
from strongroom.boundary.calls import KdfParameters
from strongroom.boundary.schema import encode_message
from strongroom.boundary.stream import MAX_FRAME_BYTES
from tests.hostile.boundary.conftest import Start
from tests.hostile.boundary.evil import (
    VIOLATED,
    Enclave,
    await_silence,
    creation,
    is_served,
    new_volume,
    opened,
    serve,
)

pytestmark = pytest.mark.hostile

Attack = Callable[[Enclave], None]
SLOW: Final = KdfParameters("pbkdf2", "sha512", None, 40_000_000, None)
"""Many seconds of work."""


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def with_descriptors(enclave: Enclave) -> None:
    with opened(enclave.log, os.O_RDONLY) as descriptor:
        socket.send_fds(enclave.socket, [frame(cbor.encode([0, "Describe", {}]))], [descriptor] * 2)


def with_many_descriptors(enclave: Enclave) -> None:
    with opened(enclave.log, os.O_RDONLY) as descriptor:
        socket.send_fds(enclave.socket, [frame(cbor.encode([0, "Describe", {}]))], [descriptor] * 9)


ATTACKS: Final[dict[str, Attack]] = {
    "garbage": lambda it: it.socket.sendall(b"GET / HTTP/1.1\r\n\r\n"),
    "a frame of zeros": lambda it: it.socket.sendall(frame(bytes(64))),
    "an empty frame": lambda it: it.socket.sendall(bytes(4)),
    "a frame that is too large": lambda it: it.socket.sendall(
        struct.pack(">I", MAX_FRAME_BYTES + 1)
    ),
    "the largest frame, of nested arrays": lambda it: it.socket.sendall(
        frame(b"\x81" * MAX_FRAME_BYTES)
    ),
    "a tag": lambda it: it.socket.sendall(frame(bytes.fromhex("83006844657363726962c249ff"))),
    "a call that does not exist": lambda it: it.send(0, "ReadKey", {}),
    "an ocall as a call": lambda it: it.send(0, "ReportProgress", {}),
    "an answer to nothing": lambda it: it.send(1, "Describe", {}),
    "an error to nothing": lambda it: it.send(
        2, "Describe", {"error": "DiskError", "message": "", "hint": ""}
    ),
    "a field too many": lambda it: it.send(0, "Describe", {"verbose": True}),
    "a field too few": lambda it: it.send(0, "NewRecipient", {}),
    "a field of the wrong type": lambda it: it.send(0, "NewRecipient", {"purpose": 7}),
    "a purpose that does not exist": lambda it: it.send(0, "NewRecipient", {"purpose": "dump"}),
    "a missing descriptor": lambda it: it.send(
        0, "LoadDisk", {"image": True, "header": None, "read_only": True, "direct": None}
    ),
    "descriptors that nobody asked for": with_descriptors,
    "too many descriptors": with_many_descriptors,
}


@pytest.fixture(scope="module")
def served(pristine: Path) -> bytes:
    """What the image of every test here has to look like afterwards."""
    return pristine.read_bytes()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_violation_erases_the_keys_and_ends_the_enclave(  # noqa: PLR0917 - fixtures
    attack: Attack, enclave: Enclave, image: Path, served: bytes, tmp_path: Path
) -> None:
    nbd = tmp_path / "nbd"
    enclave.load(image)
    enclave.unlock()
    serve(enclave, nbd)
    assert is_served(nbd)

    attack(enclave)

    heard = enclave.hear()
    assert isinstance(heard, list)
    assert heard[:2] == [2, ""]
    assert isinstance(heard[2], dict)
    assert heard[2]["error"] == "BoundaryError"
    assert enclave.exit_code() == VIOLATED
    assert b"boundary violated, keys erased" in enclave.log.read_bytes()
    assert not is_served(nbd)
    assert image.read_bytes() == served


def test_half_a_frame_is_a_violation_too(enclave: Enclave) -> None:
    enclave.call(calls.Describe())
    enclave.socket.sendall(frame(cbor.encode([0, "Describe", {}]))[:-1])
    enclave.socket.shutdown(socket.SHUT_WR)

    assert enclave.hear() == [
        2,
        "",
        {
            "error": "BoundaryError",
            "hint": "",
            "message": "the boundary was cut in the middle of a message",
        },
    ]
    assert enclave.exit_code() == VIOLATED


def test_a_host_that_leaves_between_two_frames_is_no_violation(
    enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    nbd = tmp_path / "nbd"
    enclave.load(image)
    enclave.unlock()
    serve(enclave, nbd)

    enclave.socket.close()

    assert enclave.exit_code() == 0
    assert not is_served(nbd)
    assert b"violated" not in enclave.log.read_bytes()


ANSWERS: Final[dict[str, Attack]] = {
    "garbage": lambda it: it.socket.sendall(b"\x00\x00\x00\x02\xff\xff"),
    "another call's answer": lambda it: it.send(1, "Describe", {}),
    "fields": lambda it: it.send(1, "ReportProgress", {"total": 100}),
    "a call": lambda it: it.send(0, "Shutdown", {}),
    "an error": lambda it: it.send(
        2, "ReportProgress", {"error": "DiskError", "message": "", "hint": ""}
    ),
    "descriptors": lambda it: it.send(1, "ReportProgress", {}, (it.socket.fileno(),)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_wrong_answer_to_an_ocall_is_a_violation(
    answer: Attack, enclave: Enclave, image: Path, served: bytes
) -> None:
    enclave.load(image)
    sealed = enclave.sealed("unlock")
    enclave.send(0, "Unlock", fields_of_unlock(sealed))
    heard = enclave.hear()
    assert isinstance(heard, list)
    assert heard[:2] == [0, "ReportProgress"]

    answer(enclave)

    refused = enclave.hear()
    assert isinstance(refused, list)
    assert refused[:2] == [2, ""]
    assert enclave.exit_code() == VIOLATED
    assert image.read_bytes() == served


def fields_of_unlock(sealed: calls.Sealed) -> cbor.Value:
    return {
        "discard": False,
        "passphrase": {
            "ciphertext": sealed.ciphertext,
            "encapsulated_key": sealed.encapsulated_key,
            "public_key": sealed.public_key,
            "terms": fields_of(sealed.terms),
        },
    }


def fields_of(message: object) -> cbor.Value:
    return encode_message(message)[0]


def test_a_host_that_never_answers_an_ocall_holds_no_key_beyond_its_own_life(
    enclave: Enclave, image: Path
) -> None:
    enclave.load(image)
    enclave.send(0, "Unlock", fields_of_unlock(enclave.sealed("unlock")))
    enclave.hear()
    time.sleep(0.2)
    assert enclave.process.poll() is None

    enclave.socket.close()

    assert enclave.exit_code(2) == 0


def test_a_host_that_leaves_during_a_derivation_takes_the_enclave_with_it(
    start: Start, tmp_path: Path
) -> None:
    enclave = start()
    enclave.process.poll()
    image = tmp_path / "slow"
    image.touch()
    os.truncate(image, 20 << 20)
    with opened(image) as descriptor:
        request = creation(descriptor, enclave.sealed("format"), factors=("passphrase",), kdf=SLOW)
        fields, descriptors = encode_message(enclave.client.bound(request))
        enclave.send(0, "CreateVolume", fields, tuple(descriptors))
    enclave.hear()
    enclave.send(1, "ReportProgress", {})
    time.sleep(0.3)
    assert enclave.process.poll() is None

    closed_at = time.monotonic()
    enclave.socket.close()

    assert enclave.exit_code() == 0
    assert time.monotonic() - closed_at < 1.0
    assert image.read_bytes().strip(b"\0") == b""


def test_a_flood_of_calls_is_answered_one_by_one(enclave: Enclave) -> None:
    count = 200
    for _ in range(count):
        enclave.send(0, "NewRecipient", {"purpose": "unlock"})
    keys = set()
    for _ in range(count):
        heard = enclave.hear()
        assert isinstance(heard, list)
        assert isinstance(heard[2], dict)
        keys.add(heard[2]["public_key"])
    assert len(keys) == count
    enclave.socket.shutdown(socket.SHUT_WR)
    assert await_silence(enclave.socket, 5)
    assert enclave.exit_code() == 0


def test_new_volumes_are_made_after_an_enclave_was_attacked(
    enclave: Enclave, start: Start, tmp_path: Path
) -> None:
    enclave.socket.sendall(bytes(4))
    assert enclave.exit_code() == VIOLATED
    assert new_volume(start(), tmp_path / "another").key_bits == 512

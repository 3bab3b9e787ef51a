# SPDX-License-Identifier: Apache-2.0
"""Clients of a volume's control socket that talk nonsense or leave: the volume stays open."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import cbor
from strongroom.boundary.stream import MAX_FRAME_BYTES, UnixStream, receive_frame, send_frame
from tests.harness import Operator
from tests.hostile.boundary.evil import await_silence, is_served
from tests.system.crash.remains import await_true

pytestmark = pytest.mark.hostile

Attack = Callable[[socket.socket], None]


def sends(kind: int, name: str, fields: cbor.Value, descriptors: int = 0) -> Attack:
    def attack(client: socket.socket) -> None:
        send_frame(
            UnixStream(client), cbor.encode([kind, name, fields]), [client.fileno()] * descriptors
        )

    return attack


def hides(client: socket.socket) -> None:
    """Ask, and leave before the answer."""
    sends(0, "AskStatus", {})(client)
    client.close()


def stops_in_the_middle(client: socket.socket) -> None:
    client.sendall(struct.pack(">I", 9) + b"half")
    client.shutdown(socket.SHUT_WR)


SEALED: Final[cbor.Value] = {
    "passphrase": {
        "ciphertext": bytes(17),
        "encapsulated_key": bytes(32),
        "public_key": bytes(32),
    }
}
ATTACKS: Final[dict[str, Attack]] = {
    "leaves at once": lambda client: client.close(),
    "leaves before the answer": hides,
    "garbage": lambda client: client.sendall(b"GET / HTTP/1.1\r\n\r\n"),
    "an empty frame": lambda client: client.sendall(bytes(4)),
    "a frame that is too large": lambda client: client.sendall(
        struct.pack(">I", MAX_FRAME_BYTES + 1)
    ),
    "a deep frame": lambda client: client.sendall(
        struct.pack(">I", MAX_FRAME_BYTES) + b"\x81" * MAX_FRAME_BYTES
    ),
    "half a frame": stops_in_the_middle,
    "a call of the enclave": sends(0, "Shutdown", {}),
    "a call that does not exist": sends(0, "Dump", {}),
    "an answer to nothing": sends(1, "AskStatus", {}),
    "a field too many": sends(0, "AskStatus", {"verbose": True}),
    "the wrong type": sends(0, "Close", {"force": 1}),
    "descriptors": sends(0, "AskStatus", {}, descriptors=4),
    "too many descriptors": sends(0, "AskStatus", {}, descriptors=20),
    "a key for an open volume": sends(0, "SetKey", SEALED),
}


def test_no_client_ends_the_volume(operator: Operator, tmp_path: Path) -> None:
    image = tmp_path / "image"
    operator.format(image, size="20M")
    with operator.opened(image, "victim") as facts:
        control = operator.runtime / "victim" / "control.sock"
        descriptors = Path(f"/proc/{facts['host_pid']}/fd")
        before = len(list(descriptors.iterdir()))
        for name, attack in ATTACKS.items():
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(control))
                attack(client)
                if client.fileno() >= 0:
                    assert await_silence(client, 10), name

        status = operator.facts("status", "victim")
        assert (status["state"], status["host_pid"]) == ("open", facts["host_pid"])
        assert status["enclave_pid"] == facts["enclave_pid"]
        await_true(lambda: len(list(descriptors.iterdir())) <= before, "no descriptor is kept")
        assert is_served(Path(facts["socket"]))


def test_an_open_volume_gives_no_key_to_seal_to(operator: Operator, tmp_path: Path) -> None:
    image = tmp_path / "image"
    operator.format(image, size="20M")
    with operator.opened(image, "victim"), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(operator.runtime / "victim" / "control.sock"))
        sends(0, "AskRecipient", {})(client)
        heard = cbor.decode(receive_frame(UnixStream(client))[0])
        assert isinstance(heard, list)
        assert isinstance(heard[2], dict)
        assert heard[2]["error"] == "AlreadyOpenError"

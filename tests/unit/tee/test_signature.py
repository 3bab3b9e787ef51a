# SPDX-License-Identifier: Apache-2.0
"""Whose signature makes a measurement an identity."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.errors import TeeError
from strongroom.tee.process.signature import SignedIdentity, parse, sign, signed_identity
from strongroom.tee.process.store import Store
from tests.unit.tee.scene import secret, start

pytestmark = pytest.mark.unit

SEED: Final = bytes(range(32))
MEASUREMENT: Final = hashlib.sha256(b"what runs").digest()
CONTEXT: Final = b"strongroom process identity 1\0"


def signed(version: int = 7) -> SignedIdentity:
    return sign(secret(SEED), MEASUREMENT, product_id=3, security_version=version)


def members() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(signed().document())
    return found


def read(document: bytes) -> SignedIdentity:
    return parse(document, MEASUREMENT, subject="the file")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty state directory."""
    return Store(tmp_path, create=True)


def place(store: Store, document: bytes) -> None:
    directory = store.path / "signatures"
    directory.mkdir(exist_ok=True)
    path = directory / f"{MEASUREMENT.hex()}.json"
    path.write_bytes(document)
    path.chmod(0o644)


def test_it_is_as_specified() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    claims = {
        "measurement": MEASUREMENT.hex(),
        "product_id": 3,
        "security_version": 7,
        "signer": key.public_key().public_bytes_raw().hex(),
    }
    message = CONTEXT + json.dumps(claims, sort_keys=True, separators=(",", ":")).encode()
    assert members() == {**claims, "signature": key.sign(message).hex()}


def test_order_and_spaces_do_not_matter() -> None:
    document = json.dumps(dict(reversed(members().items())), indent=4).encode()
    assert read(document) == read(signed().document()) == signed()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("product_id", 4),
        ("security_version", 8),
        ("signer", "00" * 32),
        ("signer", bytes(range(32)).hex()),
        ("signature", "00" * 64),
        ("signature", "ff" * 64),
    ],
)
def test_a_changed_member_makes_the_signature_wrong(name: str, value: object) -> None:
    with pytest.raises(TeeError, match="the signature in the file is wrong"):
        read(json.dumps({**members(), name: value}).encode())


def test_each_flipped_bit_is_refused() -> None:
    document = signed().document().rstrip()
    for at in range(len(document)):
        for bit in range(8):
            flipped = bytearray(document)
            flipped[at] ^= 1 << bit
            with pytest.raises(TeeError):
                read(bytes(flipped))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"\xff\xfe",
        lambda _: b"[" * 4000,
        lambda m: json.dumps({**m, "more": 1}).encode(),
        lambda m: json.dumps({k: v for k, v in m.items() if k != "signer"}).encode(),
        lambda m: json.dumps({**m, "product_id": True}).encode(),
        lambda m: json.dumps({**m, "product_id": 3.0}).encode(),
        lambda m: json.dumps({**m, "product_id": "3"}).encode(),
        lambda m: json.dumps({**m, "security_version": -1}).encode(),
        lambda m: json.dumps({**m, "security_version": 65536}).encode(),
        lambda m: json.dumps({**m, "signer": m["signer"].upper()}).encode(),
        lambda m: json.dumps({**m, "signer": m["signer"] + "00"}).encode(),
        lambda m: json.dumps({**m, "signature": m["signature"][:-1] + " "}).encode(),
        lambda m: json.dumps({**m, "signature": None}).encode(),
        lambda m: json.dumps(m).encode()[:-1] + b',"product_id":3}',
    ],
)
def test_malformed_documents_are_refused(spoil: Callable[[dict[str, Any]], bytes]) -> None:
    with pytest.raises(TeeError, match="is not a signed identity"):
        read(spoil(members()))


def test_one_of_another_measurement_is_refused() -> None:
    with pytest.raises(TeeError, match="another measurement"):
        parse(signed().document(), bytes(32), subject="the file")


def test_a_file_comes_before_this_machines_signer(store: Store) -> None:
    assert signed_identity(store, MEASUREMENT, create=True).security_version == 1
    place(store, signed(9).document())
    assert signed_identity(store, MEASUREMENT, create=False) == signed(9)
    assert signed_identity(store, bytes(32), create=False).security_version == 1


def test_with_a_file_no_signer_is_made(store: Store) -> None:
    place(store, signed().document())
    signed_identity(store, MEASUREMENT, create=True)
    assert not (store.path / "signer").exists()


def test_a_bad_file_is_not_passed_over(store: Store) -> None:
    place(store, json.dumps({**members(), "security_version": 8}).encode())
    with pytest.raises(TeeError, match=r"signature .* is wrong"):
        signed_identity(store, MEASUREMENT, create=False)
    place(store, b" " * 5000)
    with pytest.raises(TeeError, match="longer than 4096"):
        signed_identity(store, MEASUREMENT, create=False)


def test_a_signer_that_was_removed_is_not_made_again(store: Store) -> None:
    signed_identity(store, MEASUREMENT, create=True)
    (store.path / "signer").unlink()
    with pytest.raises(TeeError, match=f"nobody signed .* {MEASUREMENT.hex()}") as refusal:
        signed_identity(store, MEASUREMENT, create=False)
    assert "signatures" in refusal.value.hint
    assert not (store.path / "signer").exists()
    place(store, signed().document())
    assert signed_identity(store, MEASUREMENT, create=False) == signed()


def test_a_signed_process_says_so(tmp_path: Path) -> None:
    plain = start(tmp_path)
    measurement = bytes.fromhex(plain["measurement"])
    directory = tmp_path / "process/signatures"
    directory.mkdir(mode=0o700)
    path = directory / f"{measurement.hex()}.json"
    path.write_bytes(sign(secret(SEED), measurement, product_id=2, security_version=5).document())
    found = start(tmp_path)
    assert (found["product_id"], found["security_version"]) == (2, 5)
    public_key = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    assert found["signer"] == hashlib.sha256(public_key).hexdigest()

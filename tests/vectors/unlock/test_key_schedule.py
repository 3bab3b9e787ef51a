# SPDX-License-Identifier: Apache-2.0
"""The key schedule, the sealed blobs and the header's codes against the committed vectors.

The vectors come from ``independent.py``, which imports nothing of Strongroom.
"""

import base64
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom import _core
from strongroom.enclave.factors import (
    FACTORS,
    Factor,
    Place,
    enclave_share,
    policy_digest,
    slot_passphrase,
)
from strongroom.enclave.header_keys import (
    authentication_mark,
    enclave_header_key,
    enclave_key_id,
    volume_header_key,
)
from strongroom.errors import FormatError
from strongroom.luks2 import canonical_json

pytestmark = pytest.mark.vectors

HERE: Final = Path(__file__).parent
VECTORS: Final[list[dict[str, Any]]] = json.loads((HERE / "vectors.json").read_text())
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda v: "+".join(v["factors"]))


def exactly(data: bytes) -> _core.Secret:
    """Return a secret with these bytes."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    try:
        return _core.read_secret_exactly(reader, len(data))
    finally:
        os.close(reader)


def shares_of(vector: dict[str, Any]) -> dict[Any, _core.Secret]:
    """Return the shares that a vector lists."""
    every = {
        "enclave": vector["enclave_share"],
        "passphrase": vector["passphrase_share"],
        "tpm": vector["tpm"],
    }
    return {name: exactly(bytes.fromhex(every[name])) for name in vector["factors"]}


def test_the_independent_script_reproduces_the_vectors() -> None:
    script = [sys.executable, "-I", str(HERE / "independent.py"), "check"]
    subprocess.run([*script, str(HERE / "vectors.json")], check=True, timeout=60)


def test_the_independent_script_notices_a_change(tmp_path: Path) -> None:
    changed = json.loads(json.dumps(VECTORS))
    changed[0]["slot_secret"] = changed[0]["slot_secret"][::-1]
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    script = [sys.executable, "-I", str(HERE / "independent.py"), "check"]
    done = subprocess.run(
        [*script, str(tmp_path / "changed.json")], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 1


@each_vector
def test_shares_and_slot_secret(vector: dict[str, Any]) -> None:
    place = Place(vector["uuid"], vector["keyslot"])
    share = enclave_share(exactly(bytes.fromhex(vector["sealed"])), place)
    kdf = vector["kdf"]
    derived = _core.argon2(
        exactly(vector["passphrase"].encode()),
        base64.b64decode(kdf["salt"]),
        variant=kdf["type"],
        memory_kib=kdf["memory"],
        iterations=kdf["time"],
        lanes=kdf["cpus"],
        length_bytes=32,
    )

    assert share.equals(exactly(bytes.fromhex(vector["enclave_share"])))
    assert derived.equals(exactly(bytes.fromhex(vector["passphrase_share"])))
    combined = slot_passphrase(shares_of(vector), place)
    assert combined.equals(exactly(vector["luks_passphrase"].encode()))


@each_vector
def test_sealed_blobs_open(vector: dict[str, Any]) -> None:
    key, aad = exactly(bytes.fromhex(vector["seal_key"])), vector["aad"].encode()
    sealed = _core.unseal_secret(bytes.fromhex(vector["share_blob"]), key, aad=aad)
    parameters = _core.unseal_parameters(bytes.fromhex(vector["parameters_blob"]), key, aad=aad)

    assert sealed.equals(exactly(bytes.fromhex(vector["sealed"])))
    assert parameters == canonical_json(vector["kdf"])


@each_vector
def test_header_codes_and_mark(vector: dict[str, Any]) -> None:
    message = canonical_json({"token": vector["token"], "uuid": vector["uuid"]})
    seal_key = exactly(bytes.fromhex(vector["seal_key"]))
    volume_key = exactly(bytes.fromhex(vector["volume_key"]))
    header_key = volume_header_key(volume_key, vector["uuid"])
    enclave_key = enclave_header_key(seal_key, vector["uuid"])
    enclave_code = _core.hmac_sha256(enclave_key, message)
    codes = {
        "enclave": enclave_code.hex(),
        "key_id": enclave_key_id(enclave_key).hex(),
        "volume": _core.hmac_sha256(header_key, message + enclave_code).hex(),
        "mark": authentication_mark(volume_key).hex(),
    }

    assert codes == vector["codes"]


def test_two_leaked_shares_of_three_give_nothing() -> None:
    """Whoever has two shares still has to guess the third: each guess gives another secret."""
    vector = next(item for item in VECTORS if len(item["factors"]) == len(FACTORS))
    place = Place(vector["uuid"], vector["keyslot"])
    right = exactly(vector["luks_passphrase"].encode())
    for missing in FACTORS:
        leaked = {name: share for name, share in shares_of(vector).items() if name != missing}
        assert not slot_passphrase(leaked, place).equals(right)
        for guess in (bytes(32), b"\xff" * 32, os.urandom(32)):
            assert not slot_passphrase({**leaked, missing: exactly(guess)}, place).equals(right)


def test_a_slot_secret_belongs_to_its_place_and_factors() -> None:
    vector = VECTORS[2]
    shares = shares_of(vector)
    places = [
        Place(vector["uuid"], vector["keyslot"]),
        Place(vector["uuid"], vector["keyslot"] + 1),
        Place(VECTORS[0]["uuid"], vector["keyslot"]),
    ]
    derived = [slot_passphrase(shares, place) for place in places]
    derived.append(slot_passphrase({**shares, "enclave": shares["tpm"]}, places[0]))

    assert not any(one.equals(other) for one, other in itertools.combinations(derived, 2))


@pytest.mark.parametrize(
    "factors", [(), ("passphrase", "enclave"), ("enclave", "enclave"), ("enclave", "moon")]
)
def test_factors_out_of_order_have_no_digest(factors: tuple[Factor, ...]) -> None:
    with pytest.raises(FormatError):
        policy_digest(factors)

# SPDX-License-Identifier: Apache-2.0
"""What the enclave does with a TPM is what tpm2-tools read there, and the other way round."""

import hashlib
import re
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.errors import TpmError
from strongroom.host.tpm.relay import Relay
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Attestation,
    Blob,
    Device,
    Key,
    KeyKind,
    Nv,
    NvPublic,
    Objects,
    PcrSelection,
    PolicySteps,
    PublicArea,
    SaltKey,
    Sessions,
    attestation_template,
    endorsement_template,
    policy,
    storage_root_template,
)
from tests.honest import known_secret
from tests.swtpm import Swtpm

pytestmark = pytest.mark.interop

AUTH: Final = b"an authorization value of 32 by!"
INDEX: Final = 0x01800042


def test_capabilities_are_those_that_tools_print(road: Sessions, tpm: Swtpm) -> None:
    found = Device(road).capabilities()
    printed = tpm.tool("tpm2_getcap", "properties-fixed").stdout.decode()
    assert found.family == "2.0"
    assert f'value: "{found.manufacturer}"' in printed
    for number, value in found.properties.items():
        assert number < 0x200 or value >= 0
    revision = re.search(r"TPM2_PT_REVISION:\n.*\n\s+value: ([\d.]+)", printed)
    assert revision is not None
    assert float(revision[1]) == found.revision / 100


def test_the_clock_runs(road: Sessions, tpm: Swtpm) -> None:
    device = Device(road)
    first, second = device.clock(), device.clock()
    assert second.time_milliseconds >= first.time_milliseconds
    printed = tpm.tool("tpm2_readclock").stdout.decode()
    assert f"reset_count: {first.reset_count}" in printed
    assert f"restart_count: {first.restart_count}" in printed


def test_random_bytes_differ(road: Sessions) -> None:
    device = Device(road)
    first, second = device.random(32), device.random(32)
    assert first.length_bytes == second.length_bytes == 32
    assert not first.equals(second)


def test_pcrs_are_extended_and_read(road: Sessions, tpm: Swtpm) -> None:
    device, everything = Device(road), PcrSelection.of(range(24))
    before = device.read_pcrs(everything)
    assert len(before) == 24
    digest = hashlib.sha256(b"event").digest()
    device.extend_pcr(16, digest)
    after = device.read_pcrs(everything)
    assert after[16] == hashlib.sha256(before[16] + digest).digest()
    assert {pcr: value for pcr, value in after.items() if pcr != 16} == {
        pcr: value for pcr, value in before.items() if pcr != 16
    }
    tpm.tool("tpm2_pcrextend", f"23:sha256={digest.hex()}")
    printed = tpm.tool("tpm2_pcrread", "sha256").stdout.decode()
    values = {int(pcr): value for pcr, value in re.findall(r"(\d+) *: 0x([0-9A-F]{64})", printed)}
    assert {pcr: value.hex().upper() for pcr, value in device.read_pcrs(everything).items()} == (
        values
    )


def test_an_index_is_written_by_one_and_read_by_the_other(road: Sessions, tpm: Swtpm) -> None:
    nv, auth = Nv(road), known_secret(AUTH)
    index = NvPublic.ordinary(INDEX, 32)
    nv.define(index, auth)
    data = hashlib.sha256(b"ours").digest()
    nv.write(index, known_secret(data), auth)
    index = index.written()
    assert nv.read(index, auth, 32).equals(known_secret(data))
    assert nv.describe(INDEX) == index
    theirs = ("-P", f"hex:{AUTH.hex()}", f"{INDEX:#x}")
    assert tpm.tool("tpm2_nvread", *theirs).stdout == data

    data = hashlib.sha256(b"theirs").digest()
    tpm.tool("tpm2_nvwrite", *theirs, "-i", "-", stdin=data)
    assert nv.read(index, auth, 32).equals(known_secret(data))
    assert Device(road).handles(0x01000000) == (INDEX,)
    nv.undefine(index)
    assert Device(road).handles(0x01000000) == ()


def test_a_counter_counts_for_both(road: Sessions, tpm: Swtpm) -> None:
    nv, auth = Nv(road), known_secret(AUTH)
    counter = NvPublic.counter(INDEX)
    nv.define(counter, auth)
    nv.increment(counter, auth)
    counter = counter.written()
    first = nv.count(counter, auth)
    theirs = ("-P", f"hex:{AUTH.hex()}", f"{INDEX:#x}")
    tpm.tool("tpm2_nvincrement", *theirs)
    assert nv.count(counter, auth) == first + 1
    nv.increment(counter, auth)
    assert int.from_bytes(tpm.tool("tpm2_nvread", *theirs).stdout, "big") == first + 2

    # Made anew it is of the same Name, and does not go back.
    tpm.tool("tpm2_nvundefine", f"{INDEX:#x}")
    nv.define(NvPublic.counter(INDEX), auth)
    nv.increment(NvPublic.counter(INDEX), auth)
    assert nv.count(counter, auth) == first + 3


def test_the_wrong_value_is_refused(road: Sessions) -> None:
    nv = Nv(road)
    counter = NvPublic.counter(INDEX)
    nv.define(counter, known_secret(AUTH))
    with pytest.raises(TpmError, match=r"bad auth.*0x9a2"):
        nv.increment(counter, known_secret(b"another value"))
    # A refusal is no forgery: the session goes on.
    nv.increment(counter, known_secret(AUTH))


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_sessions_are_salted_to_each_kind_of_endorsement_key(
    road: Sessions, relay: Relay, kind: KeyKind
) -> None:
    with Objects(road).primary(ENDORSEMENT, endorsement_template(kind)) as key:
        assert key.public.key().kind is kind
        with Sessions(relay.transmit, SaltKey(key.handle, key.public)) as other:
            assert Device(other).random(16).length_bytes == 16
            with other.policy_session() as session:
                PolicySteps(other, session).secret(ENDORSEMENT)


def test_sealed_data_opens_for_both(road: Sessions, tpm: Swtpm, tmp_path: Path) -> None:
    objects, auth, data = Objects(road), known_secret(AUTH), known_secret(b"sealed by us")
    with objects.primary(OWNER, storage_root_template()) as made:
        root = objects.keep(made, 0x81000001)
    blob = objects.seal(root, data, auth=auth)
    with objects.load(root, blob) as loaded:
        assert objects.unseal(loaded, auth).equals(data)
        with pytest.raises(TpmError, match="bad auth"):
            objects.unseal(loaded, known_secret(b"another"))

    public, private = tmp_path / "public", tmp_path / "private"
    public.write_bytes(len(blob.public.wire).to_bytes(2, "big") + blob.public.wire)
    private.write_bytes(len(blob.private).to_bytes(2, "big") + blob.private)
    context = tmp_path / "context"
    tpm.tool(*("tpm2_load", "-C", "0x81000001", "-u", public, "-r", private, "-c", context, "-Q"))
    opened = tpm.tool("tpm2_unseal", "-c", context, "-p", f"hex:{AUTH.hex()}")
    assert opened.stdout == b"sealed by us"
    for handle in Device(road).handles(0x80000000)[1:]:
        tpm.tool("tpm2_flushcontext", f"{handle:#x}")

    tpm.tool(
        *("tpm2_create", "-C", "0x81000001", "-i", "-", "-u", public, "-r", private, "-Q"),
        *("-p", f"hex:{AUTH.hex()}"),
        stdin=b"sealed by them",
    )
    theirs = blob_of(public, private)
    with objects.load(root, theirs) as loaded:
        assert objects.unseal(loaded, auth).equals(known_secret(b"sealed by them"))


def test_a_policy_of_pcrs_counter_and_value(road: Sessions) -> None:
    objects, nv, auth = Objects(road), Nv(road), known_secret(AUTH)
    counter = NvPublic.counter(INDEX)
    nv.define(counter, auth)
    nv.increment(counter, auth)
    counter = counter.written()
    limit = (nv.count(counter, auth) + 1).to_bytes(8, "big")
    selection = PcrSelection.of([0, 16])
    expected = selection.digest_of(Device(road).read_pcrs(selection))
    digest = policy.pcr(policy.EMPTY, selection, expected)
    digest = policy.nv(digest, counter.entity.name, limit, policy.UNSIGNED_LE)
    digest = policy.auth_value(digest)

    def unsealed(root: Key, blob: Blob) -> bool:
        with objects.load(root, blob) as loaded, road.policy_session() as session:
            steps = PolicySteps(road, session)
            steps.pcr(selection, expected)
            steps.nv(counter.entity, auth, limit, policy.UNSIGNED_LE)
            steps.auth_value()
            opened = objects.unseal(loaded, steps.fulfilled(auth))
            return opened.equals(known_secret(b"share"))

    with objects.primary(OWNER, storage_root_template()) as root:
        blob = objects.seal(root, known_secret(b"share"), auth=auth, policy=digest)
        assert unsealed(root, blob)
        nv.increment(counter, auth)
        assert unsealed(root, blob)
        nv.increment(counter, auth)
        with pytest.raises(TpmError, match="a policy is not satisfied"):
            unsealed(root, blob)


def test_a_quote_is_verified_by_others(road: Sessions) -> None:
    objects, auth, question = Objects(road), known_secret(AUTH), b"a question"
    selection = PcrSelection.of([0, 1, 16])
    with objects.primary(OWNER, storage_root_template()) as root:
        blob = objects.create(root, attestation_template(), auth=auth, data=None)
        with objects.load(root, blob) as key:
            quote = Attestation(road).quote(key, auth, selection, question)
            with pytest.raises(TpmError, match="bad auth"):
                Attestation(road).quote(key, None, selection, question)
    x, y = blob.public.key().numbers
    signature = encode_dss_signature(quote.signature.r, quote.signature.s)
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(signature, quote.attested, ec.ECDSA(hashes.SHA256()))
    assert quote.pcr_digest == selection.digest_of(Device(road).read_pcrs(selection))


def blob_of(public: Path, private: Path) -> Blob:

    return Blob(PublicArea(public.read_bytes()[2:]), private.read_bytes()[2:])

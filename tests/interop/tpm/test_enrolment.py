# SPDX-License-Identifier: Apache-2.0
"""A TPM is met, known again, and not taken for another."""

import dataclasses
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.errors import TpmChangedError, TpmError, TpmTransportError
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import Attestation, Device, KeyKind, Objects, PcrSelection
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.enrolment import STORAGE_ROOT_HANDLE, attestation_auth, connected, enrol, forget
from strongroom.tpm.objects import ObjectAttribute
from strongroom.tpm.wire import Transmit
from tests.honest import known_secret
from tests.swtpm import Swtpm, swtpm

pytestmark = pytest.mark.interop

AUTH = b"of the attestation key, 32 bytes"


def test_a_tpm_is_met_and_known_again(tpm: Swtpm) -> None:
    auth = known_secret(AUTH)
    with Relay(parse_address(tpm.address)) as relay:
        first = enrol(relay.transmit, auth)
        assert not first.certificate
        assert first.enrolment.storage_root.handle == STORAGE_ROOT_HANDLE
        with connected(relay.transmit, first.enrolment) as road:
            key = first.enrolment.attestation
            own = attestation_auth(auth, first.enrolment.endorsement)
            quote = Attestation(road).quote(key, own, PcrSelection.of([0]), b"who")
            assert quote.clock.reset_count == first.clock.reset_count
            for other in (None, auth, attestation_auth(auth, first.enrolment.storage_root.public)):
                with pytest.raises(TpmError, match="bad auth"):
                    Attestation(road).quote(key, other, PcrSelection.of([0]), b"who")
    assert nothing_loaded(tpm)

    tpm.power_cycle()
    with Relay(parse_address(tpm.address)) as relay:
        with connected(relay.transmit, first.enrolment) as road:
            assert Device(road).clock().reset_count == first.clock.reset_count + 1
        again = enrol(relay.transmit, auth)
        assert again.enrolment.storage_root == first.enrolment.storage_root
        with connected(relay.transmit, first.enrolment) as road:
            forget(road, first.enrolment)
            forget(road, again.enrolment)
            assert Device(road).handles(0x81000000) == (STORAGE_ROOT_HANDLE,)
    assert nothing_loaded(tpm)


def test_the_key_that_is_certified_is_the_one_that_is_met(tmp_path: Path) -> None:
    with (
        swtpm(tmp_path, certificates=True) as tpm,
        Relay(parse_address(tpm.address)) as relay,
    ):
        met = enrol(relay.transmit, known_secret(AUTH))
        key = x509.load_der_x509_certificate(met.certificate).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        numbers = key.public_numbers()
        endorsement = met.enrolment.endorsement.key()
        assert endorsement.kind is KeyKind.P384
        assert endorsement.numbers == (numbers.x, numbers.y)


def test_a_tpm_that_has_an_rsa_certificate_only_is_met_by_it(tmp_path: Path) -> None:
    with swtpm(tmp_path, socket_kind="shared", certificates=True) as tpm:
        tpm.tool("tpm2_nvundefine", "-C", "p", "0x01c00016")
        auth = known_secret(AUTH)
        with Relay(parse_address(tpm.address)) as relay:
            met = enrol(relay.transmit, auth)
            with connected(relay.transmit, met.enrolment) as road:
                quoted = PcrSelection.of([0])
                own = attestation_auth(auth, met.enrolment.endorsement)
                Attestation(road).quote(met.enrolment.attestation, own, quoted, b"who")
        key = x509.load_der_x509_certificate(met.certificate).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        endorsement = met.enrolment.endorsement.key()
        assert endorsement.kind is KeyKind.RSA2048
        assert endorsement.numbers == (key.public_numbers().n,)
        assert nothing_loaded(tpm)


@pytest.mark.parametrize("kind", [KeyKind.P384, KeyKind.RSA2048, KeyKind.RSA3072])
def test_a_storage_root_key_of_others_is_used(tpm: Swtpm, kind: KeyKind) -> None:
    algorithm = {KeyKind.P384: "ecc384"}.get(kind, kind.name.lower())
    tpm.keep_root(algorithm)
    data = known_secret(b"sealed by us")
    with Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
        assert met.storage_root.handle == STORAGE_ROOT_HANDLE
        assert met.storage_root.public.key().kind is kind
        with connected(relay.transmit, met) as road:
            objects, root = Objects(road), met.storage_root
            blob = objects.seal(root, data, auth=known_secret(AUTH))
            with objects.load(root, blob) as loaded:
                assert objects.unseal(loaded, known_secret(AUTH)).equals(data)


@pytest.mark.parametrize("attribute", ["sign", "decrypt"])
def test_another_key_than_a_storage_key_is_let_be(tpm: Swtpm, attribute: str) -> None:
    tpm.keep_root("rsa2048", attribute)
    with Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
        assert met.storage_root.handle != STORAGE_ROOT_HANDLE
        assert met.storage_root.public.key().kind is KeyKind.P256


def test_another_tpm_is_not_taken_for_it(tmp_path: Path) -> None:
    with swtpm(tmp_path) as one, swtpm(tmp_path) as other:
        with Relay(parse_address(one.address)) as relay:
            first = enrol(relay.transmit, known_secret(AUTH)).enrolment
        with Relay(parse_address(other.address)) as relay:
            with pytest.raises(TpmChangedError, match="is gone"), connected(relay.transmit, first):
                pass
            second = enrol(relay.transmit, known_secret(AUTH)).enrolment
            assert second.storage_root.handle == first.storage_root.handle
            with pytest.raises(TpmChangedError), connected(relay.transmit, first):
                pass
            # Nor for itself, if somebody only says that it is.
            forged = dataclasses.replace(second, storage_root=first.storage_root)
            with pytest.raises(TpmChangedError), connected(relay.transmit, forged):
                pass


def test_a_cleared_tpm_is_another(tpm: Swtpm) -> None:
    with Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
    tpm.tool("tpm2_clear")
    with (
        Relay(parse_address(tpm.address)) as relay,
        pytest.raises(TpmChangedError, match=r"is gone.*0x18b"),
        connected(relay.transmit, met),
    ):
        pass


def test_a_reset_in_the_middle_is_said_to_be_one(tmp_path: Path) -> None:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
        with connected(relay.transmit, met) as road:
            tpm.power_cycle()
            with pytest.raises(TpmChangedError, match="not there any more") as lost:
                Device(road).clock()
            assert "reset" in lost.value.hint
        with connected(relay.transmit, met) as road:
            assert Device(road).clock().reset_count == 2


def test_a_meeting_that_fails_leaves_no_attestation_key(tmp_path: Path) -> None:
    """Whatever is refused, the key is what comes last."""
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        road = Unprotected(relay.transmit)
        for refused in 2 * (CommandCode.READ_CLOCK, CommandCode.LOAD, CommandCode.CREATE):
            with pytest.raises(TpmError):
                enrol(refusing(relay.transmit, refused), known_secret(AUTH))
            kept = map(Objects(road).describe, Device(road).handles(0x81000000))
            assert not any(ObjectAttribute.SIGN in public.attributes for public in kept)
        assert len(Device(road).handles(0x81000000)) <= 2


def refusing(transmit: Transmit, code: CommandCode) -> Transmit:
    """Refuse every command of one kind: no answer of that kind carries a MAC."""

    def carry(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") == code:
            return bytes.fromhex("8001 0000000a 00000101")
        return transmit(command)

    return carry


def test_only_the_attestation_key_is_forgotten(tpm: Swtpm) -> None:
    with Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
        handle = met.attestation.handle
        with connected(relay.transmit, met) as road:
            forget(road, met)
            forget(road, met)  # nothing is there
        tpm.tool("tpm2_createprimary", "-C", "o", "-c", "their.ctx")
        tpm.tool("tpm2_evictcontrol", "-C", "o", "-c", "their.ctx", f"{handle:#x}")
        with connected(relay.transmit, met) as road, pytest.raises(TpmError):
            forget(road, met)
        assert handle in Device(Unprotected(relay.transmit)).handles(0x81000000)


def test_a_tpm_that_is_off_is_said_to_be(tpm: Swtpm) -> None:
    with Relay(parse_address(tpm.address)) as relay:
        met = enrol(relay.transmit, known_secret(AUTH)).enrolment
    address = parse_address(tpm.address)
    tpm.power_off()
    with (
        Relay(address) as relay,
        pytest.raises(TpmTransportError),
        connected(relay.transmit, met),
    ):
        pass


def nothing_loaded(tpm: Swtpm) -> bool:
    kinds = ("handles-transient", "handles-loaded-session", "handles-saved-session")
    return all(not tpm.tool("tpm2_getcap", kind).stdout for kind in kinds)

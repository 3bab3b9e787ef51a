# SPDX-License-Identifier: Apache-2.0
"""Forged public areas and Names: what is under a handle is what the enclave knows, or nothing.

libtss2 takes both from the wire. A key with the right Name and another public area is salted to;
an NV index with the right public area and another Name is read.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.errors import TpmChangedError, TpmError, TpmTamperedError
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    NULL,
    OWNER,
    Device,
    Nv,
    NvPublic,
    Objects,
    PublicArea,
    storage_root_template,
)
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.enrolment import STORAGE_ROOT_HANDLE, connected, enrol
from strongroom.tpm.marshal import Reader, sized, u16, u32
from strongroom.tpm.objects import without_unique
from tests.honest import known_secret
from tests.hostile.tpm.liar import Liar, lying
from tests.hostile.tpm.operations import AUTH, DATA, ORDINARY, Bench, set_up
from tests.swtpm import Swtpm

pytestmark = pytest.mark.hostile

THEIRS = NvPublic.ordinary(0x01800077, len(DATA))
THEIR_DATA = b"what they put in"


@pytest.fixture
def liar(tpm: Swtpm) -> Iterator[Liar]:
    with lying(tpm) as liar:
        yield liar


@pytest.fixture
def bench(liar: Liar) -> Bench:
    return set_up(liar)


@pytest.fixture
def host(liar: Liar) -> Unprotected:
    """What a host can do by itself with a TPM whose owner has no password."""
    return Unprotected(liar.raw)


def forging(
    liar: Liar, code: CommandCode, forge: Callable[[bytes], bytes]
) -> Callable[[bytes], bytes]:
    """Forge the parameters of every answer to a command that has no session."""

    def carry(command: bytes) -> bytes:
        answer = liar.raw(command)
        if int.from_bytes(command[6:10], "big") != code or answer[:2] != u16(0x8001):
            return answer
        body = forge(answer[10:])
        return answer[:2] + u32(10 + len(body)) + answer[6:10] + body

    return carry


def of_key(public: PublicArea, name: bytes) -> Callable[[bytes], bytes]:
    def forge(body: bytes) -> bytes:
        reader = Reader(body)
        reader.sized(), reader.sized()
        return sized(public.wire) + sized(name) + reader.rest()

    return forge


def of_index(public: NvPublic, name: bytes) -> Callable[[bytes], bytes]:
    return lambda _: sized(public.wire) + sized(name)


def another_key(bench: Bench) -> PublicArea:
    """A key of the host's, as good as the storage root key."""
    return PublicArea(bench.enrolment.storage_root.public.wire[:-32] + bytes(31) + b"\1")


def test_a_key_that_was_put_under_the_handle_is_not_salted_to(
    liar: Liar, bench: Bench, host: Unprotected
) -> None:
    objects, root = Objects(host), bench.enrolment.storage_root
    objects.forget(root)
    # Another unique part makes another key, of which the host knows no more than of the first.
    template = dataclasses.replace(
        storage_root_template(), wire=storage_root_template().wire[:-2] + sized(b"theirs")
    )
    with objects.primary(OWNER, template) as made:
        objects.keep(made, root.handle)
    with pytest.raises(TpmChangedError), connected(liar.raw, bench.enrolment):
        pass


@pytest.mark.parametrize("is_name_genuine", [True, False])
def test_a_forged_key_is_not_described(liar: Liar, bench: Bench, *, is_name_genuine: bool) -> None:
    root, theirs = bench.enrolment.storage_root, another_key(bench)
    name = root.public.name if is_name_genuine else theirs.name
    carry = forging(liar, CommandCode.READ_PUBLIC, of_key(theirs, name))
    refusal = TpmTamperedError if is_name_genuine else TpmError
    with connected(carry, bench.enrolment) as road, pytest.raises(refusal):
        Objects(road).describe(root.handle)


def test_a_forged_name_of_a_key_is_not_used(liar: Liar, bench: Bench) -> None:
    root = bench.enrolment.storage_root
    forge = of_key(root.public, another_key(bench).name)
    carry = forging(liar, CommandCode.READ_PUBLIC, forge)
    with connected(carry, bench.enrolment) as road, pytest.raises(TpmTamperedError):
        Objects(road).describe(root.handle)


@pytest.mark.parametrize("redirected", [(CommandCode.READ_PUBLIC,), tuple(CommandCode)])
@pytest.mark.parametrize("has_root", [True, False])
def test_a_key_that_was_only_loaded_is_not_pinned(
    liar: Liar, host: Unprotected, redirected: tuple[CommandCode, ...], *, has_root: bool
) -> None:
    """No answer says under which handle a key is, and a public part alone can be loaded.

    It claims what no key can claim that was not made in this TPM: nobody checks that there.
    """
    if has_root:
        with Objects(host).primary(OWNER, storage_root_template()) as made:
            Objects(host).keep(made, STORAGE_ROOT_HANDLE)
    theirs = key_of_ours(ec.generate_private_key(ec.SECP256R1()))
    loaded = load_external(liar, theirs)
    assert Objects(host).describe(loaded) == theirs

    def redirect(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") in redirected:
            command = command.replace(u32(STORAGE_ROOT_HANDLE), u32(loaded))
        return liar.raw(command)

    with contextlib.suppress(TpmError):
        met = enrol(redirect, known_secret(AUTH)).enrolment
        assert met.storage_root.public != theirs
        with connected(liar.raw, met) as road:
            Device(road).clock()


def key_of_ours(key: ec.EllipticCurvePrivateKey) -> PublicArea:
    """A key of somebody's, in the words of a storage root key."""
    point = key.public_key().public_numbers()
    unique = sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big"))
    return PublicArea(without_unique(storage_root_template()) + unique)


def load_external(liar: Liar, public: PublicArea) -> int:
    """Load a public area alone, and return its handle."""
    body = sized(b"") + sized(public.wire) + u32(NULL.handle)
    answer = liar.raw(u16(0x8001) + u32(10 + len(body)) + u32(0x167) + body)
    assert answer[6:10] == bytes(4), answer.hex()
    return int.from_bytes(answer[10:14], "big")


def their_index(host: Unprotected) -> NvPublic:
    nv = Nv(host)
    nv.define(THEIRS, b"")
    nv.write(THEIRS, THEIR_DATA, b"")
    return THEIRS.written()


@pytest.mark.parametrize("is_public_genuine", [True, False])
def test_a_forged_index_is_not_described(
    liar: Liar, bench: Bench, host: Unprotected, *, is_public_genuine: bool
) -> None:
    theirs = their_index(host)
    public = ORDINARY if is_public_genuine else theirs
    carry = forging(liar, CommandCode.NV_READ_PUBLIC, of_index(public, theirs.entity.name))
    with connected(carry, bench.enrolment) as road, pytest.raises(TpmTamperedError):
        Nv(road).describe(ORDINARY.index)


def test_another_index_does_not_answer_for_ours(
    liar: Liar, bench: Bench, host: Unprotected
) -> None:
    """The gap of libtss2: with a value that everybody knows, the MAC of the wrong index is good."""
    theirs, empty = their_index(host), known_secret(b"\0")

    def redirect(command: bytes) -> bytes:
        return liar.raw(command.replace(u32(ORDINARY.index), u32(theirs.index)))

    with connected(redirect, bench.enrolment) as road:
        for auth in (bench.auth, empty):
            with pytest.raises(TpmError):
                Nv(road).read(ORDINARY, auth, len(DATA))
        with pytest.raises(TpmTamperedError):
            Nv(road).describe(ORDINARY.index)


def test_an_index_that_was_made_anew_does_not_know_our_value(
    liar: Liar, bench: Bench, host: Unprotected
) -> None:
    """It has the same Name, and the host knows its value: ours is what it lacks."""
    nv = Nv(host)
    nv.undefine(ORDINARY)
    again = NvPublic.ordinary(ORDINARY.index, len(DATA))
    nv.define(again, b"known to the host")
    nv.write(again, THEIR_DATA, b"known to the host")
    assert nv.describe(ORDINARY.index) == ORDINARY
    with connected(liar.raw, bench.enrolment) as road:
        with pytest.raises(TpmError, match="bad auth"):
            Nv(road).read(ORDINARY, bench.auth, len(DATA))
        with pytest.raises(TpmError, match="bad auth"):
            Nv(road).write(ORDINARY, bench.data, bench.auth)


def test_the_host_opens_no_sealed_data(liar: Liar, bench: Bench, host: Unprotected) -> None:
    """Without the authorization value, neither alone nor in our place."""
    objects, root = Objects(host), bench.enrolment.storage_root
    for blob in (bench.sealed, bench.sealed_under_policy):
        with objects.load(root, blob) as loaded:
            for auth in (None, b"", b"guess"):
                with pytest.raises(TpmError, match=r"bad auth|auth unavailable|0x12f"):
                    objects.unseal(loaded, auth)

    def without_encryption(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") != CommandCode.UNSEAL:
            return liar.raw(command)
        # handle, size, session, nonce; then the attributes.
        place = 14 + 4 + 4 + 2 + 32
        assert command[place] & 0x40
        return liar.raw(command[:place] + bytes([command[place] & ~0x40]) + command[place + 1 :])

    with connected(without_encryption, bench.enrolment) as road:
        mine = Objects(road)
        with mine.load(root, bench.sealed) as loaded, pytest.raises(TpmError):
            mine.unseal(loaded, bench.auth)


def test_another_blob_is_not_taken_for_ours(liar: Liar, bench: Bench, host: Unprotected) -> None:
    """Nothing in a blob says whose it is: its public area is what is known of it."""
    objects, root = Objects(host), bench.enrolment.storage_root
    theirs = objects.seal(root, b"their secret", auth=b"known")
    swapped = dataclasses.replace(bench.sealed, private=theirs.private)
    with connected(liar.raw, bench.enrolment) as road:
        mine = Objects(road)
        with pytest.raises(TpmError, match="integrity"), mine.load(root, swapped):
            pass
        with mine.load(root, theirs) as loaded, pytest.raises(TpmError, match="bad auth"):
            mine.unseal(loaded, known_secret(AUTH))


def test_a_tpm_in_software_of_the_host_is_not_believed(liar: Liar, bench: Bench) -> None:
    """It has no key of the real one: it cannot answer a single command."""

    def made_up(command: bytes) -> bytes:
        if int.from_bytes(command[6:10], "big") == CommandCode.START_AUTH_SESSION:
            body = u32(0x02000000) + sized(bytes(32))
            return u16(0x8001) + u32(10 + len(body)) + u32(0) + body
        return liar.raw(command)

    with pytest.raises(TpmChangedError), connected(made_up, bench.enrolment):
        pass
    with connected(liar.raw, bench.enrolment) as road:
        assert Device(road).random(8).length_bytes == 8

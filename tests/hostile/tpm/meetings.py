# SPDX-License-Identifier: Apache-2.0
"""A TPM that is met for the first time, again and again, and what may come of a lie about it.

Whoever carries the bytes at the first meeting can bring a TPM of its own: without a certificate
that is trust on first use. What it cannot do is mix the two. Either the endorsement key is another
one than the true TPM's, and no certificate of that one is of it; or everything that was learned is
the true TPM's own.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.errors import TpmError
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    OWNER,
    Attestation,
    Device,
    Key,
    Objects,
    PcrSelection,
    storage_root_template,
)
from strongroom.tpm.enrolment import Enrolled, attestation_auth, connected, enrol
from strongroom.tpm.wire import Transmit
from tests.honest import known_secret
from tests.hostile.tpm.liar import Carried, Liar

PERSISTENT: Final = 0x81000000
_LOCK_RESET: Final = bytes.fromhex("8002 0000001b 00000139 4000000a 00000009 40000009 0000 01 0000")
"""``DictionaryAttackLockReset`` with the empty password: an endorsement key on P-384 counts."""
PCRS: Final = PcrSelection.of([0])


@dataclass
class Outcomes:
    """How meetings ended."""

    counts: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        said = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return f"{sum(self.counts.values())} cases: {said}"


class Meetings:
    """Meetings of one TPM, each from the same state of it.

    Attributes:
        honest: What comes of it if nobody lies.
        carried: What is said then.
    """

    def __init__(self, liar: Liar, *, keep_root: bool) -> None:
        self._liar = liar
        self._auth = known_secret(b"of the attestation key, 32 bytes")
        with Objects(Unprotected(liar.raw)).primary(OWNER, storage_root_template()) as made:
            self._root_of_template = made.public
        self._kept = set(persistent(liar))
        if keep_root:
            self._kept.add(self.meet(liar.raw).enrolment.storage_root.handle)
            self.reset()
        liar.arm(None)
        self.honest = self.meet(liar.transmit)
        self.carried: list[Carried] = liar.carried
        self.reset()

    def meet(self, transmit: Transmit) -> Enrolled:
        """Meet the TPM by any way to it."""
        return enrol(transmit, self._auth)

    def judge(self, transmit: Transmit, outcomes: Outcomes) -> None:
        """Meet the TPM by a way on which somebody lies: see the head of this file."""
        try:
            met = self.meet(transmit)
        except TpmError as err:
            outcomes.counts[type(err).__name__] += 1
        else:
            is_stranger = met.enrolment.endorsement != self.honest.enrolment.endorsement
            outcomes.counts["another endorsement key" if is_stranger else "harmless"] += 1
            if is_stranger:
                assert not self._is_vouched_for(met)
            else:
                self._check_genuine(met)
        self.reset()

    def reset(self) -> None:
        """Bring the TPM back to where it was before it was met."""
        self._liar.disarm()
        restore(self._liar, self._kept)

    def _is_vouched_for(self, met: Enrolled) -> bool:
        """Tell whether the true TPM's certificate, or its own word, is of this key."""
        vouched = [self.honest.enrolment.endorsement.key()]
        if self.honest.certificate:
            key = x509.load_der_x509_certificate(self.honest.certificate).public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            numbers = key.public_numbers()
            assert vouched[0].numbers == (numbers.x, numbers.y)
        return met.enrolment.endorsement.key() in vouched

    def _check_genuine(self, met: Enrolled) -> None:
        """Make sure that the keys are the true TPM's, and one of them signs there for us only."""
        found, true = met.enrolment, self.honest.enrolment
        assert met.certificate == self.honest.certificate
        # Who lies about a key that was found has another one made, which is as good.
        assert found.storage_root.public in {true.storage_root.public, self._root_of_template}
        self._liar.tidy()
        key = found.attestation
        assert Objects(Unprotected(self._liar.raw)).describe(key.handle) == key.public
        with connected(self._liar.raw, found) as road:
            auth = attestation_auth(self._auth, found.endorsement)
            quote = Attestation(road).quote(key, auth, PCRS, b"who")
            assert quote.pcr_digest == PCRS.digest_of(Device(road).read_pcrs(PCRS))
        x, y = key.public.key().numbers
        signature = encode_dss_signature(quote.signature.r, quote.signature.s)
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        public.verify(signature, quote.attested, ec.ECDSA(hashes.SHA256()))


def persistent(liar: Liar) -> tuple[int, ...]:
    return Device(Unprotected(liar.raw)).handles(PERSISTENT)


def restore(liar: Liar, kept: Collection[int]) -> None:
    """Leave nothing in a TPM but what is to be kept, and no count of wrong authorizations."""
    liar.tidy()
    assert liar.raw(_LOCK_RESET)[6:10] == bytes(4)
    objects = Objects(Unprotected(liar.raw))
    for handle in persistent(liar):
        if handle not in kept:
            objects.forget(Key(handle, objects.describe(handle)))

# SPDX-License-Identifier: Apache-2.0
"""Record what swtpm answers to every command of the allow-list.

Writes ``traffic.txt``: a line for each exchange, with a name, the command and the response in
hexadecimal. The commands come from libtss2, so neither side of the conversation is ours. Run it
as ``python -m rust.tpm.testdata.record`` with the packages swtpm and libtss2-dev; every run makes
other keys, nonces and times. The TPM lives in a temporary directory; no secret in it is one.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_CC,
    TPM2_EO,
    TPM2_HT,
    TPM2_NT,
    TPM2_SE,
    TPM2_SU,
    TPM2B_NV_PUBLIC,
    TPM2B_OPERAND,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMA_OBJECT,
    TPMA_SESSION,
    TPML_DIGEST,
    TPML_DIGEST_VALUES,
    TPMS_NV_PUBLIC,
    TPMS_SENSITIVE_CREATE,
    TPMT_HA,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMU_HA,
    TSS2_Exception,
)
from tpm2_pytss.utils import make_credential

from tests.hostile.tpm.simulator import Transmit, Wire, simulator

BETWEEN: Final = "between"
"""The name of what is not kept: commands that only prepare others."""
HERE: Final = Path(__file__).parent
STORAGE: Final = (
    TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.DECRYPT
    | TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.USERWITHAUTH
    | TPMA_OBJECT.NODA
)
SIGNING: Final = STORAGE & ~TPMA_OBJECT.DECRYPT | TPMA_OBJECT.SIGN_ENCRYPT
SEALED: Final = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.USERWITHAUTH
CONTINUE: Final = TPMA_SESSION.CONTINUESESSION
ENCRYPT: Final = CONTINUE | TPMA_SESSION.ENCRYPT
DECRYPT: Final = CONTINUE | TPMA_SESSION.DECRYPT
AUDIT: Final = CONTINUE | TPMA_SESSION.AUDIT
ANY_SCHEME: Final = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
PCRS: Final = "sha1:0,7+sha256:0,7,16"
AES: Final = TPMT_SYM_DEF.parse("aes128cfb")


class Recorder:
    """Names and keeps what goes over the wire."""

    def __init__(self, transmit: Transmit) -> None:
        self._transmit = transmit
        self.lines: list[str] = []
        self.name = "startup"

    def carry(self, command: bytes) -> bytes:
        """Carry one exchange."""
        response = self._transmit(command)
        if self.name != BETWEEN:
            self.lines.append(f"{self.name} {command.hex()} {response.hex()}\n")
        return response

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Name what follows."""
        self.name = name
        yield
        self.name = BETWEEN


class Scene:
    """A TPM, a storage key, an encrypting session, and recordings of what is done with them."""

    def __init__(self, recorder: Recorder, tpm: ESAPI) -> None:
        self.recorder, self.tpm = recorder, tpm
        self.named = recorder.named
        self.storage, self.storage_public = ESYS_TR.NONE, TPM2B_PUBLIC()
        self.session = ESYS_TR.NONE

    def use(self, attributes: TPMA_SESSION) -> ESYS_TR:
        """Set what the session does for the next command."""
        self.tpm.trsess_set_attributes(self.session, attributes, 0xFF)
        return self.session

    @contextlib.contextmanager
    def policy(self, kind: TPM2_SE = TPM2_SE.POLICY) -> Iterator[ESYS_TR]:
        """Start a salted policy session; flush it afterwards."""
        with self.named("policy-session"):
            session = self.tpm.start_auth_session(
                self.storage, ESYS_TR.NONE, kind, AES, TPM2_ALG.SHA256
            )
        yield session
        with self.named("flush-session"):
            self.tpm.flush_context(session)

    def without_sessions(self) -> None:
        """Ask what anybody may ask."""
        self.tpm.startup(TPM2_SU.CLEAR)
        with self.named("self-test"):
            self.tpm.self_test(full_test=True)
        with self.named("test-result"):
            self.tpm.get_test_result()
        with self.named("random"):
            self.tpm.get_random(32)
        with self.named("stir"):
            self.tpm.stir_random(b"stirred")
        with self.named("clock"):
            self.tpm.read_clock()
        with self.named("pcr-read"):
            self.tpm.pcr_read(PCRS)
        with self.named("refused"), contextlib.suppress(TSS2_Exception):
            self.tpm.get_capability(TPM2_CAP.VENDOR_PROPERTY, 0, 1)

    def capabilities(self) -> None:
        """Ask for every capability."""
        for capability, first in [
            (TPM2_CAP.ALGS, 0),
            (TPM2_CAP.HANDLES, TPM2_HT.PERMANENT << 24),
            (TPM2_CAP.HANDLES, TPM2_HT.TRANSIENT << 24),
            (TPM2_CAP.COMMANDS, 0),
            (TPM2_CAP.PP_COMMANDS, 0),
            (TPM2_CAP.AUDIT_COMMANDS, 0),
            (TPM2_CAP.PCRS, 0),
            (TPM2_CAP.TPM_PROPERTIES, 0x100),
            (TPM2_CAP.TPM_PROPERTIES, 0x200),
            (TPM2_CAP.PCR_PROPERTIES, 0),
            (TPM2_CAP.ECC_CURVES, 0),
            (TPM2_CAP.AUTH_POLICIES, 0x40000000),
        ]:
            with self.named("capability"):
                self.tpm.get_capability(capability, first, 64)

    def keys(self) -> None:
        """Make the storage key and the session."""
        with self.named("primary-ecc"):
            public = TPM2B_PUBLIC(TPMT_PUBLIC.parse("ecc:aes128cfb", objectAttributes=STORAGE))
            made = self.tpm.create_primary(None, public)
            self.storage, self.storage_public = made[0], made[1]
        with self.named("session"):
            self.session = self.tpm.start_auth_session(
                self.storage, ESYS_TR.NONE, TPM2_SE.HMAC, AES, TPM2_ALG.SHA256
            )
        with self.named("primary-rsa-encrypted-twice"):
            public = TPM2B_PUBLIC(TPMT_PUBLIC.parse("rsa2048:aes128cfb", objectAttributes=STORAGE))
            both = self.use(ENCRYPT | DECRYPT)
            rsa = self.tpm.create_primary(None, public, ESYS_TR.ENDORSEMENT, session2=both)[0]
        with self.named("flush-object"):
            self.tpm.flush_context(rsa)
        with self.named("read-public"):
            self.tpm.read_public(self.storage)
        with self.named("read-public-encrypted"):
            self.tpm.read_public(self.storage, session1=self.use(ENCRYPT))
        with self.named("evict"):
            kept = self.tpm.evict_control(ESYS_TR.OWNER, self.storage, 0x81000001)
        with self.named("evict-again"):
            self.tpm.evict_control(ESYS_TR.OWNER, kept, 0x81000001)

    def in_session(self) -> None:
        """Ask in an HMAC session, encrypted or audited, what is there without it too."""
        with self.named("random-encrypted"):
            self.tpm.get_random(32, session1=self.use(ENCRYPT))
        with self.named("stir-encrypted"):
            self.tpm.stir_random(b"stirred", session1=self.use(DECRYPT))
        with self.named("clock-audited"):
            self.tpm.read_clock(session1=self.use(AUDIT))
        with self.named("pcr-read-audited"):
            self.tpm.pcr_read(PCRS, session1=self.use(AUDIT))
        with self.named("capability-audited"):
            self.tpm.get_capability(TPM2_CAP.HANDLES, 0x81000000, 8, session1=self.use(AUDIT))
        with self.named("test-result-audited"):
            self.tpm.get_test_result(session1=self.use(AUDIT))
        digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))
        with self.named("extend"):
            self.tpm.pcr_extend(ESYS_TR(16), TPML_DIGEST_VALUES([digest]))
        with self.named("extend-audited"):
            values = TPML_DIGEST_VALUES([digest])
            self.tpm.pcr_extend(ESYS_TR(16), values, session2=self.use(AUDIT))

    def non_volatile(self) -> None:
        """Define, write, read, certify and remove indexes."""
        attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA
        plain = self._index(0x01800001, attributes, 16)
        counter = self._index(0x01800002, attributes | TPMA_NV(TPM2_NT.COUNTER << 4), 8)
        for name, session in [("", ESYS_TR.PASSWORD), ("-in-session", self.session)]:
            self.use(CONTINUE)
            with self.named(f"nv-write{name}"):
                self.tpm.nv_write(plain, b"sixteen bytes ..", session1=session)
            with self.named(f"nv-increment{name}"):
                self.tpm.nv_increment(counter, session1=session)
            with self.named(f"nv-read{name}"):
                self.tpm.nv_read(plain, 16, session1=session)
            with self.named(f"nv-read-counter{name}"):
                self.tpm.nv_read(counter, 8, session1=session)
        with self.named("nv-write-encrypted"):
            self.tpm.nv_write(plain, b"sixteen bytes ..", session1=self.use(DECRYPT))
        with self.named("nv-read-encrypted"):
            self.tpm.nv_read(plain, 16, session1=self.use(ENCRYPT))
        with self.named("nv-public-audited"):
            self.tpm.nv_read_public(plain, session1=self.use(AUDIT))
        with self.policy() as policy, self.named("policy-nv"):
            operand = TPM2B_OPERAND((9).to_bytes(8))
            self.use(CONTINUE)
            self.tpm.policy_nv(
                counter, counter, policy, operand, TPM2_EO.UNSIGNED_LE, session1=self.session
            )
        self._certified(counter)
        with self.named("nv-undefine"):
            self.tpm.nv_undefine_space(plain)

    def _index(self, handle: int, attributes: TPMA_NV, size: int) -> ESYS_TR:
        public = TPMS_NV_PUBLIC(
            nvIndex=handle, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=size
        )
        with self.named("nv-define"):
            session = self.use(DECRYPT)
            index = self.tpm.nv_define_space(
                b"\x01" * 32, TPM2B_NV_PUBLIC(public), session2=session
            )
        self.tpm.tr_set_auth(index, b"\x01" * 32)
        return index

    def _certified(self, counter: ESYS_TR) -> None:
        with self.named("primary-signing"):
            template = TPMT_PUBLIC.parse("ecc:ecdsa-sha256:null", objectAttributes=SIGNING)
            signer = self.tpm.create_primary(None, TPM2B_PUBLIC(template), ESYS_TR.ENDORSEMENT)[0]
        with self.named("quote"):
            self.tpm.quote(signer, PCRS, b"nonce")
        with self.named("quote-encrypted"):
            self.tpm.quote(signer, PCRS, b"nonce", session2=self.use(ENCRYPT | DECRYPT))
        with self.named("certify"):
            self.tpm.certify(self.storage, signer, b"nonce", ANY_SCHEME)
        with self.named("time"):
            self.tpm.get_time(signer, b"nonce")
        with self.named("nv-certify"):
            self.tpm.nv_certify(signer, counter, b"nonce", ANY_SCHEME, 8)
        with self.named("flush-object"):
            self.tpm.flush_context(signer)

    def sealing(self) -> None:
        """Seal and unseal under a policy."""
        sensitive = TPM2B_SENSITIVE_CREATE(
            TPMS_SENSITIVE_CREATE(userAuth=b"\x02" * 32, data=b"sealed")
        )
        public = TPM2B_PUBLIC(TPMT_PUBLIC.parse("keyedhash", objectAttributes=SEALED))
        with self.named("create"):
            session = self.use(DECRYPT)
            private, made = self.tpm.create(self.storage, sensitive, public, session2=session)[:2]
        with self.named("load"):
            session = self.use(ENCRYPT | DECRYPT)
            item = self.tpm.load(self.storage, private, made, session2=session)
        self.tpm.tr_set_auth(item, b"\x02" * 32)
        with self.named("unseal"):
            self.tpm.unseal(item)
        with self.named("unseal-encrypted"):
            self.tpm.unseal(item, session1=self.use(ENCRYPT))
        with self.named("flush-object"):
            self.tpm.flush_context(item)

    def policies(self) -> None:
        """Send every policy command that needs no key."""
        tpm = self.tpm
        with self.policy() as policy:
            with self.named("policy-pcr"):
                tpm.policy_pcr(policy, None, PCRS)
            with self.named("policy-auth-value"):
                tpm.policy_auth_value(policy)
            with self.named("policy-digest"):
                tpm.policy_get_digest(policy)
            with self.named("policy-digest-encrypted"):
                digest = tpm.policy_get_digest(policy, session1=self.use(ENCRYPT))
            with self.named("policy-restart"):
                tpm.policy_restart(policy)
            with self.named("policy-command-code"):
                tpm.policy_command_code(policy, TPM2_CC.Unseal)
            with self.named("policy-secret"):
                tpm.policy_secret(ESYS_TR.ENDORSEMENT, policy, expiration=0)
            with self.named("policy-secret-ticket"):
                tpm.policy_secret(ESYS_TR.OWNER, policy, expiration=-60)
        with self.policy(TPM2_SE.TRIAL) as trial, self.named("policy-or"):
            tpm.policy_or(trial, TPML_DIGEST([bytes(digest), bytes(32)]))

    def signatures(self) -> None:
        """Verify signatures of both kinds of key, and use them in policies."""
        for kind in ("ecc:ecdsa-sha256:null", "rsa2048:rsapss-sha256:null"):
            free = SIGNING & ~TPMA_OBJECT.RESTRICTED
            template = TPMT_PUBLIC.parse(kind, objectAttributes=free)
            key, public = self.tpm.create_primary(None, TPM2B_PUBLIC(template))[:2]
            with self.named("load-external"):
                verifier = self.tpm.load_external(public, hierarchy=ESYS_TR.OWNER)
            approved, reference = hashlib.sha256(b"approved").digest(), b"volume"
            digest = hashlib.sha256(approved + reference).digest()
            signature = self.tpm.sign(key, digest, ANY_SCHEME)
            with self.named("verify"):
                ticket = self.tpm.verify_signature(verifier, digest, signature)
            with self.policy(TPM2_SE.TRIAL) as trial, self.named("policy-authorize"):
                name = public.get_name()
                self.tpm.policy_authorize(trial, approved, name, ticket, reference)
            with self.policy() as policy:
                nonce = self.tpm.trsess_get_nonce_tpm(policy)
                expiration = (-60).to_bytes(4, signed=True)
                digest = hashlib.sha256(bytes(nonce) + expiration + reference).digest()
                signature = self.tpm.sign(key, digest, ANY_SCHEME)
                with self.named("policy-signed"):
                    self.tpm.policy_signed(
                        verifier,
                        policy,
                        signature,
                        nonce_tpm=nonce,
                        policy_ref=reference,
                        expiration=-60,
                    )
            self.tpm.flush_context(verifier)
            self.tpm.flush_context(key)

    def credential(self) -> None:
        """Activate a credential."""
        identity, secret = make_credential(
            self.storage_public, b"credential", self.storage_public.get_name()
        )
        with self.named("activate"):
            self.tpm.activate_credential(self.storage, self.storage, identity, secret)
        with self.named("activate-encrypted"):
            self.tpm.activate_credential(
                self.storage, self.storage, identity, secret, session3=self.use(ENCRYPT)
            )


def record() -> list[str]:
    """Return the lines of a new recording."""
    with tempfile.TemporaryDirectory() as place, simulator(Path(place)) as transmit:
        recorder = Recorder(transmit)
        with ESAPI(Wire(recorder.carry)) as tpm:
            scene = Scene(recorder, tpm)
            for act in (
                scene.without_sessions,
                scene.capabilities,
                scene.keys,
                scene.in_session,
                scene.non_volatile,
                scene.sealing,
                scene.policies,
                scene.signatures,
                scene.credential,
            ):
                act()
    return recorder.lines


if __name__ == "__main__":
    (HERE / "traffic.txt").write_text("".join(dict.fromkeys(record())))

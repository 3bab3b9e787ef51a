# SPDX-License-Identifier: Apache-2.0
"""The operations of a TPM, done by an enclave: what the host carries of them, it cannot read."""

from typing import TypeVar

from strongroom import values
from strongroom._core import HpkeReceiver
from strongroom.boundary import calls, tpm_calls
from strongroom.boundary.calls import Call, Purpose, Sealed, Terms
from strongroom.boundary.sealed import BLANK, TPM_ANSWER_INFO, request_digest
from strongroom.errors import InternalError
from strongroom.host import attestation
from strongroom.host.contracts import TeeName
from strongroom.host.launch import EnclaveProcess
from strongroom.host.sealing import seal
from strongroom.host.tpm.results import (
    Auth,
    Bank,
    ClockResult,
    FactsResult,
    NvKind,
    NvResult,
    QuoteResult,
    SealedResult,
    SecretSource,
    Span,
)

ResultT = TypeVar("ResultT")

_LOCKOUT_COUNTER, _MAX_AUTH_FAIL = 0x20E, 0x20F


class InEnclave:
    """A TPM that an enclave uses."""

    def __init__(self, enclave: EnclaveProcess, tee: TeeName, *, is_enrolled: bool) -> None:
        """Use the TPM that the enclave knows; only for an enrolled one it derives values."""
        self._enclave = enclave
        self._tee = tee
        self._is_enrolled = is_enrolled

    @property
    def has_own_auth(self) -> bool:
        """See :class:`Tpm`."""
        return self._is_enrolled

    def facts(self) -> FactsResult:
        """See :class:`Tpm`."""
        found = self._enclave.call(tpm_calls.ReadTpmFacts())
        properties = {item.number: item.value for item in found.properties}
        return facts_result(
            (found.family, found.manufacturer, found.vendor, found.firmware),
            found.revision,
            properties,
        )

    def clock(self) -> ClockResult:
        """See :class:`Tpm`."""
        clock = self._enclave.call(tpm_calls.ReadTpmClock())
        return ClockResult(
            clock.time_milliseconds,
            clock.clock_milliseconds,
            clock.reset_count,
            clock.restart_count,
            clock.is_safe,
        )

    def random(self, size_bytes: int, output_fd: int) -> None:
        """See :class:`Tpm`."""
        receiver = HpkeReceiver()
        request = tpm_calls.DrawRandom(size_bytes, receiver.public_key)
        _deliver(receiver, self._enclave.call(request), output_fd)

    def read_pcrs(self, bank: Bank, pcrs: tuple[int, ...]) -> dict[int, str]:
        """See :class:`Tpm`."""
        found = self._enclave.call(tpm_calls.ReadPcrs(bank, pcrs))
        return {item.pcr: item.value.hex() for item in found.values}

    def extend_pcr(self, pcr: int, bank: Bank, digest: bytes) -> None:
        """See :class:`Tpm`."""
        self._enclave.call(tpm_calls.ExtendPcr(pcr, bank, digest))

    def list_nv(self) -> tuple[NvResult, ...]:
        """See :class:`Tpm`."""
        return tuple(_nv(item) for item in self._enclave.call(tpm_calls.ListNv()).indexes)

    def define_nv(self, index: int, kind: NvKind, size_bytes: int, auth: Auth) -> NvResult:
        """See :class:`Tpm`."""
        request = tpm_calls.DefineNv(index, kind, size_bytes, auth.protection, _blank(auth))
        return _nv(self._asked(request, auth=auth))

    def undefine_nv(self, index: int) -> None:
        """See :class:`Tpm`."""
        self._enclave.call(tpm_calls.UndefineNv(index))

    def write_nv(self, index: int, offset: int, data: SecretSource, auth: Auth) -> None:
        """See :class:`Tpm`."""
        request = tpm_calls.WriteNv(index, offset, BLANK, auth.protection, _blank(auth))
        self._asked(request, auth=auth, data=data)

    def read_nv(self, index: int, span: Span, auth: Auth, output_fd: int) -> None:
        """See :class:`Tpm`."""
        receiver = HpkeReceiver()
        offset, size = span.offset_bytes, span.size_bytes
        request = tpm_calls.ReadNv(
            index, offset, size, auth.protection, _blank(auth), receiver.public_key
        )
        _deliver(receiver, self._asked(request, auth=auth), output_fd)

    def increment_nv(self, index: int, auth: Auth) -> int:
        """See :class:`Tpm`."""
        request = tpm_calls.IncrementNv(index, auth.protection, _blank(auth))
        return self._asked(request, auth=auth).value

    def read_counter(self, index: int, auth: Auth) -> int:
        """See :class:`Tpm`."""
        request = tpm_calls.ReadCounter(index, auth.protection, _blank(auth))
        return self._asked(request, auth=auth).value

    def seal(
        self, data: SecretSource, auth: Auth, bank: Bank, pcrs: tuple[int, ...]
    ) -> SealedResult:
        """See :class:`Tpm`."""
        request = tpm_calls.SealToTpm(BLANK, auth.protection, _blank(auth), bank, pcrs)
        made = self._asked(request, auth=auth, data=data)
        return SealedResult(made.public.hex(), made.private.hex(), bank, pcrs, auth.protection)

    def unseal(self, sealed: SealedResult, auth: Auth, output_fd: int) -> None:
        """See :class:`Tpm`."""
        receiver = HpkeReceiver()
        blob = tpm_calls.SealedObject(bytes.fromhex(sealed.public), bytes.fromhex(sealed.private))
        request = tpm_calls.UnsealFromTpm(
            blob, auth.protection, _blank(auth), sealed.bank, sealed.pcrs, receiver.public_key
        )
        _deliver(receiver, self._asked(request, auth=auth), output_fd)

    def quote(self, bank: Bank, pcrs: tuple[int, ...], qualifying_data: bytes) -> QuoteResult:
        """See :class:`Tpm`."""
        quote = self._enclave.call(tpm_calls.QuotePcrs(bank, pcrs, qualifying_data))
        return QuoteResult(
            attested=quote.attested.hex(),
            signature=quote.signature.hex(),
            signer=quote.signer.public.hex(),
            bank=bank,
            pcrs={str(item.pcr): item.value.hex() for item in quote.values},
        )

    def _asked(
        self, request: Call[ResultT], *, auth: Auth, data: SecretSource | None = None
    ) -> ResultT:
        """Make a call with its secrets, each sealed for this very call."""
        secrets: dict[str, Sealed] = {}
        if auth.source is not None:
            secrets["auth"] = self._sealed("tpm auth", auth.source, "Authorization value", request)
        if data is not None:
            secrets["data"] = self._sealed("tpm data", data, "Data", request)
        return self._enclave.call(values.replace(request, **secrets))  # type: ignore[type-var]

    def _sealed(
        self, purpose: Purpose, source: SecretSource, prompt: str, request: Call[object]
    ) -> Sealed:
        recipient = self._enclave.call(calls.NewRecipient(purpose))
        # Who asks is checked before anybody is asked.
        attested = attestation.check(
            recipient.report, purpose, recipient.public_key, tee=self._tee, known=None
        )
        for notice in attested.notices:
            self._enclave.report.notice(notice)
        secret = source.read(prompt, confirm=False)
        terms = Terms(request=request_digest(request))
        return seal(secret, recipient.public_key, purpose, terms)


def facts_result(
    texts: tuple[str, str, str, str], revision: int, properties: dict[int, int]
) -> FactsResult:
    """Return what is told of a TPM."""
    family, manufacturer, vendor, firmware = texts
    return FactsResult(
        family=family,
        revision=f"{revision / 100:.2f}",
        manufacturer=manufacturer,
        vendor=vendor,
        firmware=firmware,
        lockout_counter=properties.get(_LOCKOUT_COUNTER, 0),
        lockout_limit=properties.get(_MAX_AUTH_FAIL, 0),
        properties={f"{number:#x}": value for number, value in sorted(properties.items())},
    )


def _blank(auth: Auth) -> Sealed | None:
    if (auth.protection == "password") != (auth.source is not None):
        raise InternalError("an authorization value needs a source, and nothing else has one")
    return BLANK if auth.source is not None else None


def _deliver(receiver: HpkeReceiver, reply: tpm_calls.TpmReply, output_fd: int) -> None:
    receiver.open_to_fd(
        reply.encapsulated_key,
        reply.ciphertext,
        info=TPM_ANSWER_INFO,
        aad=receiver.public_key,
        fd=output_fd,
        ending=b"",
    )


def _nv(facts: tpm_calls.NvFacts) -> NvResult:
    return NvResult(
        index=f"{facts.index:#010x}",
        name=facts.name.hex(),
        hash=facts.name_algorithm,
        type=facts.type,
        attributes=facts.attributes,
        policy=facts.policy.hex(),
        size_bytes=facts.size_bytes,
    )

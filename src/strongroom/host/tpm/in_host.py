# SPDX-License-Identifier: Apache-2.0
"""The same operations, done by the host without an enclave: for comparison, and not protected.

Whoever carries the bytes reads every secret in them, and what comes back is believed.
"""

import os
from typing import Final

from strongroom.errors import UsageError
from strongroom.host.tpm.in_enclave import facts_result
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
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Attestation,
    Blob,
    Device,
    Nv,
    NvPublic,
    Objects,
    PcrSelection,
    PublicArea,
    attestation_template,
    storage_root_template,
)
from strongroom.tpm.algorithms import algorithm_name
from strongroom.tpm.attestation import encode_signature
from strongroom.tpm.device import MOST_RANDOM_BYTES
from strongroom.tpm.nv import MOST_BYTES_AT_ONCE, attribute_names, check_range, type_name
from strongroom.tpm.pcr_sealing import PcrSealing
from strongroom.tpm.pcrs import BANKS

_NV_FIRST: Final = 0x01000000


class InHost:
    """A TPM that the host itself uses."""

    def __init__(self, road: Unprotected) -> None:
        self._road = road
        self._device = Device(road)
        self._nv = Nv(road)
        self._objects = Objects(road)

    @property
    def has_own_auth(self) -> bool:
        """See :class:`Tpm`."""
        return False

    def facts(self) -> FactsResult:
        """See :class:`Tpm`."""
        found = self._device.capabilities()
        return facts_result(
            (found.family, found.manufacturer, found.vendor, found.firmware),
            found.revision,
            found.properties,
        )

    def clock(self) -> ClockResult:
        """See :class:`Tpm`."""
        clock = self._device.clock()
        return ClockResult(
            clock.time_milliseconds,
            clock.clock_milliseconds,
            clock.reset_count,
            clock.restart_count,
            clock.is_safe,
        )

    def random(self, size_bytes: int, output_fd: int) -> None:
        """See :class:`Tpm`."""
        while size_bytes:
            drawn = self._device.random(min(size_bytes, MOST_RANDOM_BYTES))
            size_bytes -= len(drawn)
            _write(output_fd, drawn)

    def read_pcrs(self, bank: Bank, pcrs: tuple[int, ...]) -> dict[int, str]:
        """See :class:`Tpm`."""
        values = self._device.read_pcrs(PcrSelection.of(pcrs, BANKS[bank]))
        return {pcr: value.hex() for pcr, value in values.items()}

    def extend_pcr(self, pcr: int, bank: Bank, digest: bytes) -> None:
        """See :class:`Tpm`."""
        self._device.extend_pcr(pcr, digest, BANKS[bank])

    def list_nv(self) -> tuple[NvResult, ...]:
        """See :class:`Tpm`."""
        return tuple(_nv(self._nv.describe(index)) for index in self._device.handles(_NV_FIRST))

    def define_nv(self, index: int, kind: NvKind, size_bytes: int, auth: Auth) -> NvResult:
        """See :class:`Tpm`."""
        if kind == "counter":
            public = NvPublic.counter(index)
        else:
            public = NvPublic.ordinary(index, size_bytes)
        if auth.protection == "password":
            public = public.counting_guesses()
        self._nv.define(public, _value(auth))
        return _nv(public)

    def undefine_nv(self, index: int) -> None:
        """See :class:`Tpm`."""
        self._nv.undefine(self._nv.describe(index))

    def write_nv(self, index: int, offset: int, data: SecretSource, auth: Auth) -> None:
        """See :class:`Tpm`."""
        content, value, public = data.read_open(), _value(auth), self._nv.describe(index)
        check_range(public, offset, len(content))
        for at in range(0, len(content), MOST_BYTES_AT_ONCE):
            piece = content[at : at + MOST_BYTES_AT_ONCE]
            self._nv.write(public, piece, value, offset=offset + at)

    def read_nv(self, index: int, span: Span, auth: Auth, output_fd: int) -> None:
        """See :class:`Tpm`."""
        value, public = _value(auth), self._nv.describe(index)
        size = span.size_bytes or public.size_bytes - span.offset_bytes
        check_range(public, span.offset_bytes, size)
        for at in range(0, size, MOST_BYTES_AT_ONCE):
            length = min(MOST_BYTES_AT_ONCE, size - at)
            _write(output_fd, self._nv.read(public, value, length, span.offset_bytes + at))

    def increment_nv(self, index: int, auth: Auth) -> int:
        """See :class:`Tpm`."""
        public, value = self._nv.describe(index), _value(auth)
        self._nv.increment(public, value)
        return self._nv.count(public, value)

    def read_counter(self, index: int, auth: Auth) -> int:
        """See :class:`Tpm`."""
        return self._nv.count(self._nv.describe(index), _value(auth))

    def seal(
        self, data: SecretSource, auth: Auth, bank: Bank, pcrs: tuple[int, ...]
    ) -> SealedResult:
        """See :class:`Tpm`."""
        selection, content = PcrSelection.of(pcrs, BANKS[bank]), data.read_open()
        with self._objects.primary(OWNER, storage_root_template()) as root:
            counts_guesses = auth.protection == "password"
            blob = PcrSealing(self._road, root).seal(
                content, _value(auth), selection, counts_guesses=counts_guesses
            )
        public, private = blob.public.wire.hex(), blob.private.hex()
        return SealedResult(public, private, bank, pcrs, auth.protection)

    def unseal(self, sealed: SealedResult, auth: Auth, output_fd: int) -> None:
        """See :class:`Tpm`."""
        blob = Blob(PublicArea(bytes.fromhex(sealed.public)), bytes.fromhex(sealed.private))
        selection, value = PcrSelection.of(sealed.pcrs, BANKS[sealed.bank]), _value(auth)
        with self._objects.primary(OWNER, storage_root_template()) as root:
            opened = PcrSealing(self._road, root).unseal(blob, value, selection)
        _write(output_fd, opened)

    def quote(self, bank: Bank, pcrs: tuple[int, ...], qualifying_data: bytes) -> QuoteResult:
        """See :class:`Tpm`. The key is one for this quote, which anybody else can have made too."""
        selection = PcrSelection.of(pcrs, BANKS[bank])
        with self._objects.primary(ENDORSEMENT, attestation_template()) as key:
            quote, values = Attestation(self._road).quote_with_values(
                key, None, selection, qualifying_data
            )
        return QuoteResult(
            attested=quote.attested.hex(),
            signature=encode_signature(quote.signature).hex(),
            signer=key.public.wire.hex(),
            bank=bank,
            pcrs={str(pcr): value.hex() for pcr, value in values.items()},
        )


def _value(auth: Auth) -> bytes | None:
    if auth.protection == "enclave":
        raise UsageError(
            "the host has no authorization value of the enclave's",
            hint="use --in enclave, or give a value with --auth-file",
        )
    return None if auth.source is None else auth.source.read_open()


def _write(output_fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(output_fd, content) :]


def _nv(public: NvPublic) -> NvResult:
    return NvResult(
        index=f"{public.index:#010x}",
        name=public.entity.name.hex(),
        hash=algorithm_name(public.name_algorithm),
        type=type_name(public.type),
        attributes=attribute_names(public.flags),
        policy=public.policy.hex(),
        size_bytes=public.size_bytes,
    )

# SPDX-License-Identifier: Apache-2.0
"""What the enclave does with its TPM, call by call.

The sessions stay open between calls, at most two of them. Before the first operation either an
enrolled TPM is recognised, or, if the host says that there is no enrolment, whichever answers is
taken: who asked for that is told so.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary import tpm_calls as calls
from strongroom.boundary.calls import Call, Done, Sealed
from strongroom.boundary.sealed import TPM_ANSWER_INFO
from strongroom.enclave.recipients import Recipients
from strongroom.enclave.tpm_records import (
    ATTESTATION_LABEL,
    derived_auth,
    open_record,
    seal_record,
)
from strongroom.errors import (
    BoundaryError,
    FormatError,
    SecurityVersionError,
    TpmChangedError,
    TpmError,
    TpmTransportError,
    UsageError,
)
from strongroom.tee.provider import Tee
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Attestation,
    Blob,
    Clock,
    Device,
    Key,
    KeyKind,
    Nv,
    NvPublic,
    Objects,
    PcrSelection,
    PublicArea,
    Sessions,
    endorsement_template,
    storage_root_template,
)
from strongroom.tpm.algorithms import algorithm_name
from strongroom.tpm.attestation import encode_signature
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.device import MOST_RANDOM_BYTES
from strongroom.tpm.enrolment import Enrolment, attestation_auth, connected, enrol, forget
from strongroom.tpm.nv import MOST_BYTES_AT_ONCE, attribute_names, check_range, type_name
from strongroom.tpm.pcr_sealing import PcrSealing
from strongroom.tpm.pcrs import BANKS
from strongroom.tpm.wire import Transmit

_NV_FIRST: Final = 0x01000000
_STIRRED_BYTES: Final = 32


class Carrying:
    """The way to the TPM, as long as there is one."""

    def __init__(self, transmit: Transmit) -> None:
        self._transmit = transmit
        self.ended = False

    def __call__(self, command: bytes) -> bytes:
        """Carry a command.

        Raises:
            TpmTransportError: It cannot be carried, or not any more.
            BoundaryError: The host broke the rules: nothing is said to it any more.
        """
        if self.ended:
            raise TpmTransportError("the enclave has no way to its TPM any more")
        try:
            return self._transmit(command)
        except BoundaryError:
            self.ended = True
            raise


class TpmOperations:
    """The TPM of one enclave, for the length of its life."""

    def __init__(self, transmit: Transmit, tee: Tee, recipients: Recipients) -> None:
        self._transmit = Carrying(transmit)
        self._tee = tee
        self._recipients = recipients
        self._open = contextlib.ExitStack()
        self._known: Sessions | None = None
        self._enrolment: Enrolment | None = None
        self._security_version = tee.identity.security_version

    def close(self) -> None:
        """Flush what is left in the TPM. Never raises: a TPM that is gone has nothing left."""
        self._known = None
        with contextlib.suppress(TpmError):
            self._open.close()

    def erase(self) -> None:
        """Forget the sessions, and say nothing more to the TPM: nobody may be there to carry it."""
        self._transmit.ended = True
        self.close()

    def answer(self, call: Call[object]) -> object:  # noqa: C901, PLR0911, PLR0912 - one case a call
        """Do what is asked.

        Raises:
            TpmError: The TPM refused, cannot be reached, was tampered with or changed.
            BoundaryError: The call is not allowed now.
        """
        match call:
            case calls.MeetTpm(earlier):
                return self._meet(earlier)
            case calls.KnowTpm(record):
                return self._know(record)
            case calls.ForgetTpm(record):
                forget(self._road, open_record(record, self._tee)[0])
                return Done()
            case calls.ReadTpmFacts():
                return self._facts()
            case calls.ReadTpmClock():
                return _clock(Device(self._road).clock())
            case calls.DrawRandom():
                return self._random(call)
            case calls.ReadPcrs(bank, pcrs):
                selection = PcrSelection.of(pcrs, BANKS[bank])
                return calls.PcrValues(_pcr_values(Device(self._road).read_pcrs(selection)))
            case calls.ExtendPcr(pcr, bank, digest):
                Device(self._road).extend_pcr(pcr, digest, BANKS[bank])
                return Done()
            case calls.SealToTpm() as seal:
                return self._seal(seal)
            case calls.UnsealFromTpm() as unseal:
                return self._unseal(unseal)
            case calls.QuotePcrs() as quote:
                return self._quote(quote)
            case _:
                return self._answer_nv(call)

    def _answer_nv(self, call: Call[object]) -> object:  # noqa: PLR0911 - one case a call
        nv = Nv(self._road)
        match call:
            case calls.ListNv():
                indexes = Device(self._road).handles(_NV_FIRST)
                return calls.NvIndexes(tuple(_nv_facts(nv.describe(index)) for index in indexes))
            case calls.DefineNv() as define:
                return self._define(nv, define)
            case calls.UndefineNv(index):
                nv.undefine(nv.describe(index))
                return Done()
            case calls.WriteNv() as write:
                self._write(nv, write)
                return Done()
            case calls.ReadNv() as read:
                return self._read(nv, read)
            case calls.IncrementNv(index, protection, sealed):
                auth = self._auth(call, protection, sealed, index)
                public = nv.describe(index)
                nv.increment(public, auth)
                return calls.Count(nv.count(public.written(), auth))
            case calls.ReadCounter(index, protection, sealed):
                auth = self._auth(call, protection, sealed, index)
                return calls.Count(nv.count(nv.describe(index), auth))
            case _:
                raise BoundaryError(f"{type(call).__name__} has no handler")

    # --- who it is --------------------------------------------------------------------------------

    @property
    def _road(self) -> Sessions:
        if self._known is None:
            raise BoundaryError("no TPM is known yet")
        return self._known

    def _enrolled(self) -> Enrolment:
        if self._enrolment is None:
            raise UsageError(
                "no TPM is enrolled, and this is for an enrolled one only",
                hint="enrol it with `strongroom tpm enrol`",
            )
        return self._enrolment

    def _meet(self, earlier: bytes | None) -> calls.TpmMet:
        self._require_unknown()
        version, pinned = self._pinned_by(earlier)
        met = enrol(self._transmit, derived_auth(self._tee, version, ATTESTATION_LABEL))
        enrolment = met.enrolment
        endorsement = enrolment.endorsement
        return calls.TpmMet(
            record=seal_record(enrolment, self._tee, version),
            replaces=_replacement(earlier, pinned, enrolment),
            endorsement=calls.TpmKey(0, endorsement.name, endorsement.wire),
            certificate=met.certificate,
            storage_root=_key_facts(enrolment.storage_root),
            attestation=_key_facts(enrolment.attestation),
            clock=_clock(met.clock),
        )

    def _know(self, record: bytes | None) -> calls.TpmKnown:
        self._require_unknown()
        if record is None:
            template = endorsement_template(KeyKind.P256)
            key = self._open.enter_context(claimed_primary(self._transmit, ENDORSEMENT, template))
            self._known = self._open.enter_context(Sessions(self._transmit, key))
            named = calls.TpmKey(key.handle, key.public.name, key.public.wire)
            # The first session shows whether it has the key that it claims.
            Device(self._known).clock()
            return calls.TpmKnown("first use", named)
        self._enrolment, self._security_version = open_record(record, self._tee)
        road = connected(self._transmit, self._enrolment)
        self._known = self._open.enter_context(road)
        _core.stir_random(Device(self._known).random(_STIRRED_BYTES))
        return calls.TpmKnown("enrolled", _key_facts(self._enrolment.storage_root))

    def _pinned_by(self, earlier: bytes | None) -> tuple[int, Enrolment | None]:
        """Return the security version whose keys protect what is in the TPM, and what was pinned.

        The version is that of the earliest enrolment: what was protected then stays of use.
        """
        if earlier is not None:
            with contextlib.suppress(FormatError, TpmChangedError, SecurityVersionError):
                enrolment, version = open_record(earlier, self._tee)
                return version, enrolment
        return self._tee.identity.security_version, None

    def _require_unknown(self) -> None:
        if self._known is not None:
            raise BoundaryError("this enclave has a TPM already")

    # --- secrets that come and go -----------------------------------------------------------------

    def _auth(
        self,
        call: Call[object],
        protection: calls.Protection,
        sealed: Sealed | None,
        index: int | None = None,
    ) -> Secret | None:
        """Return the authorization value that a call means."""
        if (protection == "password") != (sealed is not None):
            raise BoundaryError("an authorization value was passed, or not passed, by mistake")
        if sealed is not None:
            return self._recipients.open(sealed, "tpm auth", call)
        if protection == "none":
            return None
        # Bound to the TPM that it is told to: another one must not learn what opens this one's.
        endorsement = self._enrolled().endorsement
        label = b"sealed data" if index is None else b"nv" + index.to_bytes(4, "big")
        return derived_auth(self._tee, self._security_version, label + endorsement.name)

    def _data(self, call: Call[object], sealed: Sealed) -> Secret:
        return self._recipients.open(sealed, "tpm data", call)

    def _random(self, call: calls.DrawRandom) -> calls.TpmReply:
        device, left = Device(self._road), call.size_bytes
        pieces = []
        while left:
            pieces.append(device.random(min(left, MOST_RANDOM_BYTES)))
            left -= pieces[-1].length_bytes
        return _reply(Secret.joined(pieces), call.reply_to)

    # --- state ------------------------------------------------------------------------------------

    def _facts(self) -> calls.TpmFacts:
        found = Device(self._road).capabilities()
        return calls.TpmFacts(
            family=found.family,
            revision=found.revision,
            manufacturer=found.manufacturer,
            vendor=found.vendor,
            firmware=found.firmware,
            properties=tuple(
                calls.Property(number, value) for number, value in found.properties.items()
            ),
        )

    # --- NV ---------------------------------------------------------------------------------------

    def _define(self, nv: Nv[Secret], call: calls.DefineNv) -> calls.NvFacts:
        if call.type == "counter":
            public = NvPublic.counter(call.index)
        else:
            public = NvPublic.ordinary(call.index, call.size_bytes)
        if call.protection == "password":
            public = public.counting_guesses()
        nv.define(public, self._auth(call, call.protection, call.auth, call.index))
        return _nv_facts(public)

    def _write(self, nv: Nv[Secret], call: calls.WriteNv) -> None:
        auth = self._auth(call, call.protection, call.auth, call.index)
        data, public = self._data(call, call.data), nv.describe(call.index)
        check_range(public, call.offset, data.length_bytes)
        for offset in range(0, data.length_bytes, MOST_BYTES_AT_ONCE):
            length = min(MOST_BYTES_AT_ONCE, data.length_bytes - offset)
            nv.write(public, data.part(offset, length), auth, offset=call.offset + offset)
            public = public.written()

    def _read(self, nv: Nv[Secret], call: calls.ReadNv) -> calls.TpmReply:
        auth = self._auth(call, call.protection, call.auth, call.index)
        public = nv.describe(call.index)
        size = call.size_bytes or public.size_bytes - call.offset
        check_range(public, call.offset, size)
        pieces = [
            nv.read(public, auth, min(MOST_BYTES_AT_ONCE, size - at), call.offset + at)
            for at in range(0, size, MOST_BYTES_AT_ONCE)
        ]
        return _reply(Secret.joined(pieces), call.reply_to)

    # --- sealed data and quotes -------------------------------------------------------------------

    @contextlib.contextmanager
    def _root(self) -> Iterator[Key]:
        """Return the storage root key: the pinned one, or what the owner's template makes."""
        if self._enrolment is not None:
            yield self._enrolment.storage_root
            return
        with Objects(self._road).primary(OWNER, storage_root_template()) as key:
            yield key

    def _seal(self, call: calls.SealToTpm) -> calls.SealedObject:
        auth, data = self._auth(call, call.protection, call.auth), self._data(call, call.data)
        selection = PcrSelection.of(call.pcrs, BANKS[call.bank])
        with self._root() as root:
            counts_guesses = call.protection == "password"
            blob = PcrSealing(self._road, root).seal(
                data, auth, selection, counts_guesses=counts_guesses
            )
        return calls.SealedObject(blob.public.wire, blob.private)

    def _unseal(self, call: calls.UnsealFromTpm) -> calls.TpmReply:
        auth = self._auth(call, call.protection, call.auth)
        blob = Blob(PublicArea(call.object.public), call.object.private)
        selection = PcrSelection.of(call.pcrs, BANKS[call.bank])
        with self._root() as root:
            opened = PcrSealing(self._road, root).unseal(blob, auth, selection)
        return _reply(opened, call.reply_to)

    def _quote(self, call: calls.QuotePcrs) -> calls.QuoteFacts:
        key = self._enrolled().attestation
        secret = derived_auth(self._tee, self._security_version, ATTESTATION_LABEL)
        auth = attestation_auth(secret, self._enrolled().endorsement)
        selection = PcrSelection.of(call.pcrs, BANKS[call.bank])
        quote, values = Attestation(self._road).quote_with_values(
            key, auth, selection, call.qualifying_data
        )
        return calls.QuoteFacts(
            attested=quote.attested,
            signature=encode_signature(quote.signature),
            signer=_key_facts(key),
            values=_pcr_values(values),
        )


def _replacement(
    earlier: bytes | None, pinned: Enrolment | None, met: Enrolment
) -> calls.Replacement:
    """Say what an enrolment would replace: endorsement keys tell TPMs apart."""
    if earlier is None:
        return "nothing"
    if pinned is None:
        return "an unreadable record"
    is_same = pinned.endorsement.name == met.endorsement.name
    return "the same TPM" if is_same else "another TPM"


def _reply(secret: Secret, reply_to: bytes) -> calls.TpmReply:
    encapsulated_key, ciphertext = secret.seal_to(reply_to, info=TPM_ANSWER_INFO, aad=reply_to)
    return calls.TpmReply(encapsulated_key, ciphertext)


def _key_facts(key: Key) -> calls.TpmKey:
    return calls.TpmKey(key.handle, key.public.name, key.public.wire)


def _pcr_values(values: dict[int, bytes]) -> tuple[calls.PcrValue, ...]:
    return tuple(calls.PcrValue(pcr, value) for pcr, value in values.items())


def _clock(clock: Clock) -> calls.ClockFacts:
    return calls.ClockFacts(
        clock.time_milliseconds,
        clock.clock_milliseconds,
        clock.reset_count,
        clock.restart_count,
        clock.is_safe,
    )


def _nv_facts(public: NvPublic) -> calls.NvFacts:
    return calls.NvFacts(
        index=public.index,
        name=public.entity.name,
        name_algorithm=algorithm_name(public.name_algorithm),
        type=type_name(public.type),
        attributes=attribute_names(public.flags),
        policy=public.policy,
        size_bytes=public.size_bytes,
    )

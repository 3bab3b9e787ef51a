# SPDX-License-Identifier: Apache-2.0
"""The ``strongroom`` token: what keyslots are sealed to, and what authenticates the header.

Strict, unlike the tokens of others: exactly the known members, each of its one form. The only
liberty is the one that cryptsetup takes: it drops the number of a keyslot that it removes from
``keyslots``, and ``slots`` then still has it.

Spec: ``spec/unlock.md``, "Header authentication"; LUKS2 on-disk format 1.1, 3.5.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, cast

from strongroom.errors import FormatError
from strongroom.luks2._json import JsonObject, JsonValue, encode_base64, parse_json
from strongroom.luks2.limits import (
    CODE_BYTES,
    IDENTIFIER_BYTES,
    KEY_ID_BYTES,
    MAX_DIGESTS,
    MAX_KEYSLOTS,
    MAX_SAFE_INTEGER,
    MAX_SEALED_PARAMETERS_BYTES,
    MAX_SEGMENTS,
    MAX_TOKENS,
    MIN_SEALED_PARAMETERS_BYTES,
    SEALED_FACTORS,
    SEALED_SHARE_BYTES,
    SEQUENCE_BYTES,
    STRONGROOM_TOKEN,
    UINT16_MAX,
)
from strongroom.luks2.model import Header
from strongroom.uuids import is_uuid
from strongroom.values import dataclass

SEQUENCE: Final = "seqid"
"""The one entry of ``header`` that is no digest: the sequence number itself, 8 bytes big-endian."""

SINGLE_PARTS: Final = frozenset(
    {"binary", "label", "subsystem", SEQUENCE, "config", "flags", "priorities", "other"}
)
"""The entries of ``header`` that every token has."""

_NUMBERED: Final = {
    "keyslots": MAX_KEYSLOTS,
    "tokens": MAX_TOKENS,
    "segments": MAX_SEGMENTS,
    "digests": MAX_DIGESTS,
}
_VERSION: Final = 2
_WITHOUT_UUIDS: Final = 1
"""The first version: a volume is sealed under the UUID of its header, whatever that is."""
_HINT: Final = "it was damaged or changed: restore a backup of the header"
_MEMBERS: Final = frozenset(
    {"type", "keyslots", "version", "epoch", "enclave", "slots", "header", "mac"}
)
_UUIDS: Final = frozenset({"uuid", "sealed_uuid"})
_SEALING: Final = frozenset(
    {
        "tee",
        "simulated",
        "policy",
        "measurement",
        "signer",
        "product_id",
        "security_version",
        "debug",
        "key_id",
    }
)
_SLOT: Final = frozenset({"factors", "share", "parameters"})
_MAC: Final = frozenset({"enclave", "volume"})
_TEE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_HEXADECIMAL: Final = re.compile(r"(?:[0-9a-f]{2})*")
_PART: Final = re.compile(r"([a-z]+)/(0|[1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class Sealing:
    """The enclave that keyslots are sealed to, in the words of ``strongroom.tee.Identity``.

    Attributes:
        policy: To what the seal key is bound: all that ``signer`` signs, or ``measurement``.
        measurement: 32 bytes.
        signer: 32 bytes.
        key_id: 16 bytes that tell which seal key it was, as enclaves of one identity have different
            ones on different machines.
    """

    tee: str
    simulated: bool
    policy: Literal["signer", "measurement"]
    measurement: bytes
    signer: bytes
    product_id: int
    security_version: int
    debug: bool
    key_id: bytes

    def json(self) -> dict[str, JsonValue]:
        """Return the token's member ``enclave``."""
        return {
            "tee": self.tee,
            "simulated": self.simulated,
            "policy": self.policy,
            "measurement": self.measurement.hex(),
            "signer": self.signer.hex(),
            "product_id": self.product_id,
            "security_version": self.security_version,
            "debug": self.debug,
            "key_id": self.key_id.hex(),
        }


@dataclass(frozen=True, slots=True)
class SealedSlot:
    """What is sealed for one keyslot.

    Attributes:
        factors: All of what opens it, a selection of ``SEALED_FACTORS`` in its order.
        share: The sealed secret, 81 bytes.
        parameters: The sealed parameters of the KDF, 50 to 512 bytes.
    """

    factors: tuple[str, ...]
    share: bytes
    parameters: bytes

    def json(self) -> dict[str, JsonValue]:
        """Return the member of ``slots``."""
        return {
            "factors": [*self.factors],
            "share": encode_base64(self.share),
            "parameters": encode_base64(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class StrongroomToken:
    """The token. Nothing in it is authentic before one of its codes was checked.

    Attributes:
        number: Its own number.
        keyslots: Those that it still refers to, in order: all of ``slots``, or fewer when another
            program removed some. Not covered by the codes.
        epoch: Raised by every authenticated change, from 1.
        slots: By keyslot; it may be empty, when the header is authenticated and nothing sealed.
        header: What :func:`strongroom.luks2.header_digests` returned when it was written.
        enclave_code: 32 bytes, under the enclave's key.
        volume_code: 32 bytes, under the volume key's.
        header_uuid: The UUID of the header when it was authenticated; empty in a token of the first
            version, which does not say.
        sealed_uuid: The UUID that all keys are derived with, for the life of the volume; empty as
            well.
    """

    number: int
    keyslots: tuple[int, ...]
    epoch: int
    sealing: Sealing
    slots: Mapping[int, SealedSlot]
    header: Mapping[str, bytes] = MappingProxyType({})
    enclave_code: bytes = b""
    volume_code: bytes = b""
    header_uuid: str = ""
    sealed_uuid: str = ""

    def sealed_under(self, header_uuid: str) -> str:
        """Return the UUID that all keys are derived with, where the header has this one."""
        return self.sealed_uuid or header_uuid

    def body(self) -> dict[str, JsonValue]:
        """Return the JSON without the codes, which is what they are over.

        ``keyslots`` are those of ``slots`` here, so that what cryptsetup drops from there breaks no
        code.
        """
        numbers = sorted(self.slots)
        uuids: dict[str, JsonValue] = {"uuid": self.header_uuid, "sealed_uuid": self.sealed_uuid}
        return {
            "type": STRONGROOM_TOKEN,
            "keyslots": [str(number) for number in numbers],
            "version": _VERSION if self.sealed_uuid else _WITHOUT_UUIDS,
            "epoch": self.epoch,
            **(uuids if self.sealed_uuid else {}),
            "enclave": self.sealing.json(),
            "slots": {str(number): self.slots[number].json() for number in numbers},
            "header": {key: encode_base64(value) for key, value in sorted(self.header.items())},
        }

    def json(self) -> dict[str, JsonValue]:
        """Return the whole JSON, as it is written."""
        codes: dict[str, JsonValue] = {
            "enclave": encode_base64(self.enclave_code),
            "volume": encode_base64(self.volume_code),
        }
        keyslots: JsonValue = [str(number) for number in self.keyslots]
        return self.body() | {"keyslots": keyslots, "mac": codes}


def strongroom_token(header: Header) -> StrongroomToken | None:
    """Return the header's token, or ``None`` when it has none.

    Raises:
        FormatError: There is more than one, or it is malformed.
    """
    numbers = [key for key, value in header.tokens.items() if value.kind == STRONGROOM_TOKEN]
    if not numbers:
        return None
    if len(numbers) > 1:
        raise FormatError(
            f"the header has {len(numbers)} strongroom tokens, and not one", hint=_HINT
        )
    root = JsonObject("metadata", parse_json(header.metadata.json_text))
    token = root.child("tokens").child(str(numbers[0])).members
    try:
        return parse_token(numbers[0], token)
    except FormatError as err:
        raise type(err)(err.message, hint=err.hint or _HINT) from err


def sealed_uuid(header: Header) -> str:
    """Return the UUID that the salts of a header's copies are made from.

    It is that of :meth:`StrongroomToken.sealed_under`, as far as a token says it, right or not.
    """
    tokens = JsonObject("metadata", parse_json(header.metadata.json_text)).child("tokens")
    for number, token in header.tokens.items():
        value = tokens.child(str(number)).members.get("sealed_uuid")
        if token.kind == STRONGROOM_TOKEN and isinstance(value, str) and is_uuid(value):
            return value
    return header.binary.uuid


def parse_token(number: int, members: dict[str, JsonValue]) -> StrongroomToken:
    """Check the JSON of a token.

    Raises:
        FormatError: Anything in it is missing, unknown or not of its form.
    """
    token = JsonObject(f"token {number}", members)
    version = token.integer("version", minimum=_WITHOUT_UUIDS, maximum=_VERSION)
    has_uuids = version > _WITHOUT_UUIDS
    token.only(_MEMBERS | _UUIDS if has_uuids else _MEMBERS)
    if token.text("type") != STRONGROOM_TOKEN:
        raise token.fail("type", f"is not {STRONGROOM_TOKEN}")
    slots = {key: _slot(slot) for key, slot in token.child("slots").entries("slot", MAX_KEYSLOTS)}
    mac = token.child("mac")
    mac.only(_MAC)
    return StrongroomToken(
        number=number,
        keyslots=_linked(token, slots),
        epoch=token.integer("epoch", minimum=1, maximum=MAX_SAFE_INTEGER),
        sealing=_sealing(token.child("enclave")),
        slots=MappingProxyType(slots),
        header=MappingProxyType(_parts(token.child("header"))),
        enclave_code=_exactly(mac, "enclave", CODE_BYTES),
        volume_code=_exactly(mac, "volume", CODE_BYTES),
        header_uuid=_uuid(token, "uuid") if has_uuids else "",
        sealed_uuid=_uuid(token, "sealed_uuid") if has_uuids else "",
    )


def _linked(token: JsonObject, slots: Mapping[int, SealedSlot]) -> tuple[int, ...]:
    numbers = token.numbers("keyslots")
    if list(numbers) != sorted(numbers) or not slots.keys() >= set(numbers):
        raise token.fail("keyslots", "is not a list, in order, of what has slots")
    return numbers


def _sealing(enclave: JsonObject) -> Sealing:
    enclave.only(_SEALING)
    tee = enclave.text("tee")
    if not _TEE.fullmatch(tee):
        raise enclave.fail("tee", "is not the name of a provider")
    policy = enclave.text("policy")
    if policy not in {"signer", "measurement"}:
        raise enclave.fail("policy", "is neither signer nor measurement")
    return Sealing(
        tee=tee,
        simulated=enclave.boolean("simulated"),
        policy=cast('Literal["signer", "measurement"]', policy),
        measurement=_hexadecimal(enclave, "measurement", IDENTIFIER_BYTES),
        signer=_hexadecimal(enclave, "signer", IDENTIFIER_BYTES),
        product_id=enclave.integer("product_id", minimum=0, maximum=UINT16_MAX),
        security_version=enclave.integer("security_version", minimum=0, maximum=UINT16_MAX),
        debug=enclave.boolean("debug"),
        key_id=_hexadecimal(enclave, "key_id", KEY_ID_BYTES),
    )


def _slot(slot: JsonObject) -> SealedSlot:
    slot.only(_SLOT)
    factors = slot.strings("factors")
    if not factors or factors != tuple(name for name in SEALED_FACTORS if name in factors):
        raise slot.fail("factors", "is not a selection of the known ones in their order")
    return SealedSlot(
        factors=factors,
        share=_exactly(slot, "share", SEALED_SHARE_BYTES),
        parameters=slot.base64(
            "parameters",
            minimum_bytes=MIN_SEALED_PARAMETERS_BYTES,
            maximum_bytes=MAX_SEALED_PARAMETERS_BYTES,
        ),
    )


def _parts(header: JsonObject) -> dict[str, bytes]:
    for key in SINGLE_PARTS - header.members.keys():
        raise header.fail(key, "is missing")
    header.only({key for key in header.members if key in SINGLE_PARTS or _is_numbered(key)})
    return {
        key: _exactly(header, key, SEQUENCE_BYTES if key == SEQUENCE else CODE_BYTES)
        for key in header.members
    }


def _is_numbered(key: str) -> bool:
    match = _PART.fullmatch(key)
    return match is not None and int(match[2]) < _NUMBERED.get(match[1], 0)


def _uuid(token: JsonObject, key: str) -> str:
    value = token.text(key)
    if not is_uuid(value):
        raise token.fail(key, "is not a UUID")
    return value


def _hexadecimal(enclave: JsonObject, key: str, length_bytes: int) -> bytes:
    text = enclave.text(key)
    if len(text) != 2 * length_bytes or not _HEXADECIMAL.fullmatch(text):
        raise enclave.fail(key, f"is not {length_bytes} bytes in hexadecimal")
    return bytes.fromhex(text)


def _exactly(object_: JsonObject, key: str, length_bytes: int) -> bytes:
    return object_.base64(key, minimum_bytes=length_bytes, maximum_bytes=length_bytes)

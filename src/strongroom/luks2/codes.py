# SPDX-License-Identifier: Apache-2.0
"""What the codes of a header are over, and a header that has them.

Spec: ``spec/unlock.md``, "Header authentication".
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from strongroom.errors import FormatError
from strongroom.luks2.binary import WRITTEN_CHECKSUM
from strongroom.luks2.canonical import canonical_json
from strongroom.luks2.edit import with_token
from strongroom.luks2.limits import STRONGROOM_TOKEN, UINT64_MAX
from strongroom.luks2.model import Header, Token
from strongroom.luks2.parts import header_digests
from strongroom.luks2.token import StrongroomToken, parse_token
from strongroom.values import replace


def authenticated_bytes(header_uuid: str, token: StrongroomToken) -> bytes:
    """Return what the enclave's code is over: the token without codes, and the volume's UUID.

    The token's ``keyslots`` are those of its ``slots`` here, whatever it refers to on the disk.

    Args:
        header_uuid: As in the header, letter for letter.
        token: The token; its codes are not looked at.
    """
    return canonical_json({"token": token.body(), "uuid": token.sealed_under(header_uuid)})


def volume_authenticated_bytes(header_uuid: str, token: StrongroomToken) -> bytes:
    """Return what the volume's code is over: :func:`authenticated_bytes` and the enclave's code.

    So an enclave that cannot check the other one's code still notices that it was changed.
    """
    return authenticated_bytes(header_uuid, token) + token.enclave_code


def with_authentication(
    header: Header,
    token_body: StrongroomToken,
    areas: Mapping[int, bytes],
    codes: Callable[[bytes], tuple[bytes, bytes]],
    *,
    kept: Mapping[int, bytes] = MappingProxyType({}),
) -> Header:
    """Return the header with its ``strongroom`` token placed, or replaced, and authenticated.

    The last edit before a commit: any edit after it would have to be authenticated anew. The salts
    of the copies stay: those of an authenticated volume are :func:`strongroom.luks2.copy_salt`.

    Args:
        header: The header to start from.
        token_body: Number, epoch, sealing and slots of the token. The rest is computed.
        areas: As for :func:`header_digests`, with the material that will be on the disk.
        codes: Computes the enclave's code over a message, and the volume's over the message with
            the enclave's code behind it, 32 bytes each.
        kept: As for :func:`header_digests`.

    Raises:
        FormatError: The token is malformed, seals a keyslot that does not exist, or another one is
            there under another number.
        LimitError: The JSON area is full.
        UnknownTokenError: The number is that of a token of unknown type.
    """
    for number, other in header.tokens.items():
        if other.kind == STRONGROOM_TOKEN and number != token_body.number:
            raise FormatError(f"the header has a strongroom token already, token {number}")
    committed = replace(header.binary, checksum_alg=WRITTEN_CHECKSUM)
    # Placing the token is an edit, which raises the sequence number: so this is the final one.
    final = replace(committed, seqid=min(committed.seqid + 1, UINT64_MAX))
    keyslots = tuple(sorted(token_body.slots))
    placed = Token(STRONGROOM_TOKEN, keyslots, understood=True)
    tokens = {**header.tokens, token_body.number: placed}
    metadata = replace(header.metadata, tokens=tokens)
    token = replace(
        token_body,
        keyslots=keyslots,
        header=header_digests(Header(final, metadata), areas, kept=kept),
        header_uuid=final.uuid,
        sealed_uuid=token_body.sealed_under(final.uuid),
    )
    enclave_code, volume_code = codes(authenticated_bytes(final.uuid, token))
    token = replace(token, enclave_code=enclave_code, volume_code=volume_code)
    value = token.json()
    parse_token(token.number, value)
    return with_token(replace(header, binary=committed), value, number=token.number)


def segment_digest_salt(header: Header) -> bytes:
    """Return the salt of the digest of the volume key, which marks an authenticated volume."""
    return header.digests[header.segment_digest_number].salt

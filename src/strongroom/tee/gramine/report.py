# SPDX-License-Identifier: Apache-2.0
"""What SGX reports and quotes say. Pure: bytes in, values out; no signature is checked here.

::

    report, 432 bytes            quote
      0  report body   384         0  header: version 2, key type 2, TEE type 4, ... 48
    384  key id         32        48  report body                                   384
    416  MAC            16       432  signature length 4, then the signature

    report body
     48  attributes    bit 0 initialised, bit 1 debug
     64  MRENCLAVE 32     128  MRSIGNER 32
    256  ISVPRODID  2     258  ISVSVN    2     320  REPORTDATA 64

Numbers are little-endian.

Spec: Intel SDM volume 3D, "REPORT"; Intel SGX ECDSA quote format, version 3.
"""

import struct
from typing import Final

from strongroom.errors import ReportError
from strongroom.tee.identity import Identity, VerifiedReport

REPORT_BYTES: Final = 432

_BODY_BYTES: Final = 384
_HEADER: Final = struct.Struct("<HHI40x")
_SIGNATURE_LENGTH: Final = struct.Struct("<I")
_QUOTE_VERSION: Final = 3
_KEY_ECDSA_P256: Final = 2
_TEE_SGX: Final = 0

_BODY: Final = struct.Struct("<48xQ8x32s32x32s96xHH60x64s")
_INITIALISED: Final = 0x01
_DEBUG: Final = 0x02


def parse(report: bytes) -> VerifiedReport:
    """Return what a report or quote says.

    Nothing on this machine can verify it: only the CPU can check a report, for its target alone,
    and a quote needs Intel's collateral. So ``genuine`` is always false.

    Raises:
        ReportError: It is malformed.
    """
    measurement: bytes
    signer: bytes
    user_data: bytes
    body = report[:_BODY_BYTES] if len(report) == REPORT_BYTES else _body_of_quote(report)
    attributes, measurement, signer, product_id, security_version, user_data = _BODY.unpack(body)
    if not attributes & _INITIALISED:
        raise ReportError("the SGX report is malformed: it is of no running enclave")
    identity = Identity(
        tee="gramine",
        simulated=False,
        measurement=measurement,
        signer=signer,
        product_id=product_id,
        security_version=security_version,
        debug=bool(attributes & _DEBUG),
    )
    return VerifiedReport(identity, user_data, genuine=False)


def _body_of_quote(quote: bytes) -> bytes:
    signature_at = _HEADER.size + _BODY_BYTES
    if len(quote) < signature_at + _SIGNATURE_LENGTH.size:
        raise ReportError(f"the SGX report is malformed: {len(quote)} bytes")
    if _HEADER.unpack_from(quote) != (_QUOTE_VERSION, _KEY_ECDSA_P256, _TEE_SGX):
        raise ReportError("the SGX quote is not of version 3, ECDSA P-256")
    (length,) = _SIGNATURE_LENGTH.unpack_from(quote, signature_at)
    if signature_at + _SIGNATURE_LENGTH.size + length != len(quote):
        raise ReportError("the SGX quote is malformed: its length is wrong")
    return quote[_HEADER.size : signature_at]

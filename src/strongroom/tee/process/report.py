# SPDX-License-Identifier: Apache-2.0
"""Reports that enclaves of one machine and boot can check.

::

      0  28  "strongroom process report 1", zero byte
     28  32  measurement
     60  32  signer
     92   2  product id           big-endian
     94   2  security version     big-endian
     96   1  1 for a debug enclave, else 0
     97  64  user data
    161  32  HMAC-SHA256 of all before, under the key of this boot's reports
"""

import struct
from typing import Final

from strongroom._core import Secret, hmac_sha256, hmac_sha256_matches
from strongroom.errors import InternalError, ReportError
from strongroom.tee.identity import USER_DATA_BYTES, Identity, VerifiedReport

REPORT_BYTES: Final = 193

_MAGIC: Final = b"strongroom process report 1\0"
_FIELDS: Final = struct.Struct(">28s32s32sHHB64s")


def issue(identity: Identity, user_data: bytes, key: Secret) -> bytes:
    """Return the report of an identity over 64 bytes."""
    if len(user_data) != USER_DATA_BYTES:
        raise InternalError(f"a report is over 64 bytes, not {len(user_data)}")
    body = _FIELDS.pack(
        _MAGIC,
        identity.measurement,
        identity.signer,
        identity.product_id,
        identity.security_version,
        identity.debug,
        user_data,
    )
    return body + hmac_sha256(key, body)


def verify(report: bytes, key: Secret) -> VerifiedReport:
    """Return what a report says, once its code is right.

    Raises:
        ReportError: It is malformed, or not of this platform and boot.
    """
    body, code = report[: _FIELDS.size], report[_FIELDS.size :]
    if len(report) != REPORT_BYTES or not hmac_sha256_matches(key, body, code):
        raise ReportError(
            "the enclave's report is not of this machine and boot",
            hint="client and enclave must use the same STRONGROOM_STATE_DIR",
        )
    magic, measurement, signer, product_id, security_version, debug, user_data = _FIELDS.unpack(
        body
    )
    if magic != _MAGIC or debug > 1:
        raise ReportError("the enclave's report is malformed")
    identity = Identity(
        tee="process",
        simulated=True,
        measurement=measurement,
        signer=signer,
        product_id=product_id,
        security_version=security_version,
        debug=bool(debug),
    )
    return VerifiedReport(identity, user_data, genuine=True)

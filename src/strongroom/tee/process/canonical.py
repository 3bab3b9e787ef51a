# SPDX-License-Identifier: Apache-2.0
"""One way to write a JSON value as bytes, for digests and signatures."""

import json


def canonical(value: object) -> bytes:
    """Return compact JSON with sorted keys; characters beyond ASCII are escaped.

    For objects, arrays, strings, integers, booleans and null; equal values give equal bytes.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

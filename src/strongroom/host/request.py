# SPDX-License-Identifier: Apache-2.0
"""What ``open`` passes to the process that it leaves behind; no secret is among it."""

import json
from pathlib import Path

from strongroom.host.contracts import ImageReference, OpenRequest


def encode_request(request: OpenRequest) -> str:
    """Return a request as JSON, for a process with another working directory."""
    image, header = request.image.path, request.image.header
    return json.dumps(
        {
            "image": str(image.absolute()),
            "header": None if header is None else str(header.absolute()),
            "name": request.name,
            "attach": request.attach,
            "read_only": request.read_only,
            "discard": request.discard,
            "direct": request.direct,
            "structured_replies": request.structured_replies,
            "tee": request.tee,
            "transport": request.transport,
        }
    )


def decode_request(text: str) -> OpenRequest:
    """Return the request that :func:`encode_request` was given."""
    fields = json.loads(text)
    image, header = fields.pop("image"), fields.pop("header")
    reference = ImageReference(Path(image), None if header is None else Path(header))
    return OpenRequest(image=reference, **fields)

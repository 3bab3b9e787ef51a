# SPDX-License-Identifier: Apache-2.0
"""The file or block device that holds a volume: what is on it, who uses it, and how to own it."""

from strongroom.host.target.contents import (
    ensure_formattable,
    ensure_restorable,
    ensure_unused,
    probe_signatures,
)
from strongroom.host.target.hold import Hold, ensure_header_may_change
from strongroom.host.target.images import create_image, open_directly, open_image
from strongroom.host.target.locks import OPEN_LOCK_OFFSET, HeaderLock, OpenLock
from strongroom.host.target.standing import ImageState, image_state

__all__ = [
    "OPEN_LOCK_OFFSET",
    "HeaderLock",
    "Hold",
    "ImageState",
    "OpenLock",
    "create_image",
    "ensure_formattable",
    "ensure_header_may_change",
    "ensure_restorable",
    "ensure_unused",
    "image_state",
    "open_directly",
    "open_image",
    "probe_signatures",
]

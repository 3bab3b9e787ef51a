# SPDX-License-Identifier: Apache-2.0
"""The ``gramine`` provider: an SGX enclave in which Gramine runs Python."""

from strongroom.tee.gramine.provider import GramineTee, start
from strongroom.tee.gramine.report import parse as verify_report

__all__ = ["GramineTee", "start", "verify_report"]

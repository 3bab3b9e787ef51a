# SPDX-License-Identifier: Apache-2.0
"""Starting the process that an enclave is, one module for each TEE.

Each gives the process its end of a :class:`strongroom.host.transport.Link`, an environment with
nothing of the caller's in it, and a log.
"""

from strongroom.host.starting.disk import StartDisk

__all__ = ["StartDisk"]

# SPDX-License-Identifier: Apache-2.0
"""Run a command as root inside a small virtual machine with a stock Debian kernel.

The guest sees the host's root directory read-only under an overlay, so every tool, virtual
environment and checkout of the host is there; what it writes is gone when it ends. It runs on
software emulation, so it needs no rights and works where there is no KVM, and is slow.
"""

from tests.system.guest.kernel import GuestKernelMissingError
from tests.system.guest.machine import GuestError, GuestResult, require_guest, run_in_guest

__all__ = ["GuestError", "GuestKernelMissingError", "GuestResult", "require_guest", "run_in_guest"]

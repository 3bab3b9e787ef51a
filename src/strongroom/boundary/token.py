# SPDX-License-Identifier: Apache-2.0
"""How a host knows its own enclave among all that can connect to a TCP port of this machine.

The host gives the enclave random bytes through standard input, which no other user can read, and
takes the one connection that begins with them. That keeps other users of the machine out; it makes
the stream neither secret nor authentic, and nothing relies on that.

Spec: ``spec/boundary.md``, "Streams without descriptors".
"""

from typing import Final

TOKEN_BYTES: Final = 32
"""Random bytes, used for one connection."""

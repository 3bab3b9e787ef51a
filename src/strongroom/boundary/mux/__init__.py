# SPDX-License-Identifier: Apache-2.0
"""The boundary and NBD connections over one byte stream that carries no descriptors.

``frames`` is what is on the wire and what each side may do, ``channels`` the two kinds of channel,
``multiplexer`` the threads that move the bytes.
"""

from strongroom.boundary.mux.channels import BoundaryChannel
from strongroom.boundary.mux.multiplexer import Acceptor, Multiplexer, PairSource

__all__ = ["Acceptor", "BoundaryChannel", "Multiplexer", "PairSource"]

# SPDX-License-Identifier: Apache-2.0
"""The first step, before any key of the TPM is known.

Nothing that is learned here is believed. A key that comes out is worth what vouches for it: a
certificate of its maker, or a record of an earlier meeting.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from strongroom import _core
from strongroom.errors import TpmTamperedError
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Command
from strongroom.tpm.entities import Entity
from strongroom.tpm.marshal import Reader, sized, u16, u32
from strongroom.tpm.objects import PublicArea
from strongroom.tpm.sessions import SaltKey
from strongroom.tpm.wire import Transmit, Wire

NO_PCRS: Final = u32(0)
NO_SECRET: Final = u16(0) + u16(0)
"""Content of a ``TPM2B_SENSITIVE_CREATE`` with neither an authorization value nor data."""


@contextlib.contextmanager
def claimed_primary(
    transmit: Transmit, hierarchy: Entity, template: PublicArea
) -> Iterator[SaltKey]:
    """Have a hierarchy's key made, for the length of a block, and return what is said to be it.

    Raises:
        TpmTamperedError: It is not what the template asks for.
        TpmError: The TPM refused, or cannot be reached.
    """
    wire = Wire(transmit)
    command: Command[_core.Secret] = Command(
        CommandCode.CREATE_PRIMARY,
        (hierarchy,),
        1,
        (NO_SECRET,),
        sized(template.wire) + sized(b"") + NO_PCRS,
    )
    answer = wire.exchange(command, [_core.TpmAuthorization(None)])
    with wire.flushed(answer.made()):
        public = PublicArea(Reader(answer.parameters).sized())
        if not public.is_made_from(template):
            raise TpmTamperedError("the TPM made another key than was asked for")
        yield SaltKey(answer.made(), public)

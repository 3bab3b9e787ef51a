# SPDX-License-Identifier: Apache-2.0
"""A TPM behind a wire that lies.

Commands are built here, and answers are checked here; whoever carries them learns no secret and
cannot change what is asked or answered. All that a caller needs is a function that carries bytes,
such as :meth:`strongroom.host.tpm.Relay.transmit`. :func:`enrol` meets a TPM, once, and says which
keys it has; :func:`connected` opens a road to that TPM, and to no other; everything else is done
over a road::

    enrolment = enrol(transmit, Secret.random(32)).enrolment
    with connected(transmit, enrolment) as road:
        print(Device(road).clock())
        counter, auth = NvPublic.counter(0x01800001), Secret.random(32)
        Nv(road).define(counter, auth)
        Nv(road).increment(counter, auth)

Authorization values, and what is read or unsealed, are opaque: no Python object has the bytes.
:class:`Sessions` is the road that protects. What it does not: a TPM can be silent, and say that it
refuses (refusals carry no MAC), and the traffic shows which commands are sent, when, about what.

Everything raises :class:`strongroom.errors.TpmError` or a class below it: ``TpmTransportError``
for a TPM that cannot be reached, ``TpmTamperedError`` for an answer that is not the TPM's,
``TpmChangedError`` for another TPM than the one that was enrolled.
"""

from strongroom._core import Secret
from strongroom.tpm.algorithms import Algorithm, KeyKind
from strongroom.tpm.attestation import Attestation, Quote
from strongroom.tpm.bootstrap import claimed_primary
from strongroom.tpm.commands import Answer, Command, Policy, Road
from strongroom.tpm.device import Capabilities, Clock, Device
from strongroom.tpm.enrolment import Enrolled, Enrolment, attestation_auth, connected, enrol, forget
from strongroom.tpm.entities import ENDORSEMENT, NULL, OWNER, Entity
from strongroom.tpm.nv import Nv, NvAttribute, NvPublic, NvType
from strongroom.tpm.objects import (
    PublicArea,
    PublicKey,
    attestation_template,
    endorsement_template,
    sealed_template,
    storage_root_template,
)
from strongroom.tpm.pcrs import PcrSelection
from strongroom.tpm.sealing import Blob, Key, Objects, PolicySteps
from strongroom.tpm.sessions import SaltKey, Sessions

__all__ = [
    "ENDORSEMENT",
    "NULL",
    "OWNER",
    "Algorithm",
    "Answer",
    "Attestation",
    "Blob",
    "Capabilities",
    "Clock",
    "Command",
    "Device",
    "Enrolled",
    "Enrolment",
    "Entity",
    "Key",
    "KeyKind",
    "Nv",
    "NvAttribute",
    "NvPublic",
    "NvType",
    "Objects",
    "PcrSelection",
    "Policy",
    "PolicySteps",
    "PublicArea",
    "PublicKey",
    "Quote",
    "Road",
    "SaltKey",
    "Secret",
    "Sessions",
    "attestation_auth",
    "attestation_template",
    "claimed_primary",
    "connected",
    "endorsement_template",
    "enrol",
    "forget",
    "sealed_template",
    "storage_root_template",
]

# SPDX-License-Identifier: Apache-2.0
"""Sealing data to PCRs as they are, besides its authorization value.

Spec: TPM 2.0 Part 3, 23.7 "TPM2_PolicyPCR" and 23.17 "TPM2_PolicyAuthValue".
"""

from typing import Generic

from strongroom.tpm import policy
from strongroom.tpm.commands import Road, SecretT
from strongroom.tpm.device import Device
from strongroom.tpm.pcrs import PcrSelection
from strongroom.tpm.sealing import Blob, Key, Objects, PolicySteps


class PcrSealing(Generic[SecretT]):
    """Data sealed under one storage key, to PCRs and an authorization value, or to that alone."""

    def __init__(self, road: Road[SecretT], parent: Key) -> None:
        self._road = road
        self._parent = parent
        self._objects = Objects(road)

    def seal(
        self,
        data: SecretT,
        auth: SecretT | None,
        selection: PcrSelection,
        *,
        counts_guesses: bool,
    ) -> Blob:
        """Seal data. See :meth:`Objects.seal` for the arguments.

        Raises:
            TpmError: The TPM does not have one of the PCRs; or as :meth:`Objects.seal`.
        """
        demanded = b""
        if selection.pcrs:
            digest = selection.digest_of(Device(self._road).read_pcrs(selection))
            demanded = policy.auth_value(policy.pcr(policy.EMPTY, selection, digest))
        return self._objects.seal(
            self._parent, data, auth=auth, policy=demanded, counts_guesses=counts_guesses
        )

    def unseal(self, blob: Blob, auth: SecretT | None, selection: PcrSelection) -> SecretT:
        """Open what :meth:`seal` made.

        Raises:
            TpmError: The PCRs have changed, or the authorization value is wrong; or as
                :meth:`Objects.load`.
        """
        with self._objects.load(self._parent, blob) as loaded:
            if not selection.pcrs:
                return self._objects.unseal(loaded, auth)
            with self._road.policy_session() as session:
                steps = PolicySteps(self._road, session)
                # Without a digest the TPM takes its own values: they are right, or it refuses.
                steps.pcr(selection, b"")
                steps.auth_value()
                return self._objects.unseal(loaded, steps.fulfilled(auth))

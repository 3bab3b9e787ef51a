# SPDX-License-Identifier: Apache-2.0
"""A TPM for the length of one command: the way to it, an enclave before it, and what is known.

Without a record of an enrolment the enclave takes whichever TPM answers, and that is said.
"""

import contextlib
from collections.abc import Iterator

from strongroom.boundary import tpm_calls
from strongroom.errors import StrongroomError, TpmTransportError
from strongroom.host.contracts import Reporter
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.tpm.address import Address, parse_address
from strongroom.host.tpm.carrying import RelayCarrier
from strongroom.host.tpm.in_enclave import InEnclave
from strongroom.host.tpm.in_host import InHost
from strongroom.host.tpm.leftovers import flush_leftovers, is_alone
from strongroom.host.tpm.limits import TimeLimits
from strongroom.host.tpm.record import read_record
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.results import Tpm, TpmChoice
from strongroom.host.tpm.trace import Trace
from strongroom.host.tpm.unprotected import Unprotected


@contextlib.contextmanager
def using(choice: TpmChoice, report: Reporter) -> Iterator[Tpm]:
    """Use a TPM, from an enclave or from the host.

    Raises:
        TpmError: It cannot be reached, refuses, or is not the one that was enrolled.
        UsageError: The address is none.
    """
    if choice.place == "host":
        with _relay(choice, report) as relay:
            report.notice("the host uses the TPM itself: nothing is protected on the way")
            yield InHost(Unprotected(relay.transmit))
        return
    with enclave_with_tpm(choice, report) as enclave:
        known = enclave.call(tpm_calls.KnowTpm(read_record()))
        if known.vouched == "first use":
            report.notice(
                "this TPM is not enrolled: whichever answers is taken for it "
                "(`strongroom tpm enrol` pins it)"
            )
        yield InEnclave(enclave, choice.tee, is_enrolled=known.vouched == "enrolled")


@contextlib.contextmanager
def enclave_with_tpm(choice: TpmChoice, report: Reporter) -> Iterator[EnclaveProcess]:
    """Start an enclave before a TPM, and end it such that nothing of it stays there.

    Raises:
        TpmError: The TPM cannot be reached.
        UsageError: The address is none, or this kind of enclave has no TPM.
        PlatformError: This machine has no TPM of this kind, or it cannot be recorded.
    """
    with _relay(choice, report) as relay, _enclave(choice, RelayCarrier(relay), report) as enclave:
        yield enclave


@contextlib.contextmanager
def _enclave(
    choice: TpmChoice, carrier: RelayCarrier, report: Reporter
) -> Iterator[EnclaveProcess]:
    with launch(report, tee=choice.tee, tpm=carrier) as enclave:
        try:
            yield enclave
        except TpmTransportError as err:
            failure = carrier.failure(err.message)
            if failure is None:
                raise
            raise failure from err
        finally:
            with contextlib.suppress(StrongroomError):
                enclave.shut_down()


@contextlib.contextmanager
def _relay(choice: TpmChoice, report: Reporter) -> Iterator[Relay]:
    address: Address = parse_address(choice.address)
    trace = None if choice.trace is None else Trace(choice.trace)
    limits = TimeLimits().at_most(choice.timeout_seconds)
    with Relay(address, trace=trace, limits=limits, notice=report.notice) as relay:
        if is_alone(address):
            flushed = flush_leftovers(relay)
            if flushed:
                report.notice(
                    f"{flushed} sessions and objects that others had left in the TPM were removed: "
                    "it has no resource manager"
                )
        yield relay

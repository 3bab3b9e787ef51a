# SPDX-License-Identifier: Apache-2.0
"""Uses a TPM from an enclave until it is killed: ``python worker.py ADDRESS RECORD``.

Says ``ready PID`` of its enclave once it works.
"""

import sys
from pathlib import Path

from strongroom._core import HpkeReceiver
from strongroom.boundary import tpm_calls
from strongroom.errors import TpmError
from strongroom.host.launch import launch
from strongroom.host.silence import Silent
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.carrying import RelayCarrier
from strongroom.host.tpm.leftovers import flush_leftovers
from strongroom.host.tpm.relay import Relay

INDEX = 0x01800030


def main() -> None:
    address, record = parse_address(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    with Relay(address) as relay:
        flush_leftovers(relay)
        with launch(Silent(), tpm=RelayCarrier(relay)) as enclave:
            enclave.call(tpm_calls.KnowTpm(record))
            sys.stdout.write(f"ready {enclave.pid}\n")
            sys.stdout.flush()
            while True:
                receiver = HpkeReceiver()
                enclave.call(tpm_calls.DrawRandom(32, receiver.public_key))
                enclave.call(tpm_calls.QuotePcrs("sha256", (0, 7), b"kill"))
                enclave.call(tpm_calls.IncrementNv(INDEX, "enclave", None))


if __name__ == "__main__":
    try:
        main()
    except TpmError as err:
        sys.exit(err.exit_code)

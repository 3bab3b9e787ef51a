# SPDX-License-Identifier: Apache-2.0
"""A real enclave process, and a host of it that does as it likes."""

import contextlib
import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import strongroom
from strongroom import _core
from strongroom.boundary import calls, cbor
from strongroom.boundary.calls import Call, KdfParameters, Purpose, Sealed, Terms
from strongroom.boundary.channel import Caller, Received, registry_of
from strongroom.boundary.stream import UnixStream, receive_frame, send_frame
from strongroom.host.starting.process import interpreting
from strongroom.host.state import state_directory
from tests.honest import HonestClient, known_secret

ResultT = TypeVar("ResultT")

PACKAGE: Final = Path(strongroom.__file__).parent
PASSPHRASE: Final = b"correct horse battery staple"
CHEAP: Final = KdfParameters("pbkdf2", "sha256", None, 1000, None)
DATA_OFFSET_BYTES: Final = 16 << 20
VIOLATED: Final = 60
GONE_SECONDS: Final = 10.0
NO_TERMS: Final = Terms()


def secret(data: bytes = PASSPHRASE) -> _core.Secret:
    """Return a secret with known bytes, the way a passphrase file becomes one."""
    return known_secret(data)


def enclave_command(boundary: str, state: Path | None = None) -> list[str]:
    """Return the command that starts an enclave."""
    return [
        *(*interpreting(sys.executable, PACKAGE), "--boundary", boundary),
        *("--tee", "process", "--state", str(state or state_directory())),
    ]


class Enclave:
    """A confined enclave process. The caller is its host, and may send what it wants."""

    def __init__(self, log: Path, state: Path | None = None) -> None:
        self.log = log
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(60)
        self.stream = UnixStream(self.socket)
        self.progress: list[str] = []
        self.client = HonestClient()
        self.caller = Caller(self.stream, registry_of(calls.OCALLS), self._on_ocall)
        with theirs, log.open("wb") as output:
            self.process = subprocess.Popen(
                enclave_command(f"fd:{theirs.fileno()}", state),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env={"PATH": "/usr/bin:/bin"},
            )

    def call(self, request: Call[ResultT]) -> ResultT:
        """Make a call as an honest client and host would."""
        answer = self.caller.call(self.client.bound(request))
        self.client.notice(answer)
        return answer

    def sealed(self, purpose: Purpose, data: bytes = PASSPHRASE, terms: Terms = NO_TERMS) -> Sealed:
        """Return a passphrase, sealed to a fresh key of the enclave."""
        key = self.call(calls.NewRecipient(purpose)).public_key
        return self.client.sealed(key, purpose, data, terms)

    def send(
        self, kind: int, name: str, fields: cbor.Value, descriptors: tuple[int, ...] = ()
    ) -> None:
        """Send any well-formed frame."""
        send_frame(self.stream, cbor.encode([kind, name, fields]), list(descriptors))

    def hear(self) -> cbor.Value:
        """Return the next frame of the enclave, decoded no further."""
        return cbor.decode(receive_frame(self.stream)[0])

    def load(self, image: Path, *, read_only: bool = False) -> calls.DiskFacts:
        """Pass an image."""
        with opened(image) as descriptor:
            return self.call(calls.LoadDisk(descriptor, None, read_only))

    def unlock(self, data: bytes = PASSPHRASE, terms: Terms = NO_TERMS) -> calls.Unlocked:
        """Unlock the loaded image."""
        return self.call(calls.Unlock(self.sealed("unlock", data, terms), discard=False))

    def exit_code(self, seconds: float = GONE_SECONDS) -> int:
        """Wait until the process has ended, and return its exit code."""
        return self.process.wait(seconds)

    def is_alive(self) -> bool:
        """Tell whether the process runs and answers."""
        return self.process.poll() is None and self.call(calls.Describe()).identity.simulated

    def close(self) -> None:
        """End the process, whatever it does."""
        self.socket.close()
        try:
            self.process.wait(GONE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def _on_ocall(self, received: Received) -> object:
        if isinstance(received.call, calls.ReportProgress):
            self.progress.append(received.call.stage)
        return calls.Done()


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    """Open a file for the length of a block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def creation(image: int, passphrase: calls.Sealed, **other: Any) -> calls.CreateVolume:  # noqa: ANN401 - any field
    """Return the call that makes a volume; ``other`` are fields with other values than usual."""
    usual = calls.CreateVolume(
        image=image,
        header=None,
        label="a label",
        sector_size_bytes=4096,
        key_bits=512,
        factors=("enclave", "passphrase"),
        seal_policy="signer",
        kdf=CHEAP,
        passphrase=passphrase,
        recovery_key_to=None,
    )
    return dataclasses.replace(usual, **other)


def new_volume(
    enclave: Enclave,
    image: Path,
    kdf: KdfParameters = CHEAP,
    *,
    factors: calls.Factors = ("enclave", "passphrase"),
    policy: calls.SealPolicy = "signer",
    recovery_key_to: bytes | None = None,
) -> calls.Created:
    """Make a volume of 20 MiB."""
    image.touch()
    os.truncate(image, 20 << 20)
    with opened(image) as descriptor:
        return enclave.call(
            creation(
                descriptor,
                enclave.sealed("format"),
                factors=factors,
                seal_policy=policy,
                kdf=kdf,
                recovery_key_to=recovery_key_to,
            )
        )


def serve(enclave: Enclave, path: Path) -> None:
    """Make the enclave serve its unlocked volume at a socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        enclave.call(calls.Serve(listener.fileno(), "volume", structured_replies=True))


def is_served(path: Path) -> bool:
    """Tell whether an NBD server greets at a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
            return client.recv(8) == b"NBDMAGIC"
        except OSError:
            return False


def await_silence(stream: socket.socket, seconds: float) -> bool:
    """Tell whether a stream ends within some time, whatever comes before."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([stream], [], [], left)[0]:
            return False
        try:
            if not stream.recv(65536):
                return True
        except ConnectionError:
            return True
    return False

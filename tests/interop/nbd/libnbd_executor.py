# SPDX-License-Identifier: Apache-2.0
"""Executes requests from standard input through libnbd; run by the Python that has libnbd.

Usage: ``libnbd_executor.py URI CONNECTIONS``. A request is a header and, for a write, its payload;
an answer is an error number, a length and what was read. Every second connection does without
structured replies, so that both kinds are served.
"""

import struct
import sys
from typing import BinaryIO

import nbd  # type: ignore[import-not-found]  # belongs to the system's Python

REQUEST = struct.Struct("<BBIQI")
"""Operation, connection, flags, offset, length."""
ANSWER = struct.Struct("<II")
"""Error number, length of what follows."""
READ, WRITE, ZERO, TRIM, FLUSH, CACHE = range(6)


def connect(uri: str, *, structured: bool) -> nbd.NBD:
    """Return a handle that checks nothing itself, so that the server has to."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(structured)
    handle.connect_uri(uri)
    return handle


def execute(handle: nbd.NBD, request: tuple[int, ...], payload: bytes) -> bytes:
    """Execute one request and return what it read."""
    operation, _connection, flags, offset, length = request
    if operation == READ:
        return bytes(handle.pread(length, offset, flags))
    if operation == WRITE:
        handle.pwrite(payload, offset, flags)
    elif operation == ZERO:
        handle.zero(length, offset, flags)
    elif operation == TRIM:
        handle.trim(length, offset, flags)
    elif operation == FLUSH:
        handle.flush()
    else:
        handle.cache(length, offset)
    return b""


def serve(handles: list[nbd.NBD], requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while header := requests.read(REQUEST.size):
        request = REQUEST.unpack(header)
        payload = requests.read(request[4]) if request[0] == WRITE else b""
        try:
            number, found = 0, execute(handles[request[1]], request, payload)
        except nbd.Error as err:
            number, found = err.errnum, b""
        answers.write(ANSWER.pack(number, len(found)) + found)
        answers.flush()


def main(uri: str, connections: int) -> None:
    """Connect, answer, and leave politely."""
    handles = [connect(uri, structured=number % 2 == 0) for number in range(connections)]
    serve(handles, sys.stdin.buffer, sys.stdout.buffer)
    for handle in handles:
        handle.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

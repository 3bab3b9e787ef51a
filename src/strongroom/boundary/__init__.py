# SPDX-License-Identifier: Apache-2.0
"""The line between the untrusted host and the enclave.

``calls`` declares every ecall and ocall once; ``schema`` turns a declaration into a strict decoder;
``cbor`` is the wire encoding; ``stream`` moves frames and file descriptors; ``channel`` joins them.
Nothing here knows what the calls do. See ``spec/boundary.md``.
"""

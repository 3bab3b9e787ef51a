# SPDX-License-Identifier: Apache-2.0
"""The untrusted side: processes, files, sockets, devices. No key is ever here.

``volumes`` is what the command line calls; ``daemon`` is the process that stands beside one enclave
for as long as a volume is open.
"""

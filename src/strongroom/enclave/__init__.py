# SPDX-License-Identifier: Apache-2.0
"""The trusted process: one volume, one boundary, nothing else.

``__main__`` enters the namespaces, ``running`` confines the process and answers ecalls, ``session``
is the state machine; the other modules are one concept each. Everything that comes from the host or
the disk is hostile here, and no key or passphrase is ever a Python object: only
:class:`strongroom._core.Secret` handles are.
"""

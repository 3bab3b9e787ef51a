# SPDX-License-Identifier: Apache-2.0
"""Measurements on this machine, side by side with other tools.

Everything is driven from outside, as an operator would: the installed ``strongroom``, and what it
is compared with, as processes. Nothing of the host or the enclave is imported.
"""

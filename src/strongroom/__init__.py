# SPDX-License-Identifier: Apache-2.0
"""Disk encryption whose key never leaves an enclave."""

__version__ = "0.1.0"

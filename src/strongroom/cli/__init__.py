# SPDX-License-Identifier: Apache-2.0
"""The command line: options and terminals in, text, JSON and exit codes out.

It asks the host for everything and decides nothing about volumes. One file per command lies in
``commands``; ``tree`` finds them, and ``main`` is the one place where errors end.
"""

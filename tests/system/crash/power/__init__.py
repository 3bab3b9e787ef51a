# SPDX-License-Identifier: Apache-2.0
"""Power cuts: what is written below a volume is recorded, and every cut of it is put back.

``filesystem`` records, ``journal`` reads the record, ``cuts`` makes of it what a disk may hold
after the power went, ``judge`` says whether such a disk still has its volume.
"""

# SPDX-License-Identifier: Apache-2.0
"""A minimal initramfs, written without root and without cpio.

The format is cpio "newc": a header of ASCII hexadecimal fields, the name, the data, each padded
to four bytes.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.guest.kernel import GuestKernel

MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
"""What the guest needs to see the host's root; callers add what their command needs."""

_DIRECTORIES = ("bin", "dev", "proc", "sys", "modules", "lower", "scratch", "root", "exchange")

# Not chroot: a process with a mount namespace of its own sees the files that it has mapped under
# their paths from the old one's root.
_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module" || echo "guest: insmod $module failed"
done < /modules/order
options=trans=virtio,version=9p2000.L,msize=524288
mount -t 9p -o ro,$options,cache=loose host /lower || poweroff -f
mount -t tmpfs scratch /scratch; mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work root /root \\
  || poweroff -f
for name in dev proc sys; do mount --move /$name /root/$name; done
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts; mount -t tmpfs shm /root/dev/shm
mount -t tmpfs run /root/run; mkdir -p /root/run/guest
mount -t 9p -o rw,$options,cache=none exchange /root/run/guest
ip link set lo up 2>/dev/null
exec switch_root /root /bin/busybox sh -c '
/bin/sh /run/guest/command > /run/guest/output 2>&1
echo $? > /run/guest/status
sync; /bin/busybox poweroff -f'
"""


@dataclass(slots=True)
class Archive:
    """A cpio archive in the making."""

    data: bytearray = field(default_factory=bytearray)
    entries: int = 0

    def add(self, name: str, content: bytes = b"", *, mode: int = stat.S_IFREG | 0o644) -> None:
        """Append one entry, owned by root."""
        encoded = name.encode() + b"\0"
        self.entries += 1
        fields = (self.entries, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self.data += b"070701" + b"".join(b"%08X" % value for value in fields)
        for part in (encoded, content):
            self.data += part
            self.data += bytes(-len(self.data) % 4)


def build_initramfs(kernel: GuestKernel, modules: tuple[str, ...], busybox: Path) -> bytes:
    """Return an initramfs that loads ``modules`` and runs the command of the exchange folder."""
    archive = Archive()
    for directory in _DIRECTORIES:
        archive.add(directory, mode=stat.S_IFDIR | 0o755)
    archive.add("init", _INIT.encode(), mode=stat.S_IFREG | 0o755)
    archive.add("bin/busybox", busybox.read_bytes(), mode=stat.S_IFREG | 0o755)
    files = kernel.closure((*MODULES, *modules))
    for path in files:
        archive.add(f"modules/{path.name}", path.read_bytes())
    archive.add("modules/order", "".join(f"{path.name}\n" for path in files).encode())
    archive.add("TRAILER!!!")
    return bytes(archive.data)

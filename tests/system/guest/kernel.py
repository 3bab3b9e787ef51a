# SPDX-License-Identifier: Apache-2.0
"""Find, or fetch, a Debian kernel with its modules for the guest.

The build machine's own kernel may lack what is to be tested (it has no NBD client), so the guest
boots a stock Debian kernel. An installed one is used if there is one; otherwise one that
``python tests/system/guest/kernel.py`` unpacked below the cache directory, without installing it.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "linux-image-amd64"
_MODULE_FOLDERS: Final = (
    "arch crypto drivers/block drivers/char drivers/md drivers/virtio fs lib mm net/9p"
)
_UNPACKED: Final = (
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.builtin",
    *(f"./lib/modules/*/kernel/{folder}/*" for folder in _MODULE_FOLDERS.split()),
)


class GuestKernelMissingError(Exception):
    """There is no kernel to boot; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """A kernel image and the directory of its modules."""

    image: Path
    modules: Path

    def closure(self, names: tuple[str, ...]) -> tuple[Path, ...]:
        """Return the files of the named modules and all they need, in an order that loads.

        Modules that are built into the kernel are left out.

        Raises:
            GuestKernelMissingError: A module is neither there nor built in.
        """
        files = {_module_name(path): path for path in self.modules.rglob("*.ko")}
        builtin = {
            _module_name(Path(line))
            for line in (self.modules / "modules.builtin").read_text().splitlines()
        }
        ordered: dict[str, Path] = {}

        def visit(name: str) -> None:
            if name in ordered or name in builtin:
                return
            if name not in files:
                raise GuestKernelMissingError(f"the kernel {self.image} has no module {name}")
            for needed in _needs(files[name]):
                visit(needed)
            ordered[name] = files[name]

        for name in names:
            visit(_module_name(Path(name)))
        return tuple(ordered.values())


def find_kernel() -> GuestKernel:
    """Return the newest kernel that is installed or in the cache.

    Raises:
        GuestKernelMissingError: There is none.
    """
    found = sorted(
        (kernel for root in (Path("/"), _cache_directory()) for kernel in _kernels_below(root)),
        key=lambda kernel: [int(part) for part in re.findall(r"\d+", kernel.image.name)],
    )
    if not found:
        raise GuestKernelMissingError(
            "no Debian kernel to boot: run python tests/system/guest/kernel.py, "
            f"or apt-get install {PACKAGE}"
        )
    return found[-1]


def fetch_kernel() -> GuestKernel:
    """Download Debian's kernel package and unpack what a guest needs into the cache."""
    cache = _cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    depends = subprocess.run(
        ["apt-cache", "depends", PACKAGE], check=True, capture_output=True, text=True
    ).stdout
    match = re.search(r"Depends: (linux-image-\S+)", depends)
    if match is None:
        raise GuestKernelMissingError(f"apt knows no {PACKAGE}: run apt-get update")
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        subprocess.run(["apt-get", "download", "-qq", match[1]], check=True, cwd=directory)
        (package,) = Path(directory).glob("*.deb")
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as archive:
            subprocess.run(
                ["tar", "-x", "-C", str(cache), "--wildcards", *_UNPACKED],
                check=True,
                stdin=archive.stdout,
            )
    return find_kernel()


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "strongroom-guest"


def _kernels_below(root: Path) -> Iterator[GuestKernel]:
    for image in (root / "boot").glob("vmlinuz-*"):
        modules = root / "lib/modules" / image.name.removeprefix("vmlinuz-")
        if (modules / "modules.builtin").is_file() and any(modules.rglob("nbd.ko")):
            yield GuestKernel(image, modules)


def _module_name(path: Path) -> str:
    return path.name.removesuffix(".ko").replace("-", "_")


def _needs(module: Path) -> tuple[str, ...]:
    """Read ``depends=`` from the module's .modinfo, whose entries end in a zero byte."""
    match = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    names = match[1].decode().split(",") if match else []
    return tuple(_module_name(Path(name)) for name in names if name)


if __name__ == "__main__":
    print(fetch_kernel().image)
    sys.exit(0)

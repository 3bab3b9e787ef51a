# SPDX-License-Identifier: Apache-2.0
"""Fill in Gramine's manifest for the Python and the Strongroom that run this.

    .venv/bin/python scripts/gramine_manifest.py --image /srv/vault.img --output build/gramine

The manifest is for one image, and its detached header if it has one. Needs no Gramine; signing
what comes out does: ``gramine-sgx-sign``.
"""

import argparse
import sys
import sysconfig
from pathlib import Path
from typing import Final

import strongroom
from strongroom.host.contracts import ImageReference
from strongroom.host.starting import StartDisk
from strongroom.host.state import state_directory
from strongroom.tee.process.measure import measured_files
from strongroom.tee.process.signature import PRODUCT_ID, SECURITY_VERSION

TEMPLATE: Final = Path(__file__).parents[1] / "deploy/gramine/strongroom.manifest.template"
NAME: Final = "strongroom.manifest"
LIBOS: Final = "/usr/lib/x86_64-linux-gnu/gramine/libsysdb.so"
RUNTIME: Final = "/usr/lib/x86_64-linux-gnu/gramine/runtime/glibc"
"""Where Gramine's Debian package puts its own loader and C library, which replace the machine's."""


def render(
    image: Path,
    header: Path | None = None,
    *,
    attestation: str,
    enclave_size: str,
    libos: str = LIBOS,
) -> str:
    """Return the manifest for one image, and its detached header if it has one.

    Raises:
        ValueError: A path has a character that the manifest cannot hold.
    """
    trusted = trusted_paths()
    disk = StartDisk(ImageReference(image, header), read_only=False).arguments()
    files = disk[1::2]
    values = {
        "python": str(Path(sys.executable).absolute()),
        "start": str(Path(strongroom.__file__).resolve().parent / "enclave" / "start.py"),
        "libos": libos,
        "disk": ", ".join(f'"{word}"' for word in disk),
        "files": "\n".join(f'  {{ path = "{file}", uri = "file:{file}" }},' for file in files),
        "allowed": ", ".join(f'"file:{file}"' for file in files),
        "runtime": RUNTIME,
        "libraries": ":".join(str(path) for path in library_folders()),
        "mounts": "\n".join(
            f'  {{ path = "{path}", uri = "file:{path}" }},'
            for path in (*library_folders(), *(path for path in trusted if not _is_library(path)))
        ),
        "trusted": "\n".join(f'  "file:{_uri(path)}",' for path in trusted),
        "enclave_size": enclave_size,
        "attestation": attestation,
        "product_id": str(PRODUCT_ID),
        "security_version": str(SECURITY_VERSION),
    }
    if any(forbidden in str(path) for path in (*files, *trusted) for forbidden in '"\\\n{}'):
        raise ValueError("a path has a quote, a backslash, a brace or a line break in it")
    text = TEMPLATE.read_text()
    for name, value in values.items():
        text = text.replace("{{ " + name + " }}", value)
    return text


def trusted_paths() -> tuple[Path, ...]:
    """Return what the enclave runs: whole folders of Python, and single libraries beside them."""
    folders = {
        Path(sysconfig.get_path("stdlib")).resolve(),
        Path(sysconfig.get_path("stdlib")),
        Path(strongroom.__file__).resolve().parent,
    }
    single = {Path(sys.executable).absolute(), Path(sys.executable).resolve()}
    # By which the interpreter of a virtual environment finds its library.
    settings = Path(sysconfig.get_path("purelib")).parents[2] / "pyvenv.cfg"
    single |= {settings} if settings.exists() else set()
    single |= {path.resolve() for path in measured_files().values()} - {Path(__file__).resolve()}
    # The loader asks for a library by its soname, which is a link beside it.
    for library in [path for path in single if _is_library(path)]:
        single |= {link for link in library.parent.iterdir() if link.resolve() == library}
    inside = {path for path in single if any(path.is_relative_to(folder) for folder in folders)}
    return tuple(sorted(folders | (single - inside)))


def library_folders() -> tuple[Path, ...]:
    """Return where the libraries are that the interpreter and the core are linked with."""
    return tuple(
        sorted({path.resolve().parent for path in measured_files().values() if _is_library(path)})
    )


def _is_library(path: Path) -> bool:
    # Extension modules lie in the folders of Python, and are none of these.
    return (
        ".so" in path.name
        and "python3" not in path.parent.as_posix()
        and ("site-packages" not in path.parts and path.parent != Path(strongroom.__file__).parent)
    )


def _uri(path: Path) -> str:
    return f"{path}/" if path.is_dir() else str(path)


def main() -> int:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--header", type=Path, help="of a volume whose header is detached")
    parser.add_argument("--output", type=Path, default=Path("build/gramine"))
    parser.add_argument("--attestation", choices=("none", "dcap"), default="dcap")
    parser.add_argument("--enclave-size", default="1G")
    options = parser.parse_args()
    # Loaded here so that it is measured: the libraries that the enclave maps are then known.
    __import__("strongroom.enclave.session")
    text = render(
        options.image,
        options.header,
        attestation=options.attestation,
        enclave_size=options.enclave_size,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / NAME
    target.write_text(text)
    sys.stdout.write(
        f"{target}\n"
        f"next: cd {options.output}\n"
        f"      gramine-sgx-sign --manifest {NAME} --output {NAME}.sgx --key YOUR-SIGNING-KEY\n"
        f"      install -D -t {state_directory() / 'gramine'} {NAME}.sgx strongroom.sig\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

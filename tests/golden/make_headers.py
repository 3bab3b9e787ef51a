# SPDX-License-Identifier: Apache-2.0
"""Make the golden headers with the installed cryptsetup: ``python tests/golden/make_headers.py``.

Each ``headers/NAME.gz`` holds both header copies of a volume, that is its first ``2 * hdr_size``
bytes, without the keyslots area; ``headers/manifest.json`` says what they are. No root is needed.
What was released stays: new kinds get new names, and old files are not made again.
"""

import gzip
import json
import subprocess
import tempfile
from pathlib import Path

HEADERS = Path(__file__).parent / "headers"
PASSPHRASE = b"golden"
IMAGE_BYTES = 32 * 1024 * 1024
PBKDF2 = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]


def argon2(variant: str) -> list[str]:
    cost = ["--pbkdf-memory", "64", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "2"]
    return ["--pbkdf", variant, *cost]


# Name, options of luksFormat, further commands (with "IMAGE" for the image or header file).
KINDS: list[tuple[str, list[str], list[list[str]]]] = [
    ("pbkdf2-sha256-4096", [*PBKDF2, "--sector-size", "4096"], []),
    ("pbkdf2-sha1-512", [*PBKDF2, "--hash", "sha1", "--sector-size", "512"], []),
    ("pbkdf2-sha512-1024", [*PBKDF2, "--hash", "sha512", "--sector-size", "1024"], []),
    ("argon2id-2048", [*argon2("argon2id"), "--sector-size", "2048"], []),
    ("argon2i-256-bit", [*argon2("argon2i"), "--key-size", "256"], []),
    ("cbc-essiv", [*PBKDF2, "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"], []),
    ("label", [*PBKDF2, "--label", "golden \u2728", "--subsystem", "tests"], []),
    ("header-1m", [*PBKDF2, "--luks2-metadata-size", "1m", "--luks2-keyslots-size", "4m"], []),
    (
        "slots-and-tokens",
        PBKDF2,
        [
            ["luksAddKey", *argon2("argon2id"), "IMAGE", "KEYFILE2"],
            ["luksAddKey", *PBKDF2, "--unbound", "--key-size", "256", "IMAGE", "KEYFILE2"],
            ["config", "--priority", "prefer", "--key-slot", "1", "IMAGE"],
            ["token", "add", "--key-description", "golden", "IMAGE"],
        ],
    ),
    ("detached", [*PBKDF2, "--header", "IMAGE"], []),
]


def make(name: str, options: list[str], further: list[list[str]], where: Path) -> dict[str, object]:
    detached = "--header" in options
    image, header = where / f"{name}.img", where / f"{name}.header"
    target = header if detached else image
    keyfiles = {"KEYFILE": where / "key", "KEYFILE2": where / "key2"}
    for path in keyfiles.values():
        path.write_bytes(PASSPHRASE)
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    substitutes = {"IMAGE": str(target), **{key: str(path) for key, path in keyfiles.items()}}
    key = ["--key-file", str(keyfiles["KEYFILE"]), "--batch-mode"]
    uuid = ["--uuid", "01234567-89ab-4cde-8f01-23456789abcd"]
    commands = [["luksFormat", "--type", "luks2", *uuid, *options, str(image)], *further]
    for command in commands:
        words = [substitutes.get(word, word) for word in command]
        extra = key if command[0].startswith("luks") else ["--batch-mode"]
        subprocess.run(["cryptsetup", *words, *extra], check=True, stdin=subprocess.DEVNULL)
    data = target.read_bytes()
    both = 2 * int.from_bytes(data[8:16], "big")
    # A fixed time of 0 keeps the file the same for the same bytes.
    (HEADERS / f"{name}.gz").write_bytes(gzip.compress(data[:both], mtime=0))
    return {"image_size_bytes": len(data), "detached": detached}


def main() -> None:
    version = subprocess.run(["cryptsetup", "--version"], check=True, capture_output=True)
    HEADERS.mkdir(exist_ok=True)
    manifest: dict[str, object] = {"made_by": version.stdout.decode().split(" flags")[0].strip()}
    with tempfile.TemporaryDirectory() as where:
        manifest["headers"] = {
            name: make(name, options, further, Path(where)) for name, options, further in KINDS
        }
    (HEADERS / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()

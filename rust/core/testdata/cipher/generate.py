# SPDX-License-Identifier: Apache-2.0

"""Make the known answers in this folder.

Usage: ``python generate.py``, with ``cryptography`` and ``cryptography_vectors`` of the same
version installed. PROVENANCE.md tells where each answer comes from. The output is the same on
every run.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FOLDER = Path(__file__).parent
MASK_64 = 2**64 - 1

KEY_1 = "27182818284590452353602874713526"
KEY_2 = "31415926535897932384626433832795"
KEY_3 = (
    "2718281828459045235360287471352662497757247093699959574966967627"
    "3141592653589793238462643383279502884197169399375105820974944592"
)

# IEEE 1619-2007, annex B: vector, key, data unit number, first block of the published ciphertext.
# 4 to 9 encrypt the result of the data unit before; 10 to 14 start from the counting plaintext.
CHAIN = {
    0x00: (4, "27a7479befa1d476489f308cd4cfa6e2"),
    0x01: (5, "264d3ca8512194fec312c8c9891f279f"),
    0x02: (6, "fa762a3680b76007928ed4a4f49a9456"),
    0xFD: (7, "d55f684f81f4426e9fde92a5ff02df2a"),
    0xFE: (8, "72efc1ebfe1ee25975a6eb3aa8589dda"),
    0xFF: (9, "3260ae8dad1f4a32c5cafe3ab0eb9554"),
}
LONG_NUMBERS = {
    0xFF: (10, "1c3b3a102f770386e4836c99e370cf9b"),
    0xFFFF: (11, "77a31251618a15e6b92d1d66dffe7b50"),
    0xFFFFFF: (12, "e387aaa58ba483afa7e8eb469778317e"),
    0xFFFFFFFF: (13, "bf53d2dade78e822a4d949a9bc6766b0"),
    0xFFFFFFFFFF: (14, "64497e5a831e4a932c09be3e5393376d"),
}
SHORT = (
    (
        1,
        "00" * 32,
        0,
        "00" * 32,
        "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
    ),
    (
        2,
        "11" * 16 + "22" * 16,
        0x3333333333,
        "44" * 32,
        "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
    ),
    (
        3,
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0" + "22" * 16,
        0x3333333333,
        "44" * 32,
        "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
    ),
)

# SP 800-38A, F.1: keys and ciphertexts; the plaintext is common.
SP_PLAINTEXT = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
SP_ECB = {
    "2b7e151628aed2a6abf7158809cf4f3c": "3ad77bb40d7a3660a89ecaf32466ef97"
    "f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed030688"
    "7b0c785e27e8ad3f8223207104725dd4",
    "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": "bd334f1d6e45f25ff712a214571fa5cc"
    "974104846d0ad3ad7734ecb3ecee4eefef7afd2270e2e60adce0ba2face6444e"
    "9a4b41ba738d6c72fb16691603c18e0e",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": (
        "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870"
        "b6ed21b99ca6f4f9f153e7b1beafed1d23304b7a39f9f3ff067d8d8f9e24ecc7"
    ),
}

SECTOR_NUMBERS = (0, 1, 7, 12345, 2**32 - 5, 2**32 + 1, 2**40 + 3, 2**63, 2**64 - 40)


def main() -> None:
    """Write the three files."""
    write("aes_ecb.csv", ("source", "key", "plaintext", "ciphertext"), ecb_rows())
    write("aes_xts.csv", ("source", "key", "sector", "plaintext", "ciphertext"), xts_rows())
    columns = ("cipher", "key", "sector_size", "first_sector_512", "sectors", "output_sha256")
    write("sectors.csv", columns, sector_rows())


def write(name: str, columns: Sequence[str], rows: Iterator[tuple[object, ...]]) -> None:
    """Write one file with a line of column names."""
    with (FOLDER / name).open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def ecb_rows() -> Iterator[tuple[object, ...]]:
    """Yield FIPS 197, SP 800-38A and CAVP answers."""
    plaintext = bytes(index * 0x11 for index in range(16)).hex()
    for size, ciphertext in (
        (16, "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (24, "dda97ca4864cdfe06eaf70a0ec0d7191"),
        (32, "8ea2b7ca516745bfeafc49904b496089"),
    ):
        yield "FIPS 197 C", bytes(range(size)).hex(), plaintext, ciphertext
    for key, ciphertext in SP_ECB.items():
        yield "SP 800-38A F.1", key, SP_PLAINTEXT, ciphertext
    for bits in (128, 192, 256):
        for kind in ("GFSbox", "KeySbox", "MMT"):
            name = f"ECB{kind}{bits}"
            for case in cavp_cases(f"ECB/{name}.rsp"):
                yield f"CAVP {name}", case["KEY"], case["PLAINTEXT"], case["CIPHERTEXT"]


def xts_rows() -> Iterator[tuple[object, ...]]:
    """Yield IEEE 1619 and CAVP answers of whole blocks."""
    for number, key, sector, plaintext, ciphertext in SHORT:
        yield f"IEEE 1619 vector {number}", key, sector, plaintext, ciphertext
    data = bytes(range(256)) * 2
    for sector in range(256):
        result = xts(bytes.fromhex(KEY_1 + KEY_2), sector, data)
        if sector in CHAIN:
            yield published(CHAIN[sector], KEY_1 + KEY_2, sector, plaintext=data, ciphertext=result)
        data = result
    data = bytes(range(256)) * 2
    for sector, vector in LONG_NUMBERS.items():
        result = xts(bytes.fromhex(KEY_3), sector, data)
        yield published(vector, KEY_3, sector, plaintext=data, ciphertext=result)
    for bits in (128, 256):
        name = f"XTSGenAES{bits}"
        cases = [
            case
            for case in cavp_cases(f"XTS/tweak-dataunitseqno/{name}.rsp")
            if int(case["DATAUNITLEN"]) % 128 == 0
        ]
        for _, group in groupby(cases, lambda case: case["DATAUNITLEN"]):
            for case in list(group)[:40]:
                sector = int(case["DATAUNITSEQNUMBER"])
                yield f"CAVP {name}", case["KEY"], sector, case["PT"], case["CT"]


def published(
    vector: tuple[int, str], key: str, sector: int, *, plaintext: bytes, ciphertext: bytes
) -> tuple[object, ...]:
    """Return a row after comparing it with the published first block."""
    number, first_block = vector
    if ciphertext[:16].hex() != first_block:
        raise SystemExit(f"IEEE 1619 vector {number} differs")
    return f"IEEE 1619 vector {number}", key, sector, plaintext.hex(), ciphertext.hex()


def cavp_cases(name: str) -> Iterator[dict[str, str]]:
    """Yield the cases of one CAVP response file, with upper-case field names."""
    folder = resources.files("cryptography_vectors") / "ciphers/AES"
    case: dict[str, str] = {}
    for line in (folder / name).read_text(encoding="ascii").splitlines():
        field, equals, value = line.partition(" = ")
        if field == "COUNT":
            case = {}
        if equals:
            case[field.upper()] = value
        if field.upper() in {"PLAINTEXT", "CIPHERTEXT", "PT", "CT"} and (
            {"PLAINTEXT", "CIPHERTEXT"} <= case.keys() or {"PT", "CT"} <= case.keys()
        ):
            yield case


def sector_rows() -> Iterator[tuple[object, ...]]:
    """Yield what OpenSSL makes of ``stream(row)``, sector by sector.

    aes-xts-plain64 encrypts it, aes-cbc-essiv:sha256 decrypts it.
    """
    row = 0
    for cipher, key_sizes in (("aes-xts-plain64", (32, 64)), ("aes-cbc-essiv:sha256", (16, 32))):
        for key_size in key_sizes:
            for sector_size in (512, 1024, 2048, 4096):
                for first in SECTOR_NUMBERS:
                    sectors = 1 + row * 5 % 23
                    key = hashlib.shake_256(f"key {row}".encode()).digest(key_size)
                    data = stream(row, sectors * sector_size)
                    output = transform(cipher, key, data, sector_size=sector_size, first=first)
                    digest = hashlib.sha256(output).hexdigest()
                    yield cipher, key.hex(), sector_size, first, sectors, digest
                    row += 1


def stream(row: int, length: int) -> bytes:
    """Return the input of a row: SHA-256 of "row counter", for counters from 0, joined."""
    blocks = (hashlib.sha256(f"{row} {index}".encode()).digest() for index in range(length // 32))
    return b"".join(blocks)


def transform(cipher: str, key: bytes, data: bytes, *, sector_size: int, first: int) -> bytes:
    """Transform whole sectors, each by itself; sector numbers count 512 bytes and wrap."""
    output = bytearray()
    for offset in range(0, len(data), sector_size):
        number = (first + offset // 512) & MASK_64
        sector = data[offset : offset + sector_size]
        if cipher == "aes-xts-plain64":
            output += xts(key, number, sector)
        else:
            output += cbc_essiv(key, number, sector)
    return bytes(output)


def xts(key: bytes, number: int, data: bytes) -> bytes:
    """Encrypt one data unit."""
    encryptor = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def cbc_essiv(key: bytes, number: int, data: bytes) -> bytes:
    """Decrypt one sector."""
    essiv = Cipher(algorithms.AES(hashlib.sha256(key).digest()), modes.ECB()).encryptor()  # noqa: S305 - ESSIV is defined so
    iv = essiv.update(number.to_bytes(16, "little")) + essiv.finalize()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


if __name__ == "__main__":
    main()

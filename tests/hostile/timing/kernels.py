# SPDX-License-Identifier: Apache-2.0
"""What the AES kernels are made of, and whether it can depend on a secret how long they take.

Secret are the key, the data and the tweaks: all that the kernels load. They stay in vector
registers, and `eax` carries words of the key during its expansion. If nothing loaded reaches any
other general register or the flags, all branches and addresses depend on lengths and pointers only.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FUNCTION: Final = re.compile(
    r"^[0-9a-f]+ <strongroom_sys::aes::x86::((?:aes_ni|vaes_avx2|vaes_avx512|expand)::\w+?)"
    r"(?:::h[0-9a-f]+)?>:$"
)
_INSTRUCTION: Final = re.compile(r"^\s+[0-9a-f]+:\s+(\S+)\s*([^#<]*)")
_VECTOR_REGISTER: Final = re.compile(r"^[xyz]mm\d+|^k[1-7]")
_MOVES_TO_VECTOR: Final = {"movd", "vmovd", "vmovq", "kmovw", "vpbroadcastq", "vpbroadcastd"}
_ARITHMETIC: Final = {
    *("add", "sub", "inc", "dec", "neg", "xor", "cmp", "test", "shl", "shr", "imul", "bzhi"),
    *("xchg", "cmovne", "lea"),
}
_JUMPS: Final = {"jmp", "je", "jne", "jb", "jae", "ja", "jbe"}
_ARGUMENT: Final = "QWORD PTR [rsp+0x8]"
"""The seventh, an address."""
_FILLING: Final = {"nop", "nopw", "nopl", "cs", "data16", "int3"}
_ENDING: Final = {"vzeroall", "ret"}
_VECTOR: Final = re.compile(
    r"^v?(?:aes(?:enc|dec)(?:last)?|aesimc|movdq[au](?:32|64)?|p?xor[dq]?|pternlogq|psll(?:dq?|q)"
    r"|psr(?:ldq|ad)|pclmul\w+|pshuf[bd]|pand|paddq|por|pcmpeqd|movss|pmovzxbq"
    r"|broadcast(?:i32x4|i128)|pbroadcastd|pxor[dq]?|movd)$|^kshiftlw$"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a disassembly in Intel's notation."""

    name: str
    operands: tuple[str, ...]

    @property
    def memory(self) -> str | None:
        """The operand in memory."""
        return next((operand for operand in self.operands if "[" in operand), None)


def disassembled(program: Path) -> dict[str, list[Instruction]]:
    """Return the kernels in a program by name."""
    listing = subprocess.run(
        ["objdump", "--disassemble", "--demangle", "-M", "intel", "--no-show-raw-insn", program],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] | None = None
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = _FUNCTION.match(line)
            current = found.setdefault(function[1], []) if function else None
        elif current is not None and (instruction := parse(line)):
            current.append(instruction)
    return found


def parse(line: str) -> Instruction | None:
    """Read one line; ``None`` if there is no instruction, or one that only fills space."""
    parts = _INSTRUCTION.match(line)
    if parts is None or parts[1] in _FILLING:
        return None
    operands = tuple(operand.strip() for operand in parts[2].split(",") if operand.strip())
    return Instruction(parts[1], operands)


def leaks(kernel: list[Instruction], *, words_in_eax: bool) -> list[Instruction]:
    """Return the instructions by which a secret could reach an address or a branch."""
    found = []
    public_eax = not words_in_eax
    for instruction in kernel:
        if not _is_harmless(instruction, words_in_eax=words_in_eax, public_eax=public_eax):
            found.append(instruction)
        if instruction.name in _JUMPS:
            public_eax = not words_in_eax
        elif instruction.operands[:1] == ("eax",) and instruction.name in {"mov", "xor", "lea"}:
            public_eax = not words_in_eax or instruction.memory is None or instruction.name == "lea"
    return found


def _is_harmless(instruction: Instruction, *, words_in_eax: bool, public_eax: bool) -> bool:
    name, operands, memory = instruction.name, instruction.operands, instruction.memory
    if memory is not None and re.search(r"[xyz]mm|[re]ax", memory):
        return False
    if name in _JUMPS or name in _ENDING:
        return True
    if name in {"mov", "movabs"}:
        is_load = memory is not None and memory is not operands[0] and memory != _ARGUMENT
        return not is_load or (words_in_eax and operands[0] == "eax")
    if name in _ARITHMETIC:
        reads_eax = "eax" in operands and operands != ("eax", "eax")
        return (memory is None or name == "lea") and (public_eax or not reads_eax)
    if name in _MOVES_TO_VECTOR and _VECTOR_REGISTER.match(operands[0]):
        return True
    return bool(_VECTOR.match(name)) and all(
        operand is memory or _VECTOR_REGISTER.match(operand) or operand.startswith("0x")
        for operand in operands
    )

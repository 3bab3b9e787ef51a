// SPDX-License-Identifier: Apache-2.0
//! `memcpy` and `memmove` that leave nothing in vector registers.
//!
//! Every library that computes on a key copies it, and the C library's `memcpy` does so through
//! vector registers that little else uses (`ymm16` and above, where the processor has them). What
//! was copied stays there, in view of a debugger or core dump, until something overwrites it: for
//! the seconds of a key derivation, say. These two take the C library's place for all code that is
//! linked with this crate, and for that code only: the symbols are hidden. `rep movsb` moves bytes
//! without any register, and at the speed of memory on processors of the last ten years.
//!
//! There is nothing to call here.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the only way to define a hidden symbol")
)]

// SAFETY: both functions do what the C standard says of their names, touch no other memory, and
// change no register that the System V ABI makes a callee keep.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".section .text.strongroom_copying, \"ax\", @progbits",
    ".hidden memcpy",
    ".globl memcpy",
    ".type memcpy, @function",
    ".p2align 4",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".size memcpy, . - memcpy",
    // Forward unless the target starts inside the source; the direction flag is clear on entry and
    // must be so on return (System V ABI, 3.2.1).
    ".hidden memmove",
    ".globl memmove",
    ".type memmove, @function",
    ".p2align 4",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    ".size memmove, . - memmove",
    ".text",
);

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    /// Copies through the library call, whatever the optimiser would rather do.
    fn moved(from: usize, to: usize, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        black_box(&mut bytes).copy_within(black_box(from..from + len), black_box(to));
        bytes
    }

    #[test]
    fn moves_are_right_for_every_overlap() {
        for len in [0, 1, 15, 16, 17, 63, 300] {
            for (from, to) in [
                (0, 0),
                (0, 1),
                (1, 0),
                (100, 350),
                (350, 100),
                (100, 399),
                (200, 210),
            ] {
                let mut expected: Vec<u8> = (0..=255).cycle().take(1000).collect();
                for (at, place) in expected[to..to + len].iter_mut().enumerate() {
                    *place = u8::try_from((from + at) % 256).unwrap();
                }
                assert_eq!(moved(from, to, len), expected, "{len} from {from} to {to}");
            }
        }
    }

    #[test]
    fn copies_are_right_for_every_length() {
        let source: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for len in (0..200).chain([4095, 4096, 5000]) {
            let mut target = vec![0; len];
            black_box(&mut target[..]).copy_from_slice(black_box(&source[..len]));
            assert_eq!(target, source[..len]);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the kernels leave in registers.

#![expect(unsafe_code, reason = "calling kernels and looking at registers")]

use std::arch::naked_asm;

use super::*;
use crate::aes::SCHEDULE_BYTES;

/// Vector registers of 64 bytes, then rax, rcx, rdx, rsi, rdi, r8, r9, r10 and r11.
#[repr(C, align(64))]
struct Registers {
    vector: [[u8; 64]; 32],
    general: [u64; 9],
}

/// How much of the vector registers there is to look at.
#[derive(Clone, Copy)]
enum Width {
    Sse = 0,
    Avx = 1,
    Avx512 = 2,
}

impl Width {
    fn of_this_cpu() -> Self {
        if is_x86_feature_detected!("avx512f") {
            Self::Avx512
        } else if is_x86_feature_detected!("avx") {
            Self::Avx
        } else {
            Self::Sse
        }
    }
}

/// Calls a kernel with seven words and stores what it leaves in all registers a callee may change.
///
/// The vector registers that the kernel does not touch are zero.
#[unsafe(naked)]
unsafe extern "sysv64" fn call(
    kernel: *const (),
    arguments: *const [u64; 7],
    found: *mut Registers,
    width: u64,
) {
    naked_asm!(
        r"
    push rbx
    push r12
    push r13
    mov rbx, rdx
    mov r12, rcx
    mov rax, rdi
    mov r10, rsi
    mov rdi, [r10]
    mov rsi, [r10 + 8]
    mov rdx, [r10 + 16]
    mov rcx, [r10 + 24]
    mov r8, [r10 + 32]
    mov r9, [r10 + 40]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    pxor xmm\n, xmm\n
    .endr
    cmp r12d, 1
    jb 3f
    vzeroall
    je 3f
    .irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vpxord zmm\n, zmm\n, zmm\n
    .endr
3:
    sub rsp, 8
    push [r10 + 48]
    call rax
    lea rsp, [rsp + 16]
    mov [rbx + 2048], rax
    mov [rbx + 2056], rcx
    mov [rbx + 2064], rdx
    mov [rbx + 2072], rsi
    mov [rbx + 2080], rdi
    mov [rbx + 2088], r8
    mov [rbx + 2096], r9
    mov [rbx + 2104], r10
    mov [rbx + 2112], r11
    cmp r12d, 1
    je 4f
    ja 5f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu [rbx + 64*\n], xmm\n
    .endr
    jmp 6f
4:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu [rbx + 64*\n], ymm\n
    .endr
    vzeroall
    jmp 6f
5:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu64 [rbx + 64*\n], zmm\n
    .endr
    .irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 [rbx + 64*\n], zmm\n
    .endr
    vzeroall
6:
    pop r13
    pop r12
    pop rbx
    ret
",
        options(raw),
    );
}

/// The registers after a kernel that got these arguments.
fn registers_after(kernel: *const (), arguments: [usize; 7]) -> Registers {
    // Not zero, so that a register that is not stored fails the test.
    let mut found = Registers {
        vector: [[0; 64]; 32],
        general: [u64::MAX; 9],
    };
    let arguments = arguments.map(|word| word as u64);
    let width = Width::of_this_cpu() as u64;
    // SAFETY: each caller passes a kernel and arguments that fit it; `found` has the layout that
    // `call` writes, and the width is one this CPU has.
    unsafe {
        call(kernel, &raw const arguments, &raw mut found, width);
    }
    found
}

fn assert_clean(found: &Registers, schedule: &[u8], what: &str) {
    for (number, register) in found.vector.iter().enumerate() {
        assert_eq!(*register, [0; 64], "{what}: vector register {number}");
    }
    let (words, _) = schedule.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    for general in found.general {
        for half in [general, general >> 32] {
            let half = u32::try_from(half & 0xffff_ffff).unwrap();
            // Words that a pointer or a counter may have by chance are not words of this key.
            assert!(half == 0 || !words.contains(&half), "{what}: {general:x}");
        }
    }
}

#[repr(align(64))]
struct Memory([u8; SCHEDULE_BYTES]);

const KEY: [u8; 32] = *b"\xd1\x9e\x73\xc4\xa5\x86\xf7\x48\xb9\xea\x2b\xcc\x6d\xfe\x8f\x90\
    \x91\xa2\xb3\xc4\xd5\xe6\xf7\x98\x89\x7a\x6b\x5c\x4d\x3e\x2f\x91";

#[test]
fn no_kernel_leaves_anything_in_a_register() {
    let backends = [Backend::VaesAvx512, Backend::VaesAvx2, Backend::AesNi];
    for backend in backends.into_iter().filter(|one| one.is_available()) {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            for words in [4, 6, 8] {
                let set = KernelSet::of(backend, direction);
                let what = format!("{backend} {direction:?} {words}");
                let mut memory = Memory([0; SCHEDULE_BYTES]);
                let keys = memory.0.as_mut_ptr().addr();
                let last = (words + 6) * ROUND_KEY_STRIDE;
                let arguments = [KEY.as_ptr().addr(), keys, words, last, 0, 0, 0];
                let found = registers_after(set.expand as *const (), arguments);
                assert!(memory.0[last..last + 16] != [0; 16], "{what}: not called");
                assert_clean(&found, &memory.0, &what);
                for blocks in [1, 3, 4, 35] {
                    let mut data = [0x5a_u8; 35 * 16];
                    let arguments = [data.as_mut_ptr().addr(), blocks, keys, last, 0, 0, 0];
                    let found = registers_after(set.ecb as *const (), arguments);
                    assert!(data[..16] != [0x5a; 16], "{what}: not called");
                    assert_clean(&found, &memory.0, &what);
                }
                for (sectors, units) in [(1, 1), (1, 3), (3, 1)] {
                    let mut data = [0x5a_u8; 1536];
                    let tweaks = [0xc3_u8; 48];
                    let found = registers_after(
                        set.xts as *const (),
                        [
                            data.as_mut_ptr().addr(),
                            tweaks.as_ptr().addr(),
                            sectors,
                            units,
                            keys,
                            last,
                            data.as_mut_ptr().addr(),
                        ],
                    );
                    assert!(data[..16] != [0x5a; 16], "{what}: not called");
                    assert_clean(&found, &memory.0, &what);
                }
            }
        }
    }
}

/// The test above can fail: a value left in the last byte of any register is seen.
#[test]
fn what_is_left_is_found() {
    #[unsafe(naked)]
    unsafe extern "sysv64" fn leaves_something() {
        naked_asm!(
            "mov eax, 0x91",
            "movd xmm7, eax",
            "pslldq xmm7, 15",
            "mov eax, 0xc4739ed1",
            "ret"
        );
    }
    let found = registers_after(leaves_something as *const (), [0; 7]);
    assert_eq!(found.vector[7][15], 0x91);
    assert_eq!(found.general[0], 0xc473_9ed1);
}

// SPDX-License-Identifier: Apache-2.0
//! Key expansion in words of 32 bits, so that no register ever holds a round key.
//!
//! `eax` is the one register that holds key words; `xmm0` holds copies of a single word, or what
//! the S-box or `InvMixColumns` made of it. First the round keys are made in a row in the work area
//! at 960; then each is spread to fill its 64 bytes at the front, and the work area is zeroed.
//! Legacy SSE encodings: they run on every CPU with AES-NI, and the upper halves are clean here.
//!
//! Spec: FIPS 197, 5.2; for decryption the "equivalent inverse cipher", 5.3.5.

#![expect(unsafe_code, reason = "every function is a kernel in assembly")]

use std::arch::naked_asm;

/// Makes the schedule for encryption; `(key, memory, key words, last round key's distance)`.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn encrypt(
    key: *const u8,
    memory: *mut u8,
    words: usize,
    last: usize,
) {
    naked_asm!(
        packed_round_keys!(),
        r"
    // r8 runs over packed round keys until r9, rsi over their places.
6:
    .irp at, 0,4,8,12
    mov eax, [r8 + \at]
    mov [rsi + \at], eax
    mov [rsi + \at + 16], eax
    mov [rsi + \at + 32], eax
    mov [rsi + \at + 48], eax
    .endr
    add r8, 16
    add rsi, 64
    cmp r8, r9
    jb 6b
",
        clean_up!(),
        options(raw),
    );
}

/// Makes the schedule for decryption: the round keys in reverse order, all but the outer two
/// passed through `InvMixColumns`. Parameters as for [`encrypt`].
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn decrypt(
    key: *const u8,
    memory: *mut u8,
    words: usize,
    last: usize,
) {
    naked_asm!(
        packed_round_keys!(),
        r"
    // r8 runs over packed round keys until r9, rcx over their places, from the last backwards.
    sub r9, 16
    mov edx, 2
    jmp 7f
6:
    .irp at, 0,4,8,12
    movd xmm0, dword ptr [r8 + \at]
    aesimc xmm0, xmm0
    movd dword ptr [rcx + \at], xmm0
    movd dword ptr [rcx + \at + 16], xmm0
    movd dword ptr [rcx + \at + 32], xmm0
    movd dword ptr [rcx + \at + 48], xmm0
    .endr
    add r8, 16
    sub rcx, 64
    cmp r8, r9
    jb 6b
7:
    // The outer two, first and last.
    .irp at, 0,4,8,12
    mov eax, [r8 + \at]
    mov [rcx + \at], eax
    mov [rcx + \at + 16], eax
    mov [rcx + \at + 32], eax
    mov [rcx + \at + 48], eax
    .endr
    add r8, 16
    sub rcx, 64
    dec edx
    jnz 6b
",
        clean_up!(),
        options(raw),
    );
}

/// Makes all round keys in a row at `memory + 960`.
///
/// In: rdi = key, rsi = memory, rdx = words of the key, rcx = 64 * rounds. Out: r8 = their start,
/// r9 = their end, rcx = memory + 64 * rounds, r10 = memory + 960, xmm1 = 0.
macro_rules! packed_round_keys {
    () => {
        r"
    lea r8, [rsi + 960]
    xor r10d, r10d
2:
    mov eax, [rdi + 4*r10]
    mov [r8 + 4*r10], eax
    inc r10d
    cmp r10d, edx
    jb 2b

    lea r9, [r8 + 4*rdx]        // the next word to make
    mov rdi, rcx
    shr rdi, 2
    lea rdi, [r8 + rdi + 16]    // behind the last one
    add rcx, rsi
    neg r10                     // r9 + 4*r10 is one key length back
    mov r11d, 1                 // round constant
    pxor xmm1, xmm1
3:
    // eax = SubWord(RotWord(eax)) ^ constant. With four equal columns ShiftRows has no effect.
    movd xmm0, eax
    pshufd xmm0, xmm0, 0
    aesenclast xmm0, xmm1
    movd eax, xmm0
    ror eax, 8
    xor eax, r11d
    add r11d, r11d              // the next constant: times x modulo 0x11b
    mov esi, r11d
    shr esi, 8
    imul esi, esi, 0x11b
    xor r11d, esi
    .irp at, 0,4,8,12
    xor eax, [r9 + 4*r10 + \at]
    mov [r9 + \at], eax
    .endr
    add r9, 16
    cmp r9, rdi
    jae 5f
    cmp edx, 6
    jb 3b
    ja 4f
    .irp at, 0,4
    xor eax, [r9 + 4*r10 + \at]
    mov [r9 + \at], eax
    .endr
    add r9, 8
    jmp 3b
4:
    // AES-256 has a SubWord in the middle.
    movd xmm0, eax
    pshufd xmm0, xmm0, 0
    aesenclast xmm0, xmm1
    movd eax, xmm0
    .irp at, 0,4,8,12
    xor eax, [r9 + 4*r10 + \at]
    mov [r9 + \at], eax
    .endr
    add r9, 16
    cmp r9, rdi
    jb 3b
5:
    lea rsi, [r8 - 960]
    mov r10, r8
"
    };
}

/// Zeroes the work area at r10 and every register that held a word. In: xmm1 = 0.
macro_rules! clean_up {
    () => {
        r"
    .irp at, 0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240
    movdqa [r10 + \at], xmm1
    .endr
    pxor xmm0, xmm0
    xor eax, eax
    ret
"
    };
}

use {clean_up, packed_round_keys};

// SPDX-License-Identifier: Apache-2.0
//! Kernels for 256-bit registers: 16 blocks in flight for single blocks, 8 and their tweaks for XTS.
//!
//! For CPUs with vector AES but without AVX-512. Laid out as the 512-bit kernels are: while four
//! registers are transformed, the tweaks of the next four are made.
//!
//! Only VEX encodings, and `vzeroall` before returning: legacy SSE instructions are slow while the
//! upper halves are not clean.

#![expect(unsafe_code, reason = "every function is a kernel in assembly")]

use std::arch::naked_asm;

/// One round for registers `$lanes` with each of the round keys at `[$keys + $at]`.
macro_rules! round {
    ($op:expr, $lanes:literal, $keys:literal, $at:literal) => {
        concat!(
            concat!(".irp key, ", $at, "\n"),
            concat!(".irp lane, ", $lanes, "\n"),
            concat!($op, " ymm\\lane, ymm\\lane, [", $keys, " + \\key]\n"),
            ".endr\n",
            ".endr\n",
        )
    };
}

/// The rounds behind the ninth for registers `$lanes`, round keys at `$keys`, the last one at
/// `[$keys + $last]`, which tells the key size.
macro_rules! last_rounds {
    ($op:literal, $lanes:literal, $keys:literal, $last:literal) => {
        concat!(
            concat!("cmp ", $last, ", 640\n"),
            "je 8f\n",
            round!($op, $lanes, $keys, "640,704"),
            concat!("cmp ", $last, ", 768\n"),
            "je 8f\n",
            round!($op, $lanes, $keys, "768,832"),
            "8:\n",
            round!(concat!($op, "last"), $lanes, $keys, $last),
        )
    };
}

/// All rounds but the whitening, otherwise as [`last_rounds`].
macro_rules! rounds {
    ($op:literal, $lanes:literal, $keys:literal, $last:literal) => {
        concat!(
            round!($op, $lanes, $keys, "64,128,192,256,320,384,448,512,576"),
            last_rounds!($op, $lanes, $keys, $last),
        )
    };
}

macro_rules! ecb {
    ($name:ident, $op:literal) => {
        /// Transforms `blocks` blocks in place.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            data: *mut u8,
            blocks: usize,
            keys: *const u8,
            last: usize,
        ) {
            naked_asm!(
                r"
    // rdi = data, rsi = blocks left, rdx = round keys, rcx = distance of the last one
    sub rsi, 16
    jb 3f
2:
    .irp lane, 0,1,2,3,4,5,6,7
    vmovdqu ymm\lane, [rdi + 32*\lane]
    vpxor ymm\lane, ymm\lane, [rdx]
    .endr
",
                rounds!($op, "0,1,2,3,4,5,6,7", "rdx", "rcx"),
                r"
    .irp lane, 0,1,2,3,4,5,6,7
    vmovdqu [rdi + 32*\lane], ymm\lane
    .endr
    add rdi, 256
    sub rsi, 16
    jae 2b
3:
    add rsi, 16
    sub rsi, 2
    jb 5f
4:
    vmovdqu ymm0, [rdi]
    vpxor ymm0, ymm0, [rdx]
",
                rounds!($op, "0", "rdx", "rcx"),
                r"
    vmovdqu [rdi], ymm0
    add rdi, 32
    sub rsi, 2
    jae 4b
5:
    test esi, 1
    jz 6f
    vmovdqu xmm0, [rdi]         // the upper half is zero, and is not stored
    vpxor ymm0, ymm0, [rdx]
",
                rounds!($op, "0", "rdx", "rcx"),
                r"
    vmovdqu [rdi], xmm0
6:
    vzeroall
    ret
",
                options(raw),
            );
        }
    };
}

ecb!(ecb_encrypt, "vaesenc");
ecb!(ecb_decrypt, "vaesdec");

/// What is shifted out when ymm`$from` is multiplied by x^8, reduced, in ymm`$work`.
macro_rules! carry {
    ($from:literal, $work:literal) => {
        concat!(
            concat!("vpsrldq ymm", $work, ", ymm", $from, ", 15\n"),
            concat!("vpclmulqdq ymm", $work, ", ymm", $work, ", ymm15, 0x10\n"),
        )
    };
}

/// ymm`$to` = ymm`$from` times x^8, whose carry is in ymm`$work`.
macro_rules! shift {
    ($to:literal, $from:literal, $work:literal) => {
        concat!(
            concat!("vpslldq ymm", $to, ", ymm", $from, ", 1\n"),
            concat!("vpxor ymm", $to, ", ymm", $to, ", ymm", $work, "\n"),
        )
    };
}

/// ymm`$to` and ymm12 = the low and the high part of ymm7 times x^`$power` and x^(`$power` + 1).
macro_rules! multiply {
    ($to:literal, $power:literal) => {
        concat!(
            concat!("vpsllq ymm14, ymm15, ", $power, "\n"),
            "vpclmulqdq ymm12, ymm7, ymm14, 0x01\n",
            concat!("vpclmulqdq ymm", $to, ", ymm7, ymm14, 0x00\n"),
        )
    };
}

/// Adds both parts in ymm`$to`, the high one reduced.
macro_rules! reduce {
    ($to:literal) => {
        concat!(
            "vpclmulqdq ymm13, ymm12, ymm15, 0x11\n",
            "vpslldq ymm12, ymm12, 8\n",
            concat!("vpxor ymm", $to, ", ymm", $to, ", ymm12\n"),
            concat!("vpxor ymm", $to, ", ymm", $to, ", ymm13\n"),
        )
    };
}

/// Transforms a register ymm`$lane` from `[rdi + $at]` to `[r11 + $at]` for each `($lane, $tweak, $at)`, with its
/// tweak in ymm`$tweak`. The nine `$beside` are instructions that have nothing to do with it.
macro_rules! transform {
    ($op:literal, [$(($lane:literal, $tweak:literal, $at:literal)),*],
     $b1:expr, $b2:expr, $b3:expr, $b4:expr, $b5:expr, $b6:expr, $b7:expr, $b8:expr, $b9:expr) => {
        concat!(
            $(concat!(
                concat!("vpxor ymm", $lane, ", ymm", $tweak, ", [rdi + ", $at, "]\n"),
                concat!("vpxor ymm", $lane, ", ymm", $lane, ", [r8]\n"),
            ),)*
            round!($op, "0,1,2,3", "r8", "64"), $b1,
            round!($op, "0,1,2,3", "r8", "128"), $b2,
            round!($op, "0,1,2,3", "r8", "192"), $b3,
            round!($op, "0,1,2,3", "r8", "256"), $b4,
            round!($op, "0,1,2,3", "r8", "320"), $b5,
            round!($op, "0,1,2,3", "r8", "384"), $b6,
            round!($op, "0,1,2,3", "r8", "448"), $b7,
            round!($op, "0,1,2,3", "r8", "512"), $b8,
            round!($op, "0,1,2,3", "r8", "576"), $b9,
            last_rounds!($op, "0,1,2,3", "r8", "r9"),
            $(concat!(
                concat!("vpxor ymm", $lane, ", ymm", $lane, ", ymm", $tweak, "\n"),
                concat!("vmovdqu [r11 + ", $at, "], ymm", $lane, "\n"),
            ),)*
        )
    };
}

macro_rules! xts {
    ($name:ident, $op:literal) => {
        /// Transforms sectors from `source` to `target`, given their encrypted tweaks.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            source: *const u8,
            tweaks: *const u8,
            sectors: usize,
            units_per_sector: usize,
            keys: *mut u8,
            last: usize,
            target: *mut u8,
        ) {
            naked_asm!(
                r"
    // rdi = source, r11 = target, rsi = tweak of the sector, rdx = sectors left, rcx = pieces of 256 bytes in a
    // sector, r8 = round keys, r9 = distance of the last one, rax = pieces left in the sector,
    // ymm0-3 = data, ymm4-7 = tweaks of a piece's first half, ymm8-11 = those of its second half,
    // ymm15 = x^0 and x^1 in the low quadwords, the polynomial in the high ones, ymm12-14 = work
    mov r11, [rsp + 8]
    add rcx, rcx
    mov eax, 0x87028701
    vmovd xmm15, eax
    vpmovzxbq ymm15, xmm15
    vbroadcasti128 ymm7, [rsi]
",
                multiply!(4, 0),
                reduce!(4),
                multiply!(5, 2),
                reduce!(5),
                multiply!(6, 4),
                reduce!(6),
                multiply!(7, 6),
                reduce!(7),
                r"
    mov rax, rcx
    .p2align 5
2:
",
                transform!(
                    $op,
                    [(0, 4, 0), (1, 5, 32), (2, 6, 64), (3, 7, 96)],
                    carry!(4, 12),
                    shift!(8, 4, 12),
                    carry!(5, 13),
                    shift!(9, 5, 13),
                    carry!(6, 12),
                    shift!(10, 6, 12),
                    carry!(7, 13),
                    shift!(11, 7, 13),
                    ""
                ),
                r"
    dec rax
    jz 3f
    // The sector goes on.
",
                transform!(
                    $op,
                    [(0, 8, 128), (1, 9, 160), (2, 10, 192), (3, 11, 224)],
                    carry!(8, 12),
                    shift!(4, 8, 12),
                    carry!(9, 13),
                    shift!(5, 9, 13),
                    carry!(10, 12),
                    shift!(6, 10, 12),
                    carry!(11, 13),
                    shift!(7, 11, 13),
                    ""
                ),
                r"
    add rdi, 256
    add r11, 256
    jmp 2b
3:
    // The next sector. Behind the last one there is none: its own tweak again, not to be used.
    mov rax, rcx
    lea r10, [rsi + 16]
    dec rdx
    cmovnz rsi, r10
    vbroadcasti128 ymm7, [rsi]
",
                transform!(
                    $op,
                    [(0, 8, 128), (1, 9, 160), (2, 10, 192), (3, 11, 224)],
                    multiply!(4, 0),
                    reduce!(4),
                    multiply!(5, 2),
                    reduce!(5),
                    multiply!(6, 4),
                    reduce!(6),
                    multiply!(7, 6),
                    reduce!(7),
                    ""
                ),
                r"
    add rdi, 256
    add r11, 256
    test rdx, rdx
    jnz 2b
    vzeroall
    ret
",
                options(raw),
            );
        }
    };
}

xts!(xts_encrypt, "vaesenc");
xts!(xts_decrypt, "vaesdec");

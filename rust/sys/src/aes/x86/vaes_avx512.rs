// SPDX-License-Identifier: Apache-2.0
//! Kernels for 512-bit registers: 32 blocks in flight for single blocks, 16 and their tweaks for XTS.
//!
//! The unit of vector AES takes one register a cycle and is the limit. So the other instructions
//! of XTS stand between the rounds, where they cost nothing: while four registers are transformed,
//! the tweaks of the next four are made, be they of this sector or of the next one. Short sectors
//! are as fast as long ones.
//!
//! Only EVEX and VEX encodings, and `vzeroall` before returning: legacy SSE instructions after
//! 512-bit ones are slow while the upper halves are not clean. zmm16 to zmm31, which it does not
//! reach, are not used.

#![expect(unsafe_code, reason = "every function is a kernel in assembly")]

use std::arch::naked_asm;

/// One round for registers `$lanes` with each of the round keys at `[$keys + $at]`.
macro_rules! round {
    ($op:expr, $lanes:literal, $keys:literal, $at:literal) => {
        concat!(
            concat!(".irp key, ", $at, "\n"),
            concat!(".irp lane, ", $lanes, "\n"),
            concat!($op, " zmm\\lane, zmm\\lane, [", $keys, " + \\key]\n"),
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
    sub rsi, 32
    jb 3f
2:
    .irp lane, 0,1,2,3,4,5,6,7
    vmovdqu64 zmm\lane, [rdi + 64*\lane]
    vpxorq zmm\lane, zmm\lane, [rdx]
    .endr
",
                rounds!($op, "0,1,2,3,4,5,6,7", "rdx", "rcx"),
                r"
    .irp lane, 0,1,2,3,4,5,6,7
    vmovdqu64 [rdi + 64*\lane], zmm\lane
    .endr
    add rdi, 512
    sub rsi, 32
    jae 2b
3:
    add rsi, 32
    mov r8d, 0xff               // quadwords of the next register that are data
4:
    cmp rsi, 4
    jae 5f
    test rsi, rsi
    jz 6f
    lea r9d, [2*rsi]
    bzhi r8d, r8d, r9d
    mov esi, 4
5:
    kmovw k1, r8d
    vmovdqu64 zmm0{k1}{z}, [rdi]
    vpxorq zmm0, zmm0, [rdx]
",
                rounds!($op, "0", "rdx", "rcx"),
                r"
    vmovdqu64 [rdi]{k1}, zmm0
    add rdi, 64
    sub rsi, 4
    jmp 4b
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

/// What is shifted out when zmm`$from` is multiplied by x^(8 * `$bytes`), reduced, in zmm15.
macro_rules! carry {
    ($from:literal, $bytes:literal) => {
        concat!(
            concat!("vpsrldq zmm15, zmm", $from, ", 16 - ", $bytes, "\n"),
            "vpclmulqdq zmm15, zmm15, zmm13, 0x10\n",
        )
    };
}

/// zmm`$to` = zmm`$from` times x^(8 * `$bytes`), whose carry is in zmm15.
macro_rules! shift {
    ($to:literal, $from:literal, $bytes:literal) => {
        concat!(
            concat!("vpslldq zmm", $to, ", zmm", $from, ", ", $bytes, "\n"),
            concat!("vpxorq zmm", $to, ", zmm", $to, ", zmm15\n"),
        )
    };
}

/// zmm`$to` and zmm6 = the low and the high part of zmm14 times the powers in zmm`$powers`.
macro_rules! multiply {
    ($to:literal, $powers:literal) => {
        concat!(
            concat!("vpclmulqdq zmm6, zmm14, zmm", $powers, ", 0x01\n"),
            concat!("vpclmulqdq zmm", $to, ", zmm14, zmm", $powers, ", 0x00\n"),
        )
    };
}

/// Adds both parts in zmm`$to`, the high one reduced.
macro_rules! reduce {
    ($to:literal) => {
        concat!(
            "vpclmulqdq zmm7, zmm6, zmm13, 0x11\n",
            "vpslldq zmm6, zmm6, 8\n",
            concat!("vpternlogq zmm", $to, ", zmm6, zmm7, 0x96\n"),
        )
    };
}

/// Transforms a register zmm`$lane` from `[rdi + $at]` to `[r11 + $at]` for each `($lane, $tweak, $at)`, with its
/// tweak in zmm`$tweak`. The nine `$beside` are instructions that have nothing to do with it.
macro_rules! transform {
    ($op:literal, [$(($lane:literal, $tweak:literal, $at:literal)),*],
     $b1:expr, $b2:expr, $b3:expr, $b4:expr, $b5:expr, $b6:expr, $b7:expr, $b8:expr, $b9:expr) => {
        concat!(
            $(concat!(
                concat!("vmovdqu64 zmm", $lane, ", [rdi + ", $at, "]\n"),
                concat!("vpternlogq zmm", $lane, ", zmm", $tweak, ", [r8], 0x96\n"),
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
                concat!("vpxorq zmm", $lane, ", zmm", $lane, ", zmm", $tweak, "\n"),
                concat!("vmovdqu64 [r11 + ", $at, "], zmm", $lane, "\n"),
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
    // rdi = source, r11 = target, rsi = tweak of the sector, rdx = sectors left, rcx = units of 512 bytes in a
    // sector, r8 = round keys, r9 = distance of the last one, rax = units left in the sector,
    // zmm0-3 = data, zmm4-7 = tweaks of a unit's first half, zmm8-11 = those of its second half,
    // zmm13 = x^0 to x^3 in the low quadwords, the polynomial in the high ones,
    // zmm12 = x^4 to x^7 in the low quadwords, zmm14 = first tweak of the unit, zmm15 = work
    mov r11, [rsp + 8]
    mov rax, 0x8708870487028701
    vmovq xmm13, rax
    vpmovzxbq zmm13, xmm13
    vpsllq zmm12, zmm13, 4
    vbroadcasti32x4 zmm14, [rsi]
",
                multiply!(4, 13),
                reduce!(4),
                multiply!(5, 12),
                reduce!(5),
                carry!(4, 1),
                shift!(6, 4, 1),
                carry!(5, 1),
                shift!(7, 5, 1),
                r"
    mov rax, rcx
    .p2align 5
2:
",
                transform!(
                    $op,
                    [(0, 4, 0), (1, 5, 64), (2, 6, 128), (3, 7, 192)],
                    carry!(4, 2),
                    shift!(8, 4, 2),
                    carry!(5, 2),
                    shift!(9, 5, 2),
                    carry!(6, 2),
                    shift!(10, 6, 2),
                    carry!(7, 2),
                    shift!(11, 7, 2),
                    ""
                ),
                r"
    dec rax
    jz 3f
    // The first tweak of the next unit: times x^32.
",
                carry!(14, 4),
                shift!(14, 14, 4),
                r"
    jmp 4f
3:
    // Of the next sector. Behind the last sector there is none: its own again, not to be used.
    mov rax, rcx
    lea r10, [rsi + 16]
    dec rdx
    cmovnz rsi, r10
    vbroadcasti32x4 zmm14, [rsi]
4:
",
                transform!(
                    $op,
                    [(0, 8, 256), (1, 9, 320), (2, 10, 384), (3, 11, 448)],
                    multiply!(4, 13),
                    reduce!(4),
                    multiply!(5, 12),
                    reduce!(5),
                    carry!(4, 1),
                    shift!(6, 4, 1),
                    carry!(5, 1),
                    shift!(7, 5, 1),
                    ""
                ),
                r"
    add rdi, 512
    add r11, 512
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

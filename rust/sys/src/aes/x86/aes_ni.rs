// SPDX-License-Identifier: Apache-2.0
//! Kernels for 128-bit registers: 8 blocks in flight.
//!
//! The tweaks of the next eight blocks are made between the rounds, where they cost the least.
//!
//! Only legacy SSE encodings, for CPUs without AVX. They are not slowed down by what ran before:
//! code with wider registers leaves clean upper halves, the kernels of this module too.

#![expect(unsafe_code, reason = "every function is a kernel in assembly")]

use std::arch::naked_asm;

/// One round for registers `$lanes` with each of the round keys at `[$keys + $at]`.
macro_rules! round {
    ($op:expr, $lanes:literal, $keys:literal, $at:literal) => {
        concat!(
            concat!(".irp key, ", $at, "\n"),
            concat!(".irp lane, ", $lanes, "\n"),
            concat!($op, " xmm\\lane, [", $keys, " + \\key]\n"),
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
    sub rsi, 8
    jb 3f
2:
    .irp lane, 0,1,2,3,4,5,6,7
    movdqu xmm\lane, [rdi + 16*\lane]
    pxor xmm\lane, [rdx]
    .endr
",
                rounds!($op, "0,1,2,3,4,5,6,7", "rdx", "rcx"),
                r"
    .irp lane, 0,1,2,3,4,5,6,7
    movdqu [rdi + 16*\lane], xmm\lane
    .endr
    add rdi, 128
    sub rsi, 8
    jae 2b
3:
    add rsi, 8
    jz 5f
4:
    movdqu xmm0, [rdi]
    pxor xmm0, [rdx]
",
                rounds!($op, "0", "rdx", "rcx"),
                r"
    movdqu [rdi], xmm0
    add rdi, 16
    dec rsi
    jnz 4b
5:
    .irp lane, 0,1,2,3,4,5,6,7
    pxor xmm\lane, xmm\lane
    .endr
    ret
",
                options(raw),
            );
        }
    };
}

ecb!(ecb_encrypt, "aesenc");
ecb!(ecb_decrypt, "aesdec");

/// Puts the tweak in xmm8 down as number `$place` from `[r8 + $tweaks]` on, and doubles it.
macro_rules! put_tweak {
    ($place:literal, $tweaks:literal) => {
        concat!(
            concat!("movdqa [r8 + ", $tweaks, " + 16*", $place, "], xmm8\n"),
            "pshufd xmm9, xmm8, 0x13\n", // the sign bits of both halves, crossed
            "psrad xmm9, 31\n",
            "pand xmm9, xmm10\n",
            "paddq xmm8, xmm8\n",
            "pxor xmm8, xmm9\n",
        )
    };
}

/// Transforms eight blocks from `[rdi + $at]` to `[r11 + $at]`, with their tweaks at
/// `[r8 + $tweaks]`, and puts the tweaks of the next eight at `[r8 + $next]`.
macro_rules! transform {
    ($op:literal, $at:literal, $tweaks:literal, $next:literal) => {
        concat!(
            ".irp lane, 0,1,2,3,4,5,6,7\n",
            concat!("movdqu xmm\\lane, [rdi + ", $at, " + 16*\\lane]\n"),
            concat!("pxor xmm\\lane, [r8 + ", $tweaks, " + 16*\\lane]\n"),
            "pxor xmm\\lane, [r8]\n",
            ".endr\n",
            round!($op, "0,1,2,3,4,5,6,7", "r8", "64"),
            put_tweak!(0, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "128"),
            put_tweak!(1, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "192"),
            put_tweak!(2, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "256"),
            put_tweak!(3, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "320"),
            put_tweak!(4, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "384"),
            put_tweak!(5, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "448"),
            put_tweak!(6, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "512"),
            put_tweak!(7, $next),
            round!($op, "0,1,2,3,4,5,6,7", "r8", "576"),
            last_rounds!($op, "0,1,2,3,4,5,6,7", "r8", "r9"),
            ".irp lane, 0,1,2,3,4,5,6,7\n",
            concat!("pxor xmm\\lane, [r8 + ", $tweaks, " + 16*\\lane]\n"),
            concat!("movdqu [r11 + ", $at, " + 16*\\lane], xmm\\lane\n"),
            ".endr\n",
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
    // rdi = source, r11 = target, rsi = tweak of the next sector, rdx = sectors left,
    // rcx = pieces of 256 bytes in a sector, r8 = round keys, r9 = distance of the last one,
    // rax = pieces left in the sector, xmm8 = tweak of the next eight blocks, [r8 + 960] = tweaks
    // of a piece's first half, [r8 + 1088] = those of its second half: in the work area, as there
    // are too few registers for them
    mov r11, [rsp + 8]
    mov eax, 0x87
    movd xmm10, eax
    mov eax, 1
    movd xmm9, eax
    pslldq xmm9, 8
    por xmm10, xmm9             // what the carries out of bits 127 and 63 add
    add rcx, rcx
    mov rax, rcx
    movdqu xmm8, [rsi]
    add rsi, 16
",
                put_tweak!(0, 960),
                put_tweak!(1, 960),
                put_tweak!(2, 960),
                put_tweak!(3, 960),
                put_tweak!(4, 960),
                put_tweak!(5, 960),
                put_tweak!(6, 960),
                put_tweak!(7, 960),
                r"
    .p2align 5
2:
",
                transform!($op, 0, 960, 1088),
                r"
    dec rax
    jnz 3f
    mov rax, rcx
    dec rdx
    jz 3f                       // the next tweaks will not be used
    movdqu xmm8, [rsi]
    add rsi, 16
3:
",
                transform!($op, 128, 1088, 960),
                r"
    add rdi, 256
    add r11, 256
    test rdx, rdx
    jnz 2b
    .irp lane, 0,1,2,3,4,5,6,7,8,9,10
    pxor xmm\lane, xmm\lane
    .endr
    ret
",
                options(raw),
            );
        }
    };
}

xts!(xts_encrypt, "aesenc");
xts!(xts_decrypt, "aesdec");

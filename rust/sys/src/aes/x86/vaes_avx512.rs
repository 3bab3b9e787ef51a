// SPDX-License-Identifier: Apache-2.0
//! Kernels for 512-bit registers: 8 of them, 32 blocks, in flight.
//!
//! Only EVEX and VEX encodings, and `vzeroall` before returning: legacy SSE instructions after
//! 512-bit ones are slow while the upper halves are not clean.

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

/// All rounds but the whitening for registers `$lanes`, round keys at `$keys`, the last one at
/// `[$keys + $last]`, which tells the key size.
macro_rules! rounds {
    ($op:literal, $lanes:literal, $keys:literal, $last:literal) => {
        concat!(
            round!($op, $lanes, $keys, "64,128,192,256,320,384,448,512,576"),
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

/// zmm`$to` = zmm`$from` times x^(8 * `$bytes`), by way of zmm20 and with the polynomial in zmm28.
macro_rules! times_bytes {
    ($to:literal, $from:literal, $bytes:literal) => {
        concat!(
            concat!("vpsrldq zmm20, zmm", $from, ", 16 - ", $bytes, "\n"),
            "vpclmulqdq zmm20, zmm20, zmm28, 0x00\n",
            concat!("vpslldq zmm", $to, ", zmm", $from, ", ", $bytes, "\n"),
            concat!("vpxorq zmm", $to, ", zmm", $to, ", zmm20\n"),
        )
    };
}

macro_rules! xts {
    ($name:ident, $op:literal) => {
        /// Transforms sectors in place, given their encrypted tweaks.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            data: *mut u8,
            tweaks: *const u8,
            sectors: usize,
            units_per_sector: usize,
            keys: *mut u8,
            last: usize,
        ) {
            naked_asm!(
                r"
    // rdi = data, rsi = tweaks, rdx = sectors left, rcx = units of 512 bytes in a sector,
    // r8 = round keys, r9 = distance of the last one,
    // zmm0-7 = data, zmm10-17 = their tweaks, zmm20-27 = work,
    // zmm28 = polynomial, zmm29 = 0 to 3 in quadword pairs
    mov eax, 0x87
    vmovq xmm28, rax
    vshufi32x4 zmm28, zmm28, zmm28, 0
    mov rax, 0x0303020201010000
    vmovq xmm29, rax
    vpmovzxbq zmm29, xmm29      // tweak i of a register is shifted by i bits
    mov eax, 4
    vpbroadcastq zmm30, rax
    vpaddq zmm30, zmm30, zmm29  // and by 4 more in the second register
    mov eax, 64
    vpbroadcastq zmm31, rax
    vpsubq zmm9, zmm31, zmm30
    vpsubq zmm8, zmm31, zmm29
2:
    // The first two registers: the sector's tweak times x^0 to x^7.
    vbroadcasti32x4 zmm20, [rsi]
    add rsi, 16
    vpsrlvq zmm21, zmm20, zmm8
    vpsrlvq zmm22, zmm20, zmm9
    vpsllvq zmm10, zmm20, zmm29
    vpsllvq zmm11, zmm20, zmm30
    vpclmulqdq zmm23, zmm21, zmm28, 0x01    // out of the upper half: reduced
    vpclmulqdq zmm24, zmm22, zmm28, 0x01
    vpslldq zmm21, zmm21, 8                 // out of the lower half: into the upper
    vpslldq zmm22, zmm22, 8
    vpternlogq zmm10, zmm21, zmm23, 0x96
    vpternlogq zmm11, zmm22, zmm24, 0x96
    // The others: times x^8, x^16, x^24, which shift whole bytes.
",
                times_bytes!("12", "10", "1"),
                times_bytes!("13", "11", "1"),
                times_bytes!("14", "10", "2"),
                times_bytes!("15", "11", "2"),
                times_bytes!("16", "10", "3"),
                times_bytes!("17", "11", "3"),
                r"
    mov rax, rcx
3:
    .irp lane, 0,1,2,3,4,5,6,7
    vmovdqu64 zmm\lane, [rdi + 64*\lane]
    vpternlogq zmm\lane, zmm1\lane, [r8], 0x96
    .endr
",
                rounds!($op, "0,1,2,3,4,5,6,7", "r8", "r9"),
                r"
    .irp lane, 0,1,2,3,4,5,6,7
    vpxorq zmm\lane, zmm\lane, zmm1\lane
    vmovdqu64 [rdi + 64*\lane], zmm\lane
    .endr
    add rdi, 512
    dec rax
    jz 4f
    // All tweaks times x^32.
    .irp lane, 0,1,2,3,4,5,6,7
    vpsrldq zmm2\lane, zmm1\lane, 12
    vpclmulqdq zmm2\lane, zmm2\lane, zmm28, 0x00
    vpslldq zmm1\lane, zmm1\lane, 4
    vpxorq zmm1\lane, zmm1\lane, zmm2\lane
    .endr
    jmp 3b
4:
    dec rdx
    jnz 2b
    vzeroall
    .irp lane, 16,17,20,21,22,23,24,25,26,27
    vpxord zmm\lane, zmm\lane, zmm\lane
    .endr
    vzeroupper
    ret
",
                options(raw),
            );
        }
    };
}

xts!(xts_encrypt, "vaesenc");
xts!(xts_decrypt, "vaesdec");

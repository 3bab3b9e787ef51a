// SPDX-License-Identifier: Apache-2.0
//! Key expansion in words of 32 bits, so that no register ever holds more of a round key.
//!
//! First the round keys are made in a row in the work area at 960, word by word in `xmm0`, whose
//! first column is the word and whose others are zero. Then each word is put into its place at the
//! front, once for each block of the registers that will use it, and the work area is zeroed.
//! Legacy SSE encodings up to there: they run on every CPU with AES-NI, and the upper halves are
//! clean. Each function takes (key, memory, words of the key, last round key's distance).
//!
//! Spec: FIPS 197, 5.2; for decryption the "equivalent inverse cipher", 5.3.5.

#![expect(unsafe_code, reason = "every function is a kernel in assembly")]

use std::arch::naked_asm;

/// `xmm0` = the word one key length back, added to `xmm0`, at each of `$places` from r9 on.
macro_rules! words {
    ($places:literal) => {
        concat!(
            concat!(".irp at, ", $places, "\n"),
            "movd xmm3, dword ptr [r9 + 4*r10 + \\at]\n",
            "pxor xmm0, xmm3\n",
            "movd dword ptr [r9 + \\at], xmm0\n",
            ".endr\n",
        )
    };
}

/// Makes all round keys in a row at `memory + 960`, and between the steps, which wait for one
/// another, puts some of them into their places: `$start` prepares, `$place` does the one at `[r8]`.
///
/// In: rdi = key, rsi = memory, rdx = words of the key, rcx = 64 * rounds. Out: r8 = the first that
/// is not in its place, r9 = end of all, rsi = memory, xmm1 = 0. `$start` and `$place` may use eax,
/// rcx and xmm3; rcx is still 64 * rounds for `$start`.
macro_rules! packed_round_keys {
    ($start:expr, $place:expr) => {
        concat!(
            r"
    lea r8, [rsi + 960]
    xor r10d, r10d
2:
    mov eax, [rdi + 4*r10]
    mov [r8 + 4*r10], eax
    inc r10d
    cmp r10d, edx
    jb 2b
    movd xmm0, eax

    lea r9, [r8 + 4*rdx]        // the next word to make
    mov rdi, rcx
    shr rdi, 2
    lea rdi, [r8 + rdi + 16]    // behind the last one
    neg r10                     // r9 + 4*r10 is one key length back
    // ShiftRows moves the bytes of a column to places 0, 13, 10 and 7. They are fetched back from
    // there, by xmm4 with a rotation and by xmm5 without.
    pcmpeqd xmm4, xmm4
    movdqa xmm5, xmm4
    mov eax, 0x00070a0d
    movd xmm3, eax
    movss xmm4, xmm3
    mov eax, 0x070a0d00
    movd xmm3, eax
    movss xmm5, xmm3
    pxor xmm1, xmm1
    mov r11d, 0x100             // round constant, for place 13
",
            $start,
            r"
3:
    // xmm0 = SubWord(RotWord(xmm0)) ^ constant
    movd xmm2, r11d
    pslldq xmm2, 12
    aesenclast xmm0, xmm2
    pshufb xmm0, xmm4
    add r11d, r11d              // the next constant: times x modulo 0x11b
    mov eax, r11d
    shr eax, 16
    imul eax, eax, 0x11b00
    xor r11d, eax
",
            words!("0,4,8,12"),
            r"
    add r9, 16
    cmp r9, rdi
    jae 5f
",
            $place,
            r"
    cmp edx, 6
    jb 3b
    ja 4f
",
            words!("0,4"),
            r"
    add r9, 8
    jmp 3b
4:
    // AES-256 has a SubWord in the middle.
    aesenclast xmm0, xmm1
    pshufb xmm0, xmm5
",
            words!("0,4,8,12"),
            $place,
            r"
    add r9, 16
    cmp r9, rdi
    jb 3b
5:
"
        )
    };
}

/// Zeroes the work area of the memory at rsi and all registers that were used. In: xmm1 = 0.
macro_rules! clean_up {
    () => {
        r"
    .irp at, 0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240
    movdqa [rsi + 960 + \at], xmm1
    .endr
    .irp lane, 0,2,3,4,5
    pxor xmm\lane, xmm\lane
    .endr
    xor eax, eax
    ret
"
    };
}

/// The round key at `[r8]` to `[rcx]`, once for each of `$copies`, by way of eax.
macro_rules! place {
    ($copies:literal) => {
        concat!(
            ".irp at, 0,4,8,12\n",
            "mov eax, [r8 + \\at]\n",
            concat!(".irp copy, ", $copies, "\n"),
            "mov [rcx + \\at + \\copy], eax\n",
            ".endr\n",
            ".endr\n",
        )
    };
}

/// The same, passed through `InvMixColumns`, by way of xmm3.
macro_rules! place_inverse {
    ($copies:literal) => {
        concat!(
            ".irp at, 0,4,8,12\n",
            "movd xmm3, dword ptr [r8 + \\at]\n",
            "aesimc xmm3, xmm3\n",
            concat!(".irp copy, ", $copies, "\n"),
            "movd dword ptr [rcx + \\at + \\copy], xmm3\n",
            ".endr\n",
            ".endr\n",
        )
    };
}

/// The round key at `[r8]` to `[rcx]`, four times, by way of zmm16. Masks k1 to k4 say where.
///
/// Legacy SSE instructions stay fast beside zmm16 and above, but not beside wide zmm0 to zmm15.
macro_rules! place_wide {
    () => {
        r"
    .irp column, 1,2,3,4
    vpbroadcastd zmm16, dword ptr [r8 + 4*\column - 4]
    vmovdqa32 [rcx]{k\column}, zmm16
    .endr
"
    };
}

/// The same, passed through `InvMixColumns`.
macro_rules! place_wide_inverse {
    () => {
        r"
    .irp column, 1,2,3,4
    movd xmm3, dword ptr [r8 + 4*\column - 4]
    aesimc xmm3, xmm3
    vpbroadcastd zmm16, xmm3
    vmovdqa32 [rcx]{k\column}, zmm16
    .endr
"
    };
}

/// k1 to k4 select the first to fourth column of every block.
macro_rules! column_masks {
    () => {
        r"
    mov eax, 0x1111
    kmovw k1, eax
    kshiftlw k2, k1, 1
    kshiftlw k3, k1, 2
    kshiftlw k4, k1, 3
"
    };
}

/// zmm16 as well, and otherwise as [`clean_up`].
macro_rules! clean_up_wide {
    () => {
        concat!("vpxord zmm16, zmm16, zmm16\n", clean_up!())
    };
}

macro_rules! encrypt {
    ($name:ident, $prepare:expr, $place:expr, $clean_up:expr) => {
        /// Makes the schedule for encryption by registers of the width in the name.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            key: *const u8,
            memory: *mut u8,
            words: usize,
            last: usize,
        ) {
            naked_asm!(
                packed_round_keys!(
                    // rcx runs over the places, r8 over the round keys.
                    concat!("mov rcx, rsi\n", $prepare),
                    concat!($place, "add r8, 16\n", "add rcx, 64\n")
                ),
                "6:\n",
                $place,
                r"
    add r8, 16
    add rcx, 64
    cmp r8, r9
    jb 6b
",
                $clean_up,
                options(raw),
            );
        }
    };
}

encrypt!(encrypt_128, "", place!("0"), clean_up!());
encrypt!(encrypt_256, "", place!("0,16"), clean_up!());
encrypt!(
    encrypt_512,
    column_masks!(),
    place_wide!(),
    clean_up_wide!()
);

macro_rules! decrypt {
    ($name:ident, $prepare:expr, $place:expr, $place_inverse:expr, $clean_up:expr) => {
        /// Makes the schedule for decryption by registers of the width in the name: the round keys
        /// in reverse order, all but the outer two passed through `InvMixColumns`.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            key: *const u8,
            memory: *mut u8,
            words: usize,
            last: usize,
        ) {
            naked_asm!(
                packed_round_keys!(
                    // rcx runs over the places, backwards, r8 over the round keys.
                    concat!(
                        "add rcx, rsi\n",
                        $prepare,
                        $place,
                        "add r8, 16\n",
                        "sub rcx, 64\n"
                    ),
                    concat!($place_inverse, "add r8, 16\n", "sub rcx, 64\n")
                ),
                r"
    sub r9, 16
    jmp 7f
6:
",
                $place_inverse,
                r"
    add r8, 16
    sub rcx, 64
7:
    cmp r8, r9
    jb 6b
",
                $place,
                $clean_up,
                options(raw),
            );
        }
    };
}

decrypt!(
    decrypt_128,
    "",
    place!("0"),
    place_inverse!("0"),
    clean_up!()
);
decrypt!(
    decrypt_256,
    "",
    place!("0,16"),
    place_inverse!("0,16"),
    clean_up!()
);
decrypt!(
    decrypt_512,
    column_masks!(),
    place_wide!(),
    place_wide_inverse!(),
    clean_up_wide!()
);

// SPDX-License-Identifier: Apache-2.0
//! The `aes` crate behind the interface of the kernels, for any CPU.
//!
//! The expanded key is placed in the schedule memory, but on its way there it crosses the stack.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, KeySizeUser};
use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc, Block};

use super::{BLOCK_BYTES, Direction, SCHEDULE_ALIGNMENT, SCHEDULE_BYTES};

/// Which of the crate's types lies in the schedule memory.
#[derive(Clone, Copy)]
pub(super) enum PortableKey {
    Enc128,
    Enc192,
    Enc256,
    Dec128,
    Dec192,
    Dec256,
}

impl PortableKey {
    /// Expands `key`, whose length is 16, 24 or 32, into `memory`.
    pub(super) fn expand(direction: Direction, key: &[u8], memory: &mut [u8]) -> Self {
        use Direction::{Decrypt, Encrypt};
        match (direction, key.len()) {
            (Encrypt, 16) => place::<Aes128Enc>(key, memory, Self::Enc128),
            (Encrypt, 24) => place::<Aes192Enc>(key, memory, Self::Enc192),
            (Encrypt, _) => place::<Aes256Enc>(key, memory, Self::Enc256),
            (Decrypt, 16) => place::<Aes128Dec>(key, memory, Self::Dec128),
            (Decrypt, 24) => place::<Aes192Dec>(key, memory, Self::Dec192),
            (Decrypt, _) => place::<Aes256Dec>(key, memory, Self::Dec256),
        }
    }

    pub(super) fn ecb(self, memory: &[u8], bytes: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(bytes);
        self.blocks(memory, blocks);
    }

    pub(super) fn xts(self, memory: &[u8], data: &mut [u8], tweaks: &[u8], sector_bytes: usize) {
        let mut masks = [0; super::XTS_UNIT_BYTES];
        let (first_tweaks, _) = tweaks.as_chunks::<BLOCK_BYTES>();
        for (sector, first) in data.chunks_exact_mut(sector_bytes).zip(first_tweaks) {
            let mut tweak = u128::from_le_bytes(*first);
            for unit in sector.chunks_exact_mut(super::XTS_UNIT_BYTES) {
                for mask in masks.as_chunks_mut().0 {
                    *mask = tweak.to_le_bytes();
                    tweak = double(tweak);
                }
                xor(unit, &masks);
                self.ecb(memory, unit);
                xor(unit, &masks);
            }
        }
    }

    fn blocks(self, memory: &[u8], blocks: &mut [Block]) {
        match self {
            Self::Enc128 => view::<Aes128Enc>(memory).encrypt_blocks(blocks),
            Self::Enc192 => view::<Aes192Enc>(memory).encrypt_blocks(blocks),
            Self::Enc256 => view::<Aes256Enc>(memory).encrypt_blocks(blocks),
            Self::Dec128 => view::<Aes128Dec>(memory).decrypt_blocks(blocks),
            Self::Dec192 => view::<Aes192Dec>(memory).decrypt_blocks(blocks),
            Self::Dec256 => view::<Aes256Dec>(memory).decrypt_blocks(blocks),
        }
    }
}

/// Multiplies by x in GF(2^128) as XTS counts its bits.
fn double(tweak: u128) -> u128 {
    // A mask instead of a branch, as the tweak is not public.
    let carry = 0u128.wrapping_sub(tweak >> 127);
    (tweak << 1) ^ (carry & 0x87)
}

fn xor(target: &mut [u8], source: &[u8]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target ^= source;
    }
}

/// Puts an expanded `T` at the start of `memory`, and returns `tag`, which stands for `T`.
///
/// Nothing drops it: it owns no resource, and [`super::Schedule`] wipes the memory.
fn place<T: KeyInit + KeySizeUser>(key: &[u8], memory: &mut [u8], tag: PortableKey) -> PortableKey {
    const { assert!(size_of::<T>() <= SCHEDULE_BYTES && align_of::<T>() <= SCHEDULE_ALIGNMENT) };
    let (key, _) = Array::<u8, T::KeySize>::slice_as_chunks(key);
    let start = check(memory).as_mut_ptr().cast::<T>();
    // SAFETY: `check` saw that `memory` has room and alignment for any `T` that passes the
    // assertion above; `&mut` makes the access exclusive.
    #[expect(unsafe_code, reason = "placing a value in given memory")]
    unsafe {
        start.write(T::new(&key[0]));
    }
    tag
}

/// The `T` that [`place`] put into `memory`.
fn view<T>(memory: &[u8]) -> &T {
    let start = memory.as_ptr().cast::<T>();
    // SAFETY: a `PortableKey` exists only after `place` has put its `T` here, and the schedule's
    // exclusive borrow of the memory has kept everybody else out since.
    #[expect(unsafe_code, reason = "a view of a placed value")]
    unsafe {
        &*start
    }
}

fn check(memory: &mut [u8]) -> &mut [u8] {
    assert!(memory.len() >= SCHEDULE_BYTES);
    assert!(memory.as_ptr().addr().is_multiple_of(SCHEDULE_ALIGNMENT));
    memory
}
